"""Tools: what holds for any model, whether it decides to call one or not."""

from __future__ import annotations

from typing import Any

import openai
import pytest

QUESTION: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
CALL: Any = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
}


def prompt_tokens(client: openai.OpenAI, messages: list[Any], **fields: Any) -> int:
    answer = client.chat.completions.create(model="demo", messages=messages, max_tokens=1, **fields)
    assert answer.usage is not None
    return answer.usage.prompt_tokens


def test_tools_on_offer(client: openai.OpenAI) -> None:
    """The model reads their descriptions: the prompt is longer with them."""
    assert prompt_tokens(client, QUESTION, tools=[WEATHER]) > prompt_tokens(client, QUESTION)


def test_tools_that_may_not_be_used(client: openai.OpenAI) -> None:
    """With `none` the answer is text, and no call is hidden in it; its reason is never `tool_calls`."""
    answer = client.chat.completions.create(
        model="demo", messages=QUESTION, tools=[WEATHER], tool_choice="none", max_tokens=40, temperature=0
    )
    assert not answer.choices[0].message.tool_calls
    assert answer.choices[0].message.content
    assert "get_weather" not in answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")


def test_the_result_of_a_tool(client: openai.OpenAI) -> None:
    """The model reads the call and its result: each makes the prompt longer."""
    called = [*QUESTION, {"role": "assistant", "content": None, "tool_calls": [CALL]}]
    answered = [*called, {"role": "tool", "tool_call_id": "call_1", "content": "21 degrees and sunny"}]
    asked = prompt_tokens(client, QUESTION, tools=[WEATHER])
    assert asked < prompt_tokens(client, answered, tools=[WEATHER])
    longer = [*answered[:-1], {**answered[-1], "content": "21 degrees and sunny, later rain and some wind"}]
    assert prompt_tokens(client, answered, tools=[WEATHER]) < prompt_tokens(client, longer, tools=[WEATHER])


def test_a_tool_call_without_content(client: openai.OpenAI) -> None:
    """Clients leave the content of such a message out or set it to null: both mean the same."""
    result = {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}
    for spoken in ({}, {"content": None}, {"content": ""}):
        turns = [*QUESTION, {"role": "assistant", "tool_calls": [CALL], **spoken}, result]
        assert prompt_tokens(client, turns, tools=[WEATHER]) > 0


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "fly"}}}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": "perhaps"}, "tool_choice"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
    ],
    ids=["required of none", "a name that no tool has", "an unknown choice", "no function", "no name"],
)
def test_tools_that_make_no_sense(client: openai.OpenAI, fields: Any, param: str) -> None:
    """They are refused, with the place in the request."""
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="demo", messages=QUESTION, max_tokens=1, **fields)
    assert (refused.value.param or "").startswith(param)
