"""The simplest possible call: a text in, a text out."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.core import Usage
from inhouse.errors import BadRequest, EngineError, ModelNotFound
from inhouse.wire import generate
from inhouse.wire.chat import Answer, AnswerChoice, ChatChunk, ChunkChoice, Delta


def test_a_text_alone() -> None:
    """A text is all that is needed: it is a user's message, the default model answers, up to 256 tokens."""
    call = generate.parse(b'{"text": "Hi"}')
    assert (call.model, call.stream) == ("", False)
    assert [(m.role, m.content) for m in call.request.messages] == [("user", "Hi")]
    assert call.request.max_tokens == 256


def test_all_settings() -> None:
    """Each setting arrives at its namesake in the chat request."""
    call = generate.parse(
        b'{"text": "Hi", "model": "demo", "stream": true, "max_tokens": 3, "temperature": 0, "top_p": 0.5, '
        b'"seed": 7, "stop": ["x"]}'
    )
    assert (call.model, call.stream, call.request.model) == ("demo", True, "demo")
    request = call.request
    assert (request.max_tokens, request.temperature, request.top_p) == (3, 0, 0.5)
    assert (request.seed, request.stop) == (7, ["x"])


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{}", "text"),
        (b'{"text": 7}', "text"),
        (b'{"text": "x", "max_tokens": 0}', "max_tokens"),
        (b'{"text": "x", "prompt": "y"}', "prompt"),
        (b"[]", None),
        (b"{", None),
    ],
)
def test_bodies_that_are_refused(body: bytes, param: str | None) -> None:
    """A refusal names the parameter."""
    with pytest.raises(BadRequest) as caught:
        generate.parse(body)
    assert caught.value.param == param


def test_the_whole_answer() -> None:
    """Text, the model that answered, how it ended, and what it cost; what the model thought is left out."""
    choice = AnswerChoice(content="Hello", reasoning_content="hm", finish_reason="length")
    body = generate.parse(b'{"text": "Hi"}').rendering("1", 0.0).body(Answer("", 0, "demo", [choice], Usage(3, 2, 1)))
    assert json.loads(body) == {
        "text": "Hello",
        "model": "demo",
        "finish_reason": "length",
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }


@given(st.lists(st.text(), max_size=5))
def test_a_stream(pieces: list[str]) -> None:
    """The texts of all events, joined, are the answer; the last event says how it ended, then comes [DONE]."""
    rendering = generate.parse(b'{"text": "Hi", "stream": true}').rendering("1", 0.0)
    chunks = [ChatChunk([ChunkChoice(Delta(content=piece))]) for piece in pieces]
    chunks.append(ChatChunk([ChunkChoice(Delta(), finish_reason="length")]))
    out = rendering.start() + b"".join(map(rendering.chunk, chunks)) + rendering.end(Usage(3, 2, 0))
    *events, done, rest = out.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    decoded = [json.loads(event.removeprefix("data: ")) for event in events]
    assert "".join(event["text"] for event in decoded) == "".join(pieces)
    assert decoded[-1]["finish_reason"] == "length"
    assert decoded[-1]["usage"]["total_tokens"] == 5


def test_errors() -> None:
    """A refusal and a stream that breaks off say the same in the same shape."""
    expected = {"message": "x", "type": "invalid_request_error", "param": None, "code": "model_not_found"}
    assert json.loads(generate.render_error(ModelNotFound("x"))) == {"error": expected}
    event = generate.parse(b'{"text": "Hi"}').rendering("1", 0.0).fail(EngineError("x"))
    assert json.loads(event.removeprefix(b"data: "))["error"]["code"] == "engine_failed"
