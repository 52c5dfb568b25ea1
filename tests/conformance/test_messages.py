"""The Messages API, through Anthropic's own client."""

from __future__ import annotations

from typing import Any

import anthropic
import openai
import pytest

from serving import KEY, Gateway

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
STILL: Any = {"temperature": 0}
WEATHER: Any = {
    "name": "get_weather",
    "description": "Get the weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def test_a_plain_message(claude: anthropic.Anthropic) -> None:
    """A `message` of one text block, with the reason of its end and its usage."""
    message = claude.messages.create(model="demo", messages=HELLO, max_tokens=16, extra_body=STILL)
    assert message.id.startswith("msg_")
    assert (message.type, message.role, message.model) == ("message", "assistant", "demo")
    assert text_of(message)
    assert message.stop_reason in ("end_turn", "max_tokens")
    assert message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0) > 0
    assert 0 < message.usage.output_tokens <= 16


def test_a_message_that_is_cut_off(claude: anthropic.Anthropic) -> None:
    """The reason is `max_tokens`."""
    message = claude.messages.create(
        model="demo", messages=[{"role": "user", "content": "what is a token?"}], max_tokens=2, extra_body=STILL
    )
    assert message.stop_reason == "max_tokens"
    assert message.usage.output_tokens == 2


def test_a_message_and_a_chat_completion(claude: anthropic.Anthropic, client: openai.OpenAI) -> None:
    """The same question in the other API has the same answer, whatever form the system prompt has."""
    chat = client.chat.completions.create(
        model="demo",
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}],
        max_tokens=16,
        temperature=0,
    )
    in_blocks: Any = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    for system in ("Be brief.", in_blocks):
        message = claude.messages.create(model="demo", system=system, messages=HELLO, max_tokens=16, extra_body=STILL)
        assert text_of(message) == chat.choices[0].message.content


def test_a_streamed_message(claude: anthropic.Anthropic) -> None:
    """The pieces of text add up to the final message, which is the one that is not streamed."""
    whole = claude.messages.create(model="demo", messages=HELLO, max_tokens=16, extra_body=STILL)
    with claude.messages.stream(model="demo", messages=HELLO, max_tokens=16, extra_body=STILL) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert text_of(final) == "".join(pieces) == text_of(whole)
    assert final.stop_reason == whole.stop_reason
    assert final.usage.output_tokens == whole.usage.output_tokens


def test_the_order_of_a_streams_events(claude: anthropic.Anthropic) -> None:
    """Message, block, deltas, block, message: opened and closed in order."""
    stream = claude.messages.create(model="demo", messages=HELLO, max_tokens=4, stream=True, extra_body=STILL)
    kinds = [event.type for event in stream]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]


async def test_a_message_of_an_asyncio_client(gateway: Gateway) -> None:
    """Whole and streamed, with asyncio."""
    async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key=KEY, max_retries=0) as claude:
        whole = await claude.messages.create(model="demo", messages=HELLO, max_tokens=8, extra_body=STILL)
        async with claude.messages.stream(model="demo", messages=HELLO, max_tokens=8, extra_body=STILL) as stream:
            final = await stream.get_final_message()
    assert text_of(final) == text_of(whole)


def test_a_count_of_tokens(claude: anthropic.Anthropic) -> None:
    """It is what a message with the same content is charged; system prompt and tools count."""
    turns: Any = [*HELLO, {"role": "assistant", "content": "hi"}, {"role": "user", "content": "and now?"}]
    counted = claude.messages.count_tokens(model="demo", messages=turns, system="Be brief.").input_tokens
    usage = claude.messages.create(model="demo", messages=turns, system="Be brief.", max_tokens=1).usage
    assert counted == usage.input_tokens + (usage.cache_read_input_tokens or 0)
    assert counted > claude.messages.count_tokens(model="demo", messages=turns).input_tokens
    with_tools = claude.messages.count_tokens(model="demo", messages=turns, system="Be brief.", tools=[WEATHER])
    assert with_tools.input_tokens > counted


def test_the_result_of_a_tool(claude: anthropic.Anthropic) -> None:
    """A call and its result are read: each makes the conversation longer."""
    turns: Any = [
        {"role": "user", "content": "What is the weather in Paris?"},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}}],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny, 21 degrees"}],
        },
    ]
    lengths = [
        claude.messages.count_tokens(model="demo", messages=turns[:end], tools=[WEATHER]).input_tokens for end in (1, 3)
    ]
    assert lengths[0] < lengths[1]
    message = claude.messages.create(model="demo", messages=turns, tools=[WEATHER], max_tokens=8)
    assert message.content


def test_both_kinds_of_credentials(gateway: Gateway) -> None:
    """The client sends a key as `x-api-key`, a token as `Authorization`: both open the door."""
    for credentials in ({"api_key": KEY}, {"auth_token": KEY}):
        with anthropic.Anthropic(base_url=gateway.url, max_retries=0, **credentials) as claude:
            assert claude.messages.create(model="demo", messages=HELLO, max_tokens=1).content


def test_a_wrong_key(gateway: Gateway) -> None:
    """It does not."""
    with (
        anthropic.Anthropic(base_url=gateway.url, max_retries=0, api_key="wrong") as claude,
        pytest.raises(anthropic.AuthenticationError) as refused,
    ):
        claude.messages.create(model="demo", messages=HELLO, max_tokens=1)
    assert_shape(refused.value, "authentication_error")


@pytest.mark.parametrize("door", ["create", "count"])
def test_a_model_that_does_not_exist(claude: anthropic.Anthropic, door: str) -> None:
    """Both doors say so in Anthropic's shape, and name the models that exist."""
    knock = {
        "create": lambda: claude.messages.create(model="claude-opus", messages=HELLO, max_tokens=1),
        "count": lambda: claude.messages.count_tokens(model="claude-opus", messages=HELLO),
    }
    with pytest.raises(anthropic.NotFoundError, match="'demo'") as refused:
        knock[door]()
    assert_shape(refused.value, "not_found_error")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"extra_body": {"temperature": 1.5}}, "temperature"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "supported are user, assistant and system"),
        ({"messages": [{"role": "user", "content": "hello " * 9000}]}, r"\d+ tokens.*\d+ tokens"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "text only"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "fly"}}, "no tool 'fly'"),
    ],
    ids=["a number out of range", "no turns", "an unknown role", "too long", "a picture", "an unknown tool"],
)
def test_a_request_that_is_wrong(claude: anthropic.Anthropic, fields: Any, said: str) -> None:
    """It is refused in Anthropic's shape, with a sentence that helps."""
    with pytest.raises(anthropic.BadRequestError, match=said) as refused:
        claude.messages.create(**{"model": "demo", "messages": HELLO, "max_tokens": 1, **fields})
    assert_shape(refused.value, "invalid_request_error")


def test_a_field_that_does_not_exist(claude: anthropic.Anthropic) -> None:
    """It is passed over, and a header names it."""
    raw = claude.messages.with_raw_response.create(
        model="demo", messages=HELLO, max_tokens=1, extra_body={"max_token": 1}
    )
    assert raw.headers["x-inhouse-ignored"] == "max_token"
    assert raw.parse().content


def text_of(message: anthropic.types.Message | anthropic.types.ParsedMessage[None]) -> str:
    """The text of a message of one text block."""
    (block,) = message.content
    assert block.type == "text"
    return block.text


def assert_shape(error: anthropic.APIStatusError, kind: str) -> None:
    """The error object of the Messages API, with the id that the response's header carries."""
    body: Any = error.body
    assert body["type"] == "error"
    assert body["error"]["type"] == kind
    assert body["error"]["message"]
    assert body["request_id"] == error.response.headers["x-request-id"]
