"""The small endpoints: tokens, slots, the simplest call, health."""

from __future__ import annotations

import json
from typing import Any

import pytest
from plain_http import PlainHttp

TEXTS = ["Hello", "Good morning, how are you?", " two  spaces\n\tand a tab ", "Grüße aus 東京 🙂", "1, 2, 3"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_cut_into_tokens_and_joined(http: PlainHttp, text: str) -> None:
    """It comes back as it was, whatever the vocabulary."""
    tokens = http.post("/tokenize", {"content": text}).json["tokens"]
    assert tokens
    assert all(isinstance(token, int) for token in tokens)
    assert http.post("/detokenize", {"tokens": tokens}).json == {"content": text}


def test_a_text_and_its_model_by_name(http: PlainHttp) -> None:
    """Naming the model changes nothing where there is one."""
    asked = {"content": "Hello"}
    assert http.post("/tokenize", {**asked, "model": "demo"}).json == http.post("/tokenize", asked).json


def test_an_empty_text(http: PlainHttp) -> None:
    """It has no tokens, and no tokens make an empty text."""
    assert http.post("/tokenize", {"content": ""}).json == {"tokens": []}
    assert http.post("/detokenize", {"tokens": []}).json == {"content": ""}


@pytest.mark.parametrize("token", [-1, 10_000_000])
def test_a_token_outside_the_vocabulary(http: PlainHttp, token: int) -> None:
    """It is the client's mistake, not a failure of the engine."""
    reply = http.post("/detokenize", {"tokens": [token]})
    assert reply.status == 400
    assert reply.json["error"]["type"] == "invalid_request_error"


def test_the_slots(http: PlainHttp) -> None:
    """Per model: how many there are, how many are busy, how many wait; and no content of anybody's request."""
    (report,) = http.get("/slots").json
    assert report["model"] == "demo"
    assert report["state"] == "ready"
    assert report["capacity"] == 4
    assert report["waiting"] == 0
    assert [slot["id"] for slot in report["slots"]] == [0, 1, 2, 3]
    assert all(set(slot) == {"id", "n_ctx", "is_processing"} for slot in report["slots"])


def test_the_simplest_call(http: PlainHttp) -> None:
    """A text is enough: the first model answers, and the usage adds up."""
    reply = http.post("/generate", {"text": "hello"})
    assert reply.status == 200
    assert reply.json["model"] == "demo"
    assert isinstance(reply.json["text"], str)
    assert reply.json["finish_reason"] in ("stop", "length")
    usage = reply.json["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_the_simplest_call_with_all_it_takes(http: PlainHttp) -> None:
    """With a limit and without temperature, with and without the model's name, the answer is the same."""
    asked: dict[str, Any] = {"text": "hello", "max_tokens": 5, "temperature": 0}
    plain = http.post("/generate", asked).json
    named = http.post("/generate", {**asked, "model": "demo", "top_p": 1, "seed": 1, "stop": ["\x00"]}).json
    assert plain["text"] == named["text"]
    assert plain["usage"]["completion_tokens"] <= 5


def test_the_simplest_call_streamed(http: PlainHttp) -> None:
    """Pieces of text, then how it ended, then [DONE]; the pieces add up to the whole answer."""
    asked: dict[str, Any] = {"text": "hello", "max_tokens": 12, "temperature": 0}
    reply = http.post("/generate", {**asked, "stream": True})
    assert reply.headers["content-type"].startswith("text/event-stream")
    *events, done = reply.events
    *pieces, last = [json.loads(event) for event in events]
    whole = http.post("/generate", asked).json
    assert done == "[DONE]"
    assert all(set(piece) == {"text"} for piece in pieces)
    assert "".join(piece["text"] for piece in pieces) == whole["text"]
    assert last["finish_reason"] == whole["finish_reason"]
    assert last["usage"] == whole["usage"]


@pytest.mark.parametrize("path", ["/health", "/health/ready"])
def test_health_of_a_ready_gateway(http: PlainHttp, path: str) -> None:
    """200 without a key, with the state of each model."""
    reply = http.get(path, key=None)
    assert reply.status == 200
    assert reply.json == {"status": "ok", "models": {"demo": "ready"}}


@pytest.mark.parametrize("key", [None, "", "wrong"], ids=["none", "the right one", "a wrong one"])
def test_liveness_with_any_key(http: PlainHttp, key: str | None) -> None:
    """It asks for nothing: whoever restarts the gateway holds no key."""
    reply = http.get("/health/live", key=key)
    assert reply.status == 200
    assert reply.json == {"status": "ok"}


def test_the_front_page(http: PlainHttp) -> None:
    """It says what this is and where the documentation stands."""
    assert http.get("/", key=None).json["docs"] == "/docs"


def test_the_backlog_is_open_and_counts_only(http: PlainHttp) -> None:
    """What an autoscaler reads: numbers, by model, without a key."""
    reply = http.get("/health/backlog", key=None)
    assert reply.status == 200
    numbers = {"requests": 0, "waiting_requests": 0, "waiting_tokens": 0, "running": 0, "slots": 4}
    assert reply.json == {"models": {"demo": numbers}}
