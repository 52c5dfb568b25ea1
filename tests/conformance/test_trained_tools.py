"""Tool calls, by a model that has learned to make them."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai
import pytest

QUESTION: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
CITY: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER: Any = {
    "type": "function",
    "function": {"name": "get_weather", "description": "Get the weather of a city", "parameters": CITY},
}
TIME: Any = {
    "type": "function",
    "function": {"name": "get_time", "description": "Get the local time of a city", "parameters": CITY},
}
CHOICES: list[Any] = ["auto", "required", {"type": "function", "function": {"name": "get_weather"}}, None]
NAMES = ["auto", "required", "named", "none given"]
STILL: dict[str, Any] = {"model": "demo", "messages": QUESTION, "temperature": 0, "max_tokens": 200}


@pytest.mark.parametrize("choice", CHOICES, ids=NAMES)
def test_a_question_for_a_tool(client: openai.OpenAI, choice: Any) -> None:
    """The answer is a call of the right tool, whose arguments are JSON by its schema."""
    wanted = {} if choice is None else {"tool_choice": choice}
    answer = client.chat.completions.create(tools=[WEATHER, TIME], **wanted, **STILL)
    (call,) = answer.choices[0].message.tool_calls or ()
    assert answer.choices[0].finish_reason == "tool_calls"
    assert call.type == "function"
    assert call.id
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Paris"}


@pytest.mark.parametrize("choice", CHOICES, ids=NAMES)
def test_a_streamed_call(client: openai.OpenAI, choice: Any) -> None:
    """Id and name come once, the arguments in pieces that add up to JSON; the reason is `tool_calls`."""
    wanted = {} if choice is None else {"tool_choice": choice}
    chunks = list(client.chat.completions.create(tools=[WEATHER, TIME], stream=True, **wanted, **STILL))
    deltas = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
    assert {delta.index for delta in deltas} == {0}
    assert len([delta.id for delta in deltas if delta.id]) == 1
    assert [delta.function.name for delta in deltas if delta.function and delta.function.name] == ["get_weather"]
    arguments = "".join(delta.function.arguments or "" for delta in deltas if delta.function)
    assert json.loads(arguments) == {"city": "Paris"}
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_a_choice_among_tools_by_name(client: openai.OpenAI) -> None:
    """The named tool is called, although the question is for the other one."""
    answer = client.chat.completions.create(
        tools=[WEATHER, TIME], tool_choice={"type": "function", "function": {"name": "get_time"}}, **STILL
    )
    (call,) = answer.choices[0].message.tool_calls or ()
    assert call.function.name == "get_time"  # type: ignore[union-attr]
    json.loads(call.function.arguments)  # type: ignore[union-attr]


def test_a_round_trip(client: openai.OpenAI) -> None:
    """The call goes back with the tool's result, and the answer is text that holds it."""
    first = client.chat.completions.create(tools=[WEATHER], **STILL).choices[0].message
    (call,) = first.tool_calls or ()
    result = {"role": "tool", "tool_call_id": call.id, "content": "21 degrees and sunny"}
    turns: list[Any] = [*QUESTION, first.model_dump(exclude_none=True), result]
    second = client.chat.completions.create(tools=[WEATHER], **{**STILL, "messages": turns}).choices[0]
    assert second.finish_reason == "stop"
    assert not second.message.tool_calls
    assert "21 degrees" in (second.message.content or "")


def test_a_call_of_the_responses_api(client: openai.OpenAI) -> None:
    """A `function_call` item, streamed and whole; its result goes back as `function_call_output`."""
    tool: Any = {"type": "function", "name": "get_weather", "parameters": CITY, "strict": True}
    asked: dict[str, Any] = {"model": "demo", "temperature": 0, "max_output_tokens": 200, "tools": [tool]}
    question = "What is the weather in Paris?"
    whole = client.responses.create(input=question, **asked)
    (item,) = [item for item in whole.output if item.type == "function_call"]
    assert item.name == "get_weather"
    assert json.loads(item.arguments) == {"city": "Paris"}
    events = list(client.responses.create(input=question, stream=True, **asked))
    deltas = "".join(event.delta for event in events if event.type == "response.function_call_arguments.delta")
    assert json.loads(deltas) == {"city": "Paris"}
    turns: Any = [
        {"role": "user", "content": question},
        item.model_dump(exclude_none=True),
        {"type": "function_call_output", "call_id": item.call_id, "output": "21 degrees and sunny"},
    ]
    assert "21 degrees" in client.responses.create(input=turns, **asked).output_text


def test_a_call_of_the_messages_api(claude: anthropic.Anthropic) -> None:
    """A `tool_use` block, streamed and whole; its result goes back as `tool_result`."""
    tool: Any = {"name": "get_weather", "description": "Get the weather of a city", "input_schema": CITY}
    asked: dict[str, Any] = {"model": "demo", "max_tokens": 200, "tools": [tool], "extra_body": {"temperature": 0}}
    whole = claude.messages.create(messages=QUESTION, **asked)
    assert whole.stop_reason == "tool_use"
    (block,) = [block for block in whole.content if block.type == "tool_use"]
    assert (block.name, block.input) == ("get_weather", {"city": "Paris"})
    with claude.messages.stream(messages=QUESTION, **asked) as stream:
        final = stream.get_final_message()
    (streamed,) = [block for block in final.content if block.type == "tool_use"]
    assert (streamed.name, streamed.input) == (block.name, block.input)
    turns: Any = [
        *QUESTION,
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": block.id, "name": block.name, "input": block.input}],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": block.id, "content": "21 degrees and sunny"}],
        },
    ]
    answer = claude.messages.create(messages=turns, **asked)
    assert answer.stop_reason == "end_turn"
    assert "21 degrees" in "".join(block.text for block in answer.content if block.type == "text")
