"""Each stage of a request has its limit: who passes it is told so in its own words, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rawhttp import (
    Client,
    Start,
    ask,
    chat,
    descendants,
    events,
    free_within_a_second,
    frozen,
    long_chat,
    post,
    still_works,
    until,
)

import engines
from fake_engine import binary
from serving import Gateway, serving

STACK = """
models:
  demo:
    source: demo
    engine_binary: {engine}
    slots: 1
    threads: 1
    first_token_timeout: 1s
    token_gap_timeout: 1s
tenants:
  default: {{limits: {{concurrent_requests: 1, tokens_per_minute: 1000000}}}}
"""
LONG = long_chat()
RESPONSES = {"model": "demo", "input": "hello", "max_output_tokens": 1900}
APIS = {"/v1/chat/completions": LONG, "/v1/messages": LONG, "/v1/responses": RESPONSES}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One request at a time by quota: whoever is let in proves that the one before gave all of it back."""
    folder = tmp_path_factory.mktemp("timeouts")
    with serving(folder, STACK.format(engine=engines.endless(folder))) as running:
        yield running


@contextlib.contextmanager
def hanging(gateway: Gateway) -> Iterator[None]:
    """The engine stands still for the block."""
    with frozen(descendants(gateway.process.pid)[-1]):
        yield


def given_back(gateway: Gateway, tokens_max: int = 40) -> None:
    """The next request is let in by the quota at once, and of the minute's tokens only those sent are gone."""
    free_within_a_second(gateway)
    answer = ask(gateway, post(chat(max_tokens=1)))
    assert answer.status == 200, answer
    assert int(answer.headers["x-ratelimit-remaining-tokens"]) > 1_000_000 - tokens_max - 5000


def code_of(body: Any) -> str:
    """Of an OpenAI error or an Anthropic one, which has no codes of its own."""
    error = body.get("response", body)["error"]
    return str(error.get("code") or error["type"])


@pytest.mark.parametrize("path", APIS)
@pytest.mark.parametrize("stream", [True, False])
def test_no_first_token(gateway: Gateway, path: str, stream: bool) -> None:
    """A 504 with its code, also for a stream: nothing was sent yet."""
    with hanging(gateway):
        answer = ask(gateway, post({**APIS[path], "stream": stream}, path=path))
    assert answer.status == 504
    assert code_of(answer.json) == ("timeout_error" if path == "/v1/messages" else "first_token_timeout")
    assert "first_token_timeout" in answer.json["error"]["message"]
    given_back(gateway)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_the_next_token_does_not_come(gateway: Gateway, path: str) -> None:
    """The stream ends with the error event of its API."""
    with Client(gateway) as client:
        client.send(post({**APIS[path], "stream": True}, path=path))
        client.read_until(b'"content' if path != "/v1/messages" else b"content_block_delta")
        client.read_until(b"\n\n")
        with hanging(gateway):
            last = events(client.answer_body())[-1]
    assert code_of(last) == ("timeout_error" if path == "/v1/messages" else "token_gap_timeout")
    assert "token_gap_timeout" in last["error"]["message"]
    given_back(gateway)


def test_the_next_token_of_a_whole_answer_does_not_come(gateway: Gateway) -> None:
    with Client(gateway) as client:
        client.send(post(LONG))
        until(lambda: gateway.get("/slots")[0]["slots"][0]["is_processing"], "the engine is at it")
        with hanging(gateway):
            answer = client.answer()
    assert answer.status == 504
    assert answer.code in ("token_gap_timeout", "first_token_timeout")
    given_back(gateway)


@pytest.mark.parametrize("stream", [True, False])
def test_the_whole_takes_too_long(gateway: Gateway, stream: bool) -> None:
    """Also where tokens go on coming; the client lowers the limit here."""
    with Client(gateway) as client:
        client.send(post(long_chat(stream=stream, n=3), "x-inhouse-timeout: total=0.3"))
        answer = client.answer()
    if stream and answer.status == 200:
        assert events(answer.body)[-1]["error"]["code"] == "total_timeout"
    else:
        assert (answer.status, answer.code) == (504, "total_timeout")
        assert "`x-inhouse-timeout`" in answer.json["error"]["message"]
    given_back(gateway, tokens_max=3000)


def test_a_client_cannot_raise_a_limit(gateway: Gateway) -> None:
    with hanging(gateway):
        answer = ask(gateway, post(LONG, "x-inhouse-timeout: first-token=1000, total=1000"))
    assert answer.code == "first_token_timeout"
    given_back(gateway)


def test_a_header_that_says_nothing(gateway: Gateway) -> None:
    answer = ask(gateway, post(chat(), "x-inhouse-timeout: soon"))
    assert (answer.status, answer.code) == (400, "invalid_value")
    assert "soon" not in answer.body.decode()
    still_works(gateway)


def test_the_whole_takes_too_long_while_it_waits(start: Start) -> None:
    """The same error in every stage: a request in the queue, and one that waits for its model."""
    gateway = start("models: {demo: {source: demo, slots: 1, threads: 1, total_timeout: 1s}}")
    with Client(gateway) as busy:
        busy.send(post(long_chat(stream=True)))
        busy.read_until(b"\n\n")
        with hanging(gateway):
            answer = ask(gateway, post(chat()))
            assert (answer.status, answer.code) == (504, "total_timeout")
            assert events(busy.answer_body())[-1]["error"]["code"] == "total_timeout"
    free_within_a_second(gateway)
    still_works(gateway)


def test_an_engine_that_hangs_behind_a_short_limit(start: Start) -> None:
    """The request leaves long before the engine counts as dead; the engine is asked how it is, and started anew."""
    model = "{source: demo, slots: 1, threads: 1, first_token_timeout: 1s, idle_timeout: 2s}"
    gateway = start(f"models: {{demo: {model}}}")
    with hanging(gateway):
        assert ask(gateway, post(chat())).code == "first_token_timeout"
        gateway.wait_for(event="replica", state="restarting")
    gateway.wait_for(event="replica", state="ready")
    still_works(gateway)


def test_a_long_answer_within_its_limits(tmp_path: Path) -> None:
    """A limit of the gap is none of the whole: an answer that takes several times as long comes to its end."""
    engine = binary(tmp_path, tokens_per_s=5)
    model = f"{{source: demo, engine_binary: {engine}, token_gap_timeout: 1s, first_token_timeout: 5s}}"
    with serving(tmp_path, f"models: {{demo: {model}}}") as gateway, Client(gateway) as client:
        begun_s = time.monotonic()
        client.send(post(chat(stream=True, max_tokens=20), "Prefer: wait=30"))
        assert b"[DONE]" in client.answer_body()
        assert time.monotonic() - begun_s > 3
