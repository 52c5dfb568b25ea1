"""The Responses API: what a request means as a chat request, and what its client is told."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, response_create_params

from inhouse.core import Usage
from inhouse.errors import BadRequest, EngineError, InvalidJson, QueueFull, UnknownParameter
from inhouse.wire import responses
from inhouse.wire.chat import Answer, AnswerChoice, ChatChunk, ChatRequest, FunctionCall, NamedToolChoice, ToolCall
from inhouse.wire.responses_request import ResponsesRequest


def asked(**fields: Any) -> bytes:
    return json.dumps({"model": "demo", "input": "Hi", **fields}).encode()


def chat_of(**fields: Any) -> ChatRequest:
    return responses.parse(asked(**fields)).request


def turns(request: ChatRequest) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = msgspec.to_builtins(request.messages)
    return found


def refusal(**fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        responses.parse(asked(**fields))
    return caught.value


def test_settings_of_a_request() -> None:
    """Every setting arrives at its counterpart in the chat request; the model and `stream` are the call's."""
    call = responses.parse(
        asked(
            stream=True,
            instructions="Be brief.",
            max_output_tokens=9,
            temperature=1.5,
            top_p=0.5,
            user="u1",
            reasoning={"effort": "low", "summary": "auto"},
            text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}},
            store=True,
            truncation="auto",
            metadata={"k": "v"},
            include=["reasoning.encrypted_content"],
            previous_response_id=None,
            background=False,
        )
    )
    assert (call.model, call.stream) == ("demo", True)
    request = call.request
    assert (request.max_tokens, request.temperature, request.top_p) == (9, 1.5, 0.5)
    assert (request.user, request.reasoning_effort) == ("u1", "low")
    assert turns(request) == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert msgspec.to_builtins(request.response_format) == {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
    }


def test_a_conversation_with_calls() -> None:
    """Calls join the assistant's message before them, outputs find their call by id, reasoning is passed over."""
    request = chat_of(
        input=[
            {"role": "developer", "content": "Be brief."},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Bern, Rome?"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
            {
                "type": "message",
                "id": "msg_1",
                "status": "completed",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "I look.", "annotations": []}],
            },
            {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city":"Bern"}'},
            {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": '{"city":"Rome"}'},
            {"type": "function_call_output", "call_id": "c1", "output": "rain"},
            {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "sun"}]},
        ],
        tools=[{"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}],
    )
    assert turns(request) == [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Bern, Rome?"},
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Bern"}'}},
                {"id": "c2", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}},
            ],
        },
        {"role": "tool", "content": "rain", "tool_call_id": "c1"},
        {"role": "tool", "content": "sun", "tool_call_id": "c2"},
    ]
    assert msgspec.to_builtins(request.tools) == [
        {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}, "strict": False}}
    ]


TOOLS = [{"type": "function", "name": "f"}, {"type": "function", "name": "g"}]


def test_tool_choice() -> None:
    """A choice by word, by name, and of some of the tools."""
    assert chat_of(tools=TOOLS, tool_choice="required").tool_choice == "required"
    named = chat_of(tools=TOOLS, tool_choice={"type": "function", "name": "g"}).tool_choice
    assert isinstance(named, NamedToolChoice)
    assert named.function.name == "g"
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "g"}]}
    some = chat_of(tools=TOOLS, tool_choice=allowed)
    assert some.tool_choice == "auto"
    assert [tool.function.name for tool in some.tools or ()] == ["g"]


def item(**fields: Any) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": "Hi"}, fields]}


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id", "send the whole conversation in `input`"),
        ({"conversation": "conv_1"}, "conversation", "send the whole conversation in `input`"),
        ({"conversation": {"id": "conv_1"}}, "conversation", "send the whole conversation in `input`"),
        ({"background": True}, "background", "over HTTP"),
        ({"prompt": {"id": "p"}}, "prompt", "`instructions`"),
        ({"top_logprobs": 3}, "top_logprobs", "/v1/chat/completions"),
        ({"include": ["message.output_text.logprobs"]}, "include[0]", "/v1/chat/completions"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "'web_search' runs on OpenAI's servers"),
        ({"tools": [{"type": "function"}]}, "tools[0].name", "missing"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "name": "h"}}, "tool_choice.name", "(f, g)"),
        ({"tools": TOOLS, "tool_choice": {"type": "mcp"}}, "tool_choice.type", "supported are function"),
        ({"tool_choice": "required"}, "tool_choice", "`tools` has none"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type", "json_schema"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema", "missing"),
        ({"input": []}, "input", "length"),
        ({"input": [{"type": "reasoning"}]}, "input", "no message"),
        ({"input": ["Hi"]}, "input[0]", "expected `object`"),
        (item(role="user", content=[{"type": "input_image"}]), "input[1].content[0].type", "takes text only"),
        (item(role="user", content=[{"type": "hologram"}]), "input[1].content[0].type", "input_text and output_text"),
        (item(role="robot", content="x"), "input[1].role", "user, assistant, system and developer"),
        (item(role="user"), "input[1].content", "missing"),
        (item(type="computer_call"), "input[1].type", "supported are message, function_call"),
        (item(type="item_reference", id="x"), "input[1].type", "send the whole conversation"),
        (item(type="function_call_output", call_id="c", output=7), "input[1].output", "expected"),
        (
            item(type="function_call_output", call_id="c", output=[{"type": "input_file"}]),
            "input[1].output[0].type",
            "text only",
        ),
    ],
)
def test_content_that_is_refused(fields: dict[str, Any], param: str, says: str) -> None:
    """A refusal names the place in the request, index and all, and what is supported there or what to do."""
    error = refusal(**fields)
    assert error.param == param
    assert says in error.message
    assert param in error.message


def test_a_parameter_with_a_typo() -> None:
    """An unknown parameter is refused with the nearest known one."""
    with pytest.raises(UnknownParameter, match="did you mean `max_output_tokens`"):
        responses.parse(asked(max_output_token=3))


def test_every_parameter_of_the_official_client_is_known() -> None:
    """Whatever the official client can send is accepted or refused with a reason, never called unknown."""
    names = set(response_create_params.ResponseCreateParamsBase.__annotations__)
    assert names <= set(ResponsesRequest.__struct_encode_fields__)


JSON = st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(st.binary() | JSON.map(lambda value: asked(input=[value])))
def test_any_bytes(body: bytes) -> None:
    """No body, and no item of `input`, makes anything else than a call or a refusal."""
    with pytest.raises(BadRequest):
        responses.parse(body)


def test_a_body_that_is_nested_too_deeply() -> None:
    """A body made to exhaust the stack is refused as bad JSON."""
    with pytest.raises(InvalidJson):
        responses.parse(b'{"input": [' + b"[" * 100_000)


def answer(choice: AnswerChoice) -> Answer:
    return Answer("chatcmpl-1", 1, "engine-name", [choice], Usage(10, 5, 4))


def test_the_whole_response() -> None:
    """Reasoning, text and calls become items in this order; the request's settings are told back."""
    call = ToolCall("c1", FunctionCall("f", '{"a": 1}'))
    parsed = responses.parse(
        asked(
            instructions="Be brief.", tools=TOOLS, temperature=0.5, metadata={"k": "v"}, store=True, truncation="auto"
        )
    )
    body = parsed.rendering("ab12", 7.9).body(
        answer(AnswerChoice(content="I look.", reasoning_content="hm", tool_calls=[call], finish_reason="tool_calls"))
    )
    Response.model_validate_json(body, strict=True)
    assert json.loads(body) == {
        "object": "response",
        "id": "resp_ab12",
        "created_at": 7,
        "status": "completed",
        "model": "demo",
        "output": [
            {
                "type": "reasoning",
                "id": "rs_ab1200",
                "status": "completed",
                "summary": [],
                "content": [{"type": "reasoning_text", "text": "hm"}],
            },
            {
                "type": "message",
                "id": "msg_ab1201",
                "status": "completed",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "I look.", "annotations": [], "logprobs": []}],
            },
            {
                "type": "function_call",
                "id": "fc_ab1202",
                "status": "completed",
                "call_id": "c1",
                "name": "f",
                "arguments": '{"a": 1}',
            },
        ],
        "error": None,
        "incomplete_details": None,
        "usage": {
            "input_tokens": 10,
            "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
            "output_tokens": 5,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 15,
        },
        "instructions": "Be brief.",
        "max_output_tokens": None,
        "metadata": {"k": "v"},
        "parallel_tool_calls": True,
        "prompt_cache_key": None,
        "reasoning": {},
        "safety_identifier": None,
        "temperature": 0.5,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [
            {"type": "function", "name": n, "description": None, "parameters": None, "strict": None} for n in "fg"
        ],
        "top_p": None,
        "user": None,
        "background": False,
        "max_tool_calls": None,
        "previous_response_id": None,
        "service_tier": "default",
        "store": False,
        "top_logprobs": 0,
        "truncation": "disabled",
    }


@pytest.mark.parametrize(
    ("finish_reason", "why"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_a_response_that_was_cut_off(finish_reason: str, why: str) -> None:
    """The response and its last item are incomplete, and the response says why."""
    choice = AnswerChoice(content="x", finish_reason=finish_reason)
    body = json.loads(responses.parse(asked()).rendering("1", 0.0).body(answer(choice)))
    assert (body["status"], body["incomplete_details"]) == ("incomplete", {"reason": why})
    assert body["output"][-1]["status"] == "incomplete"


def chunks(*deltas: dict[str, Any], finish_reason: str | None = None) -> list[ChatChunk]:
    found = [msgspec.convert({"choices": [{"delta": delta}]}, ChatChunk) for delta in deltas]
    found[-1].choices[0].finish_reason = finish_reason
    return found


def names_of(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def events_of(data: bytes) -> list[dict[str, Any]]:
    found = []
    for event in data.decode().removesuffix("\n\n").split("\n\n"):
        name, payload = event.split("\n")
        found.append(json.loads(payload.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def test_the_events_of_a_stream() -> None:
    """The events come in the order of the API, numbered without a gap."""
    rendering = responses.parse(asked(stream=True)).rendering("ab12", 1.0)
    engine = chunks(
        {"role": "assistant", "content": None},
        {"reasoning_content": "hm"},
        {"content": "He"},
        {"content": "llo"},
        {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]},
        finish_reason="tool_calls",
    )
    events = events_of(rendering.start() + b"".join(map(rendering.chunk, engine)) + rendering.end(Usage(3, 2, 0)))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert names_of(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert events[10] == {
        "type": "response.output_text.delta",
        "item_id": "msg_ab1201",
        "output_index": 1,
        "content_index": 0,
        "delta": "He",
        "logprobs": [],
        "sequence_number": 10,
    }


def test_a_stream_that_was_cut_off() -> None:
    """The last event is `response.incomplete`, and the item that was cut off says so too."""
    rendering = responses.parse(asked(stream=True)).rendering("1", 0.0)
    engine = chunks({"content": "He"}, finish_reason="length")
    events = events_of(rendering.start() + rendering.chunk(engine[0]) + rendering.end(Usage(3, 2, 0)))
    assert names_of(events)[-2:] == ["output_item.done", "incomplete"]
    assert events[-2]["item"]["status"] == "incomplete"


def test_a_stream_that_breaks_off() -> None:
    """An error event and `response.failed` end the stream; the response has what came before."""
    rendering = responses.parse(asked(stream=True)).rendering("1", 0.0)
    head = rendering.start() + rendering.chunk(chunks({"content": "He"})[0])
    events = events_of(head + rendering.fail(EngineError("the engine broke off")))
    assert names_of(events)[-2:] == ["error", "failed"]
    assert (events[-2]["code"], events[-2]["message"]) == ("engine_failed", "the engine broke off")
    failed = events[-1]["response"]
    assert (failed["status"], failed["error"]["code"]) == ("failed", "server_error")
    assert failed["output"][0]["content"][0]["text"] == "He"
    assert failed["output"][0]["status"] == "incomplete"


def test_errors() -> None:
    """Refusals look as everywhere in the OpenAI API."""
    assert json.loads(responses.render_error(QueueFull("full"))) == {
        "error": {"message": "full", "type": "rate_limit_error", "param": None, "code": "queue_full"}
    }
