"""A stream that waits for a slot: comments keep its line open and say where it stands, in every API."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from rawhttp import (
    Answer,
    Client,
    Start,
    ask,
    chat,
    events,
    free_within_a_second,
    frozen,
    long_chat,
    post,
    until,
    waiting,
)

import engines
from clients import client_at, closed_later
from serving import KEY, Gateway, serving

STACK = """
models:
  demo: {source: demo, slots: 1, threads: 1, queue_notice_every: 200ms}
  quiet: {source: demo, slots: 1, threads: 1}
"""
NOTICE = re.compile(rb"^: queued position=([0-9]+) wait_s=([0-9.]+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving(tmp_path_factory.mktemp("waiting"), STACK) as running:
        running.wait_for(event="replica", state="ready")
        yield running


@contextlib.contextmanager
def occupied(gateway: Gateway, model: str = "demo") -> Iterator[Client]:
    """The model's one slot is taken, by an answer that does not go on until the block ends."""
    with Client(gateway) as client, contextlib.ExitStack() as stopped:
        client.send(post(long_chat(model=model, stream=True)))
        client.read_until(b"data: ")
        for pid in gateway.engine_pids():
            stopped.enter_context(frozen(pid))
        yield client


PATHS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": chat(stream=True),
    "/v1/completions": {"model": "demo", "prompt": "hello", "max_tokens": 4, "stream": True},
    "/v1/responses": {"model": "demo", "input": "hello", "max_output_tokens": 4, "stream": True},
    "/v1/messages": chat(stream=True),
    "/generate": {"model": "demo", "text": "hello", "max_tokens": 4, "stream": True},
}


@pytest.mark.parametrize("path", PATHS)
def test_a_stream_that_waits(gateway: Gateway, path: str) -> None:
    """It hears its place and a guess of its wait more than once, then its answer, in the same response."""
    with Client(gateway) as waiter:
        with occupied(gateway):
            waiter.send(post(PATHS[path], path=path))
            head = waiter.read_until(b"\r\n\r\n")
            notices = b"".join(waiter.read_until(b"\n\n") for _ in range(3))
        rest = waiter.answer_body()
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"text/event-stream" in head
    assert b"x-inhouse-queue-wait" not in head, "how long it will wait is not known yet"
    found = NOTICE.findall(notices)
    assert [position for position, _ in found] == [b"1"] * 3
    assert all(0 < float(wait_s) < 60 for _, wait_s in found)
    assert b"data: " in rest
    assert b'"error":{' not in rest
    free_within_a_second(gateway)


@pytest.mark.parametrize("path", PATHS)
def test_a_stream_that_waited_too_long(gateway: Gateway, path: str) -> None:
    """Its response has begun: the refusal is the terminal event of its API, and the connection can be used again."""
    with occupied(gateway), Client(gateway) as waiter:
        waiter.send(post(PATHS[path], "x-inhouse-timeout: wait=1", path=path))
        assert waiter.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        body = waiter.answer_body()
        assert NOTICE.search(body)
        assert b"[DONE]" not in body
        last = events(body)[-1]
        error = last.get("response", last)["error"]
        assert "within 1 s" in error["message"]
        if path == "/v1/messages":
            assert b"event: error" in body
            assert error["type"] == "timeout_error"
        elif path == "/v1/responses":
            assert b"event: response.failed" in body or b"event: error" in body
        else:
            assert error["code"] == "queue_timeout"
        waiter.send(post(chat(model="no-such")))
        assert waiter.answer().status == 404
    free_within_a_second(gateway)


def test_those_behind_one_another(gateway: Gateway) -> None:
    """Each hears its own place."""
    with Client(gateway) as first, Client(gateway) as second:
        with occupied(gateway):
            for number, client in enumerate((first, second), start=1):
                client.send(post(chat(stream=True)))
                until(lambda number=number: waiting(gateway) == number, "it waits")
            assert b"position=1 " in first.read_until(b"\n\n")
            assert b"position=2 " in second.read_until(b"\n\n")
        for client in (first, second):
            assert b"[DONE]" in client.answer_body()
    free_within_a_second(gateway)


def test_the_wait_is_told_in_a_header(gateway: Gateway) -> None:
    """Of a stream that heard nothing yet, and of a whole answer; not of one that did not wait."""
    for stream in (True, False):
        with Client(gateway) as waiter:
            with occupied(gateway, "quiet"):
                waiter.send(post(chat(model="quiet", stream=stream)))
                until(lambda: waiting(gateway, "quiet") == 1, "it waits")
            answer = waiter.answer()
        assert answer.status == 200
        assert b"queued" not in answer.body
        assert 0 < float(answer.headers["x-inhouse-queue-wait"]) < 30
    assert "x-inhouse-queue-wait" not in ask(gateway, post(chat(model="quiet"))).headers


def test_a_client_that_does_not_stream(gateway: Gateway) -> None:
    """Hears nothing while it waits, and an ordinary refusal after it."""
    with occupied(gateway):
        answer = ask(gateway, post(chat(), "x-inhouse-timeout: wait=1"))
    assert (answer.status, answer.code) == (504, "queue_timeout")
    assert int(answer.headers["retry-after"]) >= 1


def test_before_the_first_notice(gateway: Gateway) -> None:
    """A refusal that comes earlier is an ordinary one also for a stream."""
    with occupied(gateway, "quiet"):
        answer = ask(gateway, post(chat(model="quiet", stream=True), "Prefer: wait=1"))
    assert (answer.status, answer.code) == (504, "queue_timeout")


def test_choices_that_wait(gateway: Gateway) -> None:
    """Several jobs of one request wait: the client hears it once at a time."""
    with Client(gateway) as waiter:
        with occupied(gateway):
            waiter.send(post(chat(stream=True, n=3)))
            waiter.read_until(b"\r\n\r\n")
            for _ in range(3):
                waiter.read_until(b": queued")
        body = waiter.answer_body()
    assert {choice["index"] for event in events(body)[:-1] for choice in event["choices"]} == {0, 1, 2}
    free_within_a_second(gateway)


def test_a_library_that_will_hang_up(gateway: Gateway) -> None:
    """A whole answer's client is told a moment before its own timeout; it need not guess what happened."""
    client = client_at(gateway, timeout_s=2.0)
    with occupied(gateway), pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="demo", messages=[{"role": "user", "content": "hello"}])
    assert caught.value.status_code == 504
    assert caught.value.code == "queue_timeout"


def _chat(gateway: Gateway, **headers: str) -> Iterator[str]:
    stream = client_at(gateway).chat.completions.create(**chat(stream=True), extra_headers=headers)
    return (chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


def _completions(gateway: Gateway, **headers: str) -> Iterator[str]:
    stream = client_at(gateway).completions.create(
        model="demo", prompt="hello", max_tokens=4, stream=True, extra_headers=headers
    )
    return (chunk.choices[0].text for chunk in stream if chunk.choices)


def _responses(gateway: Gateway, **headers: str) -> Iterator[str]:
    stream = client_at(gateway).responses.create(
        model="demo", input="hello", max_output_tokens=4, stream=True, extra_headers=headers
    )
    return (event.delta for event in stream if event.type == "response.output_text.delta")


def _messages(gateway: Gateway, **headers: str) -> Iterator[str]:
    claude = closed_later(anthropic.Anthropic(base_url=gateway.url, api_key=KEY, max_retries=0, timeout=20.0))
    stream = claude.messages.create(**chat(stream=True), extra_headers=headers)
    return (event.delta.text for event in stream if event.type == "content_block_delta")


OFFICIAL = [_chat, _completions, _responses, _messages]


@pytest.mark.parametrize("create", OFFICIAL)
def test_the_official_clients(gateway: Gateway, create: Callable[..., Iterator[str]]) -> None:
    """They read a stream with comments in front as any other."""
    with occupied(gateway):
        texts = create(gateway)  # returns with the response's head, which the first comment has brought
        assert waiting(gateway) == 1
    assert "".join(texts)
    free_within_a_second(gateway)


@pytest.mark.parametrize("create", [_chat, _completions, _messages])
def test_the_official_clients_and_a_wait_too_long(gateway: Gateway, create: Callable[..., Iterator[str]]) -> None:
    """They raise their usual error in the middle of the stream."""
    with occupied(gateway):
        texts = create(gateway, **{"x-inhouse-timeout": "wait=1"})
        with pytest.raises((openai.APIError, anthropic.APIError), match="no slot of 'demo' became free within 1 s"):
            "".join(texts)
    free_within_a_second(gateway)


def test_a_model_that_loads(start: Start, tmp_path: Path) -> None:
    """Its place is told without a guess of the wait; the answer comes once the model is there.

    How long one may wait for a slot says nothing about how long one may wait for a model.
    """
    gate = tmp_path / "gate"
    binary = engines.late(tmp_path, gate)
    model = (
        f"{{source: demo, engine_binary: {binary}, load_wait: 60s, queue_wait_max: 100ms, queue_notice_every: 200ms}}"
    )
    gateway = start(f"models: {{demo: {model}}}", ready=False)
    with Client(gateway) as client:
        client.send(post(chat(stream=True)))
        assert client.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        assert b": queued position=1 model=loading" in client.read_until(b"\n\n")
        gate.touch()
        assert b"[DONE]" in client.answer_body()


def test_the_server_stops_while_a_stream_waits(start: Start) -> None:
    """Ctrl-C: the stream that has begun ends with an event that says so."""
    gateway = start("models: {demo: {source: demo, slots: 1, threads: 1, queue_notice_every: 200ms}}")
    with occupied(gateway), Client(gateway) as waiter:
        waiter.send(post(chat(stream=True)))
        waiter.read_until(b": queued")
        gateway.process.send_signal(2)
        assert events(waiter.answer_body())[-1]["error"]["code"] == "shutting_down"


def test_many_that_wait(gateway: Gateway) -> None:
    """A hundred streams hear of it, and each is answered in the end."""
    answers: list[Answer] = []

    def one() -> None:
        answers.append(ask(gateway, post(chat(stream=True, max_tokens=2))))

    with occupied(gateway):
        threads = [threading.Thread(target=one) for _ in range(100)]
        for thread in threads:
            thread.start()
        until(lambda: waiting(gateway) == 100, "all wait")
    for thread in threads:
        thread.join(timeout=60)
    assert [answer.status for answer in answers] == [200] * 100
    assert all(b"[DONE]" in answer.body for answer in answers)
    free_within_a_second(gateway)
