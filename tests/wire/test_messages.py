"""The Messages API: what a request means as a chat request, and what its client is told."""

from __future__ import annotations

import json
from typing import Any, get_args

import msgspec
import pytest
from anthropic.types import ErrorResponse, Message, MessageTokensCount, message_create_params
from anthropic.types.beta import message_create_params as beta_create_params
from hypothesis import given
from hypothesis import strategies as st

from inhouse.core import Usage
from inhouse.errors import (
    ApiError,
    BadRequest,
    BodyTooLarge,
    EngineError,
    EngineTimeout,
    Forbidden,
    InternalError,
    InvalidJson,
    MethodNotAllowed,
    ModelNotFound,
    QueueFull,
    ShuttingDown,
    Unauthorized,
    UnknownParameter,
    UnsupportedMedia,
)
from inhouse.wire import messages
from inhouse.wire.chat import Answer, AnswerChoice, ChatChunk, ChatRequest, FunctionCall, NamedToolChoice, ToolCall
from inhouse.wire.messages_request import CountRequest, MessagesRequest


def asked(**fields: Any) -> bytes:
    return json.dumps(
        {"model": "demo", "max_tokens": 16, "messages": [{"role": "user", "content": "Hi"}], **fields}
    ).encode()


def chat_of(**fields: Any) -> ChatRequest:
    return messages.parse(asked(**fields)).request


def turns(request: ChatRequest) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = msgspec.to_builtins(request.messages)
    return found


def refusal(**fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        messages.parse(asked(**fields))
    return caught.value


def test_settings_of_a_request() -> None:
    """Every setting arrives at its counterpart in the chat request; the model and `stream` are the call's."""
    call = messages.parse(
        asked(
            stream=True,
            temperature=0.5,
            top_p=0.9,
            top_k=40,
            stop_sequences=["END"],
            metadata={"user_id": "u1"},
            thinking={"type": "enabled", "budget_tokens": 1024},
            output_config={"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
            cache_control={"type": "ephemeral"},
            service_tier="auto",
            container=None,
        )
    )
    assert (call.model, call.stream) == ("demo", True)
    request = call.request
    assert (request.max_tokens, request.temperature, request.top_p, request.top_k) == (16, 0.5, 0.9, 40)
    assert (request.stop, request.user, request.reasoning_effort) == (["END"], "u1", "low")
    assert request.chat_template_kwargs == {"enable_thinking": True}
    assert request.response_format is not None
    assert request.response_format.json_schema is not None
    assert request.response_format.json_schema.schema == {"type": "object"}


def test_system_and_a_turn_with_tools() -> None:
    """System text leads, calls and results find each other by id, thoughts of earlier turns are left out."""
    request = chat_of(
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        tools=[{"name": "weather", "description": "d", "input_schema": {"type": "object"}, "type": "custom"}],
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "In "}, {"type": "text", "text": "Bern?"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "x"},
                    {"type": "text", "text": "I look."},
                    {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Bern"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "rain"}]},
                    {"type": "text", "text": "So?"},
                ],
            },
        ],
    )
    assert turns(request) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "In "}, {"type": "text", "text": "Bern?"}]},
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [
                {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Bern"}'}}
            ],
        },
        {"role": "tool", "content": "rain", "tool_call_id": "t1"},
        {"role": "user", "content": "So?"},
    ]
    assert request.tools is not None
    assert request.tools[0].function.parameters == {"type": "object"}


@pytest.mark.parametrize(
    ("choice", "meant", "parallel"),
    [
        ({"type": "auto"}, "auto", None),
        ({"type": "any", "disable_parallel_tool_use": True}, "required", False),
        ({"type": "none"}, "none", None),
        ({"type": "auto", "disable_parallel_tool_use": False}, "auto", True),
    ],
)
def test_tool_choice(choice: dict[str, Any], meant: str, parallel: bool | None) -> None:
    """Each choice has its OpenAI counterpart; forbidding parallel calls is its opposite there."""
    request = chat_of(tools=[{"name": "f", "input_schema": {}}], tool_choice=choice)
    assert (request.tool_choice, request.parallel_tool_calls) == (meant, parallel)


def test_a_tool_chosen_by_name() -> None:
    """The named tool is called; a name that no tool has is refused with the names that exist."""
    tools = [{"name": "f", "input_schema": {}}, {"name": "g", "input_schema": {}}]
    choice = chat_of(tools=tools, tool_choice={"type": "tool", "name": "g"}).tool_choice
    assert isinstance(choice, NamedToolChoice)
    assert choice.function.name == "g"
    error = refusal(tools=tools, tool_choice={"type": "tool", "name": "h"})
    assert error.param == "tool_choice.name"
    assert "(f, g)" in error.message


def block(*path_and_block: Any) -> dict[str, Any]:
    role, content = path_and_block
    return {"messages": [{"role": "user", "content": "Hi"}, {"role": role, "content": content}]}


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        (block("user", [{"type": "image", "source": {}}]), "messages[1].content[0].type", "takes text only"),
        (block("user", [{"type": "document"}]), "messages[1].content[0].type", "takes text only"),
        (block("user", [{"type": "hologram"}]), "messages[1].content[0].type", "supported are text"),
        (block("user", [{"text": "x"}]), "messages[1].content[0].type", "supported are text"),
        (
            block("user", [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image"}]}]),
            "messages[1].content[0].content[0].type",
            "text",
        ),
        (
            block("user", [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]),
            "messages[1].content[0].type",
            "tool_result",
        ),
        (
            block("assistant", [{"type": "tool_result", "tool_use_id": "t"}]),
            "messages[1].content[0].type",
            "an assistant message has",
        ),
        (block("robot", "x"), "messages[1].role", "user, assistant and system"),
        (block("user", 7), "messages[1].content", "expected"),
        ({"messages": []}, "messages", "length"),
        ({"max_tokens": 0}, "max_tokens", ">= 1"),
        ({"temperature": 1.5}, "temperature", "0 to 1"),
        ({"tools": [{"type": "web_search_20250305", "name": "w"}]}, "tools[0].type", "Anthropic's servers"),
        ({"tools": [{"name": "w"}]}, "tools[0].input_schema", "JSON Schema"),
        ({"tool_choice": {"type": "any"}}, "tool_choice", "`tools` has none"),
        ({"mcp_servers": [{"url": "x"}]}, "mcp_servers", "offer their tools"),
        ({"container": "c"}, "container", "whole conversation"),
    ],
)
def test_content_that_is_refused(fields: dict[str, Any], param: str, says: str) -> None:
    """A refusal names the place in the request, index and all, and what is supported there."""
    error = refusal(**fields)
    assert error.param == param
    assert says in error.message


def test_a_request_without_max_tokens() -> None:
    """`max_tokens` is required, as at Anthropic, and the refusal says what it is."""
    with pytest.raises(BadRequest, match=r"max_tokens.*largest number") as caught:
        messages.parse(b'{"model": "demo", "messages": [{"role": "user", "content": "Hi"}]}')
    assert caught.value.param == "max_tokens"


def test_a_parameter_with_a_typo() -> None:
    """An unknown parameter is refused with the nearest known one."""
    with pytest.raises(UnknownParameter, match="did you mean `stop_sequences`"):
        messages.parse(asked(stop_sequence=["x"]))


@pytest.mark.parametrize("params", [message_create_params, beta_create_params])
def test_every_parameter_of_the_official_client_is_known(params: Any) -> None:
    """Whatever the official client can send is accepted or refused with a reason, never called unknown."""
    names = set(params.MessageCreateParamsBase.__annotations__)
    assert names <= set(MessagesRequest.__struct_encode_fields__)


def test_a_request_for_a_count() -> None:
    """The count reads the same words as the message would; what only concerns the answer is unknown to it."""
    fields = {"model": "demo", "system": "Be brief.", "messages": [{"role": "user", "content": "Hi"}]}
    call = messages.parse_count(json.dumps(fields).encode())
    assert call.model == "demo"
    assert turns(call.request) == turns(chat_of(system="Be brief."))
    with pytest.raises(UnknownParameter):
        messages.parse_count(asked())
    MessageTokensCount.model_validate_json(messages.render_count(7), strict=True)
    assert set(CountRequest.__struct_encode_fields__) < set(MessagesRequest.__struct_encode_fields__)


@given(
    st.binary() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_any_bytes(body: bytes) -> None:
    """No body makes anything else than a call or a refusal."""
    with pytest.raises(BadRequest):
        messages.parse(body)


def test_a_body_that_is_nested_too_deeply() -> None:
    """A body made to exhaust the stack is refused as bad JSON."""
    with pytest.raises(InvalidJson):
        messages.parse(b'{"diagnostics": ' + b"[" * 100_000)


def answer(choice: AnswerChoice) -> Answer:
    return Answer("chatcmpl-1", 1, "engine-name", [choice], Usage(10, 5, 4))


def test_the_whole_message() -> None:
    """Reasoning, text and calls become blocks in this order; tokens from the cache are counted apart."""
    call = ToolCall("t1", FunctionCall("weather", '{"city": "Bern"}'))
    choice = AnswerChoice(0, "I look.", "hm", [call], "tool_calls")
    body = messages.parse(asked()).rendering("ab12", 1.0).body(answer(choice))
    Message.model_validate_json(body, strict=True)
    assert json.loads(body) == {
        "id": "msg_ab12",
        "type": "message",
        "role": "assistant",
        "model": "demo",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": ""},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Bern"}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 6,
            "output_tokens": 5,
            "cache_read_input_tokens": 4,
            "cache_creation_input_tokens": 0,
        },
    }


@pytest.mark.parametrize(
    ("finish_reason", "stop_reason"),
    [("stop", "end_turn"), ("length", "max_tokens"), ("tool_calls", "tool_use"), ("content_filter", "refusal")],
)
def test_stop_reasons(finish_reason: str, stop_reason: str) -> None:
    """The engine's reason in Anthropic's words."""
    choice = AnswerChoice(content="x", finish_reason=finish_reason)
    body = messages.parse(asked()).rendering("1", 0.0).body(answer(choice))
    assert json.loads(body)["stop_reason"] == stop_reason


def test_arguments_that_were_cut_off() -> None:
    """A tool's input is an object even where the model was stopped in the middle of it, and nothing is lost."""
    call = ToolCall("t1", FunctionCall("f", '{"city": "Be'))
    body = messages.parse(asked()).rendering("1", 0.0).body(answer(AnswerChoice(tool_calls=[call])))
    assert json.loads(body)["content"][0]["input"] == {"INVALID_JSON": '{"city": "Be'}


def test_an_answer_without_anything() -> None:
    """There is always one block, so that a client may look at the first."""
    for choices in ([], [AnswerChoice(content="")]):
        body = messages.parse(asked()).rendering("1", 0.0).body(Answer("", 0, "", choices, Usage()))
        assert json.loads(body)["content"] == [{"type": "text", "text": ""}]


GOLDEN = """\
event: message_start
data: {"type":"message_start","message":{"type":"message","id":"msg_ab12","model":"demo","content":[],"usage":{"input_tokens":0,"output_tokens":0,"cache_read_input_tokens":0,"cache_creation_input_tokens":0},"stop_reason":null,"stop_sequence":null,"role":"assistant"}}

event: ping
data: {"type":"ping"}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Grü"}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"ezi"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t1","name":"f","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\\"a\\":"}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"1}"}}

event: content_block_stop
data: {"type":"content_block_stop","index":1}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"input_tokens":6,"output_tokens":5,"cache_read_input_tokens":4,"cache_creation_input_tokens":0}}

event: message_stop
data: {"type":"message_stop"}

"""  # noqa: E501


def chunks(*deltas: dict[str, Any]) -> list[ChatChunk]:
    return [msgspec.convert({"choices": [{"delta": delta}]}, ChatChunk) for delta in deltas]


def test_the_events_of_a_stream() -> None:
    """Event for event what a client of Anthropic sees."""
    rendering = messages.parse(asked(stream=True)).rendering("ab12", 1.0)
    out = [rendering.start()]
    engine = chunks(
        {"role": "assistant", "content": ""},
        {"content": "Grü"},
        {"content": "ezi"},
        {"tool_calls": [{"index": 0, "id": "t1", "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]},
    )
    out += [rendering.chunk(chunk) for chunk in engine]
    out.append(rendering.end(Usage(10, 5, 4)))
    assert b"".join(out).decode() == GOLDEN


def test_a_stream_that_breaks_off() -> None:
    """The last event is an error in Anthropic's shape."""
    rendering = messages.parse(asked(stream=True)).rendering("1", 0.0)
    event = rendering.fail(EngineError("the engine broke off"))
    name, data = event.decode().removesuffix("\n\n").split("\n")
    assert name == "event: error"
    ErrorResponse.model_validate_json(data.removeprefix("data: "), strict=True)


ERRORS: list[tuple[ApiError, str]] = [
    (BadRequest("x"), "invalid_request_error"),
    (Unauthorized("x"), "authentication_error"),
    (Forbidden("x"), "permission_error"),
    (ModelNotFound("x"), "not_found_error"),
    (MethodNotAllowed("x", allow="POST"), "invalid_request_error"),
    (BodyTooLarge("x"), "request_too_large"),
    (UnsupportedMedia("x"), "invalid_request_error"),
    (QueueFull("x"), "rate_limit_error"),
    (InternalError("x"), "api_error"),
    (EngineError("x"), "api_error"),
    (ShuttingDown("x"), "overloaded_error"),
    (EngineTimeout("x"), "timeout_error"),
]


@pytest.mark.parametrize(("error", "kind"), ERRORS)
def test_errors(error: ApiError, kind: str) -> None:
    """The type follows the status, and the request's id is told back."""
    assert json.loads(messages.render_error(error, "req_1")) == {
        "type": "error",
        "error": {"type": kind, "message": "x"},
        "request_id": "req_1",
    }


def test_error_types_are_anthropic_s() -> None:
    """No type is made up: each is one that the official client or Anthropic's page of errors knows."""
    alias = ErrorResponse.model_fields["error"].annotation
    known = {get_args(one.model_fields["type"].annotation)[0] for one in get_args(alias)} | {"request_too_large"}
    assert {kind for _, kind in ERRORS} <= known
