"""The Responses API."""

from __future__ import annotations

from typing import Any

import openai
import pytest

WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the weather of a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}


def test_a_plain_response(client: openai.OpenAI) -> None:
    """One message, the usage, and the settings told back; it is not stored, and says so."""
    answer = client.responses.create(model="demo", input="hello", max_output_tokens=16, temperature=0)
    assert answer.id.startswith("resp_")
    assert answer.object == "response"
    assert answer.model == "demo"
    assert answer.status in ("completed", "incomplete")
    assert answer.output[0].type == "message"
    assert answer.output_text
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert answer.max_output_tokens == 16
    assert answer.temperature == 0
    assert answer.model_dump()["store"] is False


def test_a_response_and_a_chat_completion(client: openai.OpenAI) -> None:
    """The same question in the other API has the same answer."""
    chat = client.chat.completions.create(
        model="demo",
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}],
        max_tokens=16,
        temperature=0,
    )
    for asked in ("hello", [{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}]):
        given: Any = asked
        answer = client.responses.create(
            model="demo", instructions="Be brief.", input=given, max_output_tokens=16, temperature=0
        )
        assert answer.output_text == chat.choices[0].message.content


def test_a_response_that_is_cut_off(client: openai.OpenAI) -> None:
    """It is `incomplete`, and says why."""
    answer = client.responses.create(model="demo", input="what is a token?", max_output_tokens=2, temperature=0)
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"


def test_a_streamed_response(client: openai.OpenAI) -> None:
    """Numbered events from `created` to the end; the deltas add up to the text of the last one."""
    events = list(
        client.responses.create(model="demo", input="hello", max_output_tokens=16, temperature=0, stream=True)
    )
    assert [event.type for event in events[:4]] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    (done,) = [event.text for event in events if event.type == "response.output_text.done"]
    last = events[-1]
    assert last.type in ("response.completed", "response.incomplete")
    assert deltas == done == last.response.output_text
    assert last.response.usage is not None
    assert events[0].response.id == last.response.id  # type: ignore[union-attr]


async def test_a_streamed_response_of_an_asyncio_client(async_client: openai.AsyncOpenAI) -> None:
    """The same with asyncio."""
    stream = await async_client.responses.create(model="demo", input="hello", max_output_tokens=4, stream=True)
    kinds = [event.type async for event in stream]
    assert kinds[0] == "response.created"
    assert kinds[-1] in ("response.completed", "response.incomplete")


def test_a_conversation_in_the_input(client: openai.OpenAI) -> None:
    """Earlier turns, a call and its result are read from `input`."""
    turns: Any = [
        {"role": "user", "content": "What is the weather in Paris?"},
        {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": '{"city": "Paris"}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
    ]
    short = client.responses.create(model="demo", input=turns[:1], tools=[WEATHER], max_output_tokens=1)
    whole = client.responses.create(model="demo", input=turns, tools=[WEATHER], max_output_tokens=1)
    assert short.usage is not None
    assert whole.usage is not None
    assert whole.usage.input_tokens > short.usage.input_tokens


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"temperature": 3}, "temperature"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_is_not_kept_or_not_here(client: openai.OpenAI, fields: Any, param: str) -> None:
    """It is refused under its name, with what to do instead; nothing is passed over in silence."""
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="demo", input="hello", **fields)
    assert refused.value.param == param
    assert refused.value.request_id


def test_a_picture_in_the_input(client: openai.OpenAI) -> None:
    """It is refused with its place."""
    turns: Any = [{"role": "user", "content": [{"type": "input_image", "image_url": "data:", "detail": "auto"}]}]
    with pytest.raises(openai.BadRequestError, match="text only") as refused:
        client.responses.create(model="demo", input=turns)
    assert refused.value.param == "input[0].content[0].type"
