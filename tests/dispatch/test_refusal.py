"""What engines say when they refuse, each in its own words, as errors of ours."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from inhouse.dispatch.refusal import refusal
from inhouse.engines.table import ENGINES
from inhouse.errors import BadRequest, ContextTooLong, EngineError, ModelLoading, Unavailable
from inhouse.wire.call import Job

JOB = Job(b"/v1/chat/completions", b"{}")


def told(status: int, body: Any, engine: str = "vllm", *, named: bool = False) -> Any:
    lane = SimpleNamespace(model="chat", engine=ENGINES[engine], body_start=b"x" if named else None)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return refusal(status, data, JOB, lane)  # type: ignore[arg-type]


def error(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "code": 400, **more}}


@pytest.mark.parametrize(
    ("status", "body", "numbers"),
    [
        (400, error("request (9 tokens) exceeds", n_prompt_tokens=9000, n_ctx=4096), (9000, 4096)),
        (
            400,
            error(
                "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4900 in the "
                "messages, 100 in the completion). Please reduce the length of the messages or completion."
            ),
            (4900, 4096),
        ),
        (
            400,
            error("This model's maximum context length is 4096 tokens. However, your request has 5000 input tokens."),
            (5000, 4096),
        ),
        (
            400,
            error(
                "You passed 5000 input tokens and requested 10 output tokens. However, the model's context length is "
                "only 4096 tokens, resulting in a maximum input length of 4086 tokens."
            ),
            (5000, 4096),
        ),
        (
            400,
            {
                "object": "error",
                "message": "The input (5000 tokens) is longer than the model's context length (4096 tokens).",
            },
            (5000, 4096),
        ),
        (
            422,
            {
                "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 "
                "`inputs` tokens and 10 `max_new_tokens`",
                "error_type": "validation",
            },
            (5000, 4096),
        ),
    ],
    ids=["llama.cpp", "vLLM, formerly", "vLLM", "vLLM, another way", "SGLang", "TGI"],
)
def test_a_prompt_that_is_too_long(status: int, body: Any, numbers: tuple[int, int]) -> None:
    """The client learns how long it is and what fits."""
    found = told(status, body)
    assert isinstance(found, ContextTooLong)
    assert (found.prompt_tokens, found.context_tokens) == numbers


@pytest.mark.parametrize(
    "body",
    [error("bad grammar"), {"object": "error", "message": "bad grammar", "code": 400}, {"error": "bad grammar"}],
    ids=["OpenAI's shape", "a flat one", "a text"],
)
def test_a_request_that_it_does_not_take(body: Any) -> None:
    """The client's fault, in the engine's words."""
    found = told(400, body)
    assert type(found) is BadRequest
    assert found.message == "bad grammar"


def test_no_room_or_not_yet() -> None:
    """Only llama.cpp says 503 while it loads."""
    loading = told(503, error("Loading model"), "llamacpp")
    assert isinstance(loading, ModelLoading)
    assert not loading.from_engine  # a version that loads is not judged
    for status, body in ((503, error("busy")), (429, {"error": "Model is overloaded", "error_type": "overloaded"})):
        found = told(status, body)
        assert type(found) is Unavailable
        assert found.retry_after_s
        assert found.from_engine


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": 7}', b"\xff\xfe", b"{}"])
def test_what_says_nothing(body: bytes) -> None:
    """The engine's fault, with its status."""
    assert "status 400" in told(400, body).message
    assert isinstance(told(500, body), EngineError)


def test_a_gateway_that_asks_in_the_wrong_place() -> None:
    """No client can mend that."""
    assert isinstance(told(404, error("no such model"), named=True), EngineError)
    assert isinstance(told(401, error("wrong key"), named=True), EngineError)
