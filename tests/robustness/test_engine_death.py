"""The engine dies, hangs, does not start, or is late: clients are told in time, and it comes back by itself."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rawhttp import (
    Answer,
    Client,
    Start,
    ask,
    chat,
    descendants,
    events,
    free_within_a_second,
    frozen,
    head,
    in_service,
    long_chat,
    post,
    still_works,
    until,
    waiting,
)

import engines
from serving import Gateway

USER = [{"role": "user", "content": "hello"}]
LONG = 1900

STREAMS: dict[str, tuple[dict[str, Any], Callable[[Any], Any]]] = {
    "/v1/chat/completions": (chat(max_tokens=LONG), lambda last: last["error"]["code"]),
    "/v1/completions": (
        {"model": "demo", "prompt": "a", "max_tokens": LONG},
        lambda last: last["error"]["code"],
    ),
    "/generate": ({"text": "a", "max_tokens": LONG}, lambda last: last["error"]["code"]),
    "/v1/responses": (
        {"model": "demo", "input": "a", "max_output_tokens": LONG},
        lambda last: last["type"] == "response.failed" and last["response"]["status"] == "failed" and "engine_failed",
    ),
    "/v1/messages": (
        {"model": "demo", "messages": USER, "max_tokens": LONG},
        lambda last: last["type"] == "error" and last["error"]["type"] == "api_error" and "engine_failed",
    ),
}


def engine_of(gateway: Gateway) -> int:
    """The process that does the inference: the last in line, behind lifeline.py where there is one."""
    return descendants(gateway.process.pid)[-1]


def test_killed_in_the_middle_of_streams(start: Start, tmp_path: Path) -> None:
    """Each client of each API gets its terminal event within 2 s, one that does not stream a 502; those who wait are
    served by the next engine, which comes by itself."""
    binary = engines.endless(tmp_path)
    gateway = start(f"models: {{demo: {{source: demo, slots: 6, threads: 1, engine_binary: {binary}}}}}")
    streams = {path: Client(gateway) for path in STREAMS}
    for path, client in streams.items():
        client.send(post({**STREAMS[path][0], "stream": True}, path=path))
        client.read_until(b"data: ")
    whole = Client(gateway)
    whole.send(post(chat(max_tokens=LONG)))
    until(lambda: in_service(gateway) == 6, "all slots are taken")
    waiters = [Client(gateway) for _ in range(4)]
    for waiter in waiters:
        waiter.send(post(chat()))
    until(lambda: waiting(gateway) == 4, "they wait")

    told_s: dict[str, float] = {}
    answers: dict[str, bytes] = {}

    def listen(name: str, read: Callable[[], bytes]) -> None:
        answers[name] = read()
        told_s[name] = time.monotonic()

    listeners = [threading.Thread(target=listen, args=(path, client.answer_body)) for path, client in streams.items()]
    for listener in listeners:
        listener.start()
    killed_s = time.monotonic()
    os.kill(engine_of(gateway), signal.SIGKILL)
    for listener in listeners:
        listener.join()
    for path, (_, code) in STREAMS.items():
        assert told_s[path] - killed_s < 2.0, path
        last = events(b"data: " + answers[path])[-1]
        assert code(last) == "engine_failed", (path, last)
    answer = whole.answer()
    assert (answer.status, answer.code) == (502, "engine_failed")
    gateway.wait_for(event="replica", state="restarting")
    gateway.wait_for(event="replica", state="ready")
    assert [waiter.answer().status for waiter in waiters] == [200] * 4
    for client in (*streams.values(), whole, *waiters):
        client.close()
    free_within_a_second(gateway)


def test_killed_before_the_first_token(start: Start) -> None:
    """Nothing was sent yet, so it is an ordinary refusal: 502 for a stream, too."""
    gateway = start("models: {demo: {source: demo, slots: 1, threads: 1}}")
    for stream in (True, False):
        with Client(gateway) as client:
            engine = engine_of(gateway)
            with frozen(engine):
                client.send(post(chat(stream=stream)))
                until(lambda: in_service(gateway) == 1, "it has its slot")
                os.kill(engine, signal.SIGKILL)
                answer = client.answer()
        assert (answer.status, answer.code) == (502, "engine_failed")
        assert "killed by signal 9" in gateway.wait_for(event="replica", state="restarting")["reason"]
        gateway.wait_for(event="replica", state="ready")
        still_works(gateway)


def test_killed_while_nobody_asks(start: Start) -> None:
    """The connections that are kept open to the old engine are no trouble for the next one."""
    gateway = start("models: {demo: {source: demo, slots: 1, threads: 1}}")
    for _ in range(2):
        still_works(gateway)
        os.kill(engine_of(gateway), signal.SIGKILL)
        gateway.wait_for(event="replica", state="restarting")
        gateway.wait_for(event="replica", state="ready")
    still_works(gateway)


def test_it_hangs(start: Start) -> None:
    """After `idle_timeout`: 504, and for a stream that has begun its terminal event. It is ended and started anew;
    those who wait in the queue do not fail likewise, they wait for the next one."""
    gateway = start("models: {demo: {source: demo, slots: 2, threads: 1, idle_timeout: 1s}}")
    clients = stream, whole, waiter = [Client(gateway) for _ in range(3)]
    stream.send(post(long_chat(stream=True)))
    stream.read_until(b"data: ")
    engine = engine_of(gateway)
    with frozen(engine):
        whole.send(post(chat()))
        until(lambda: in_service(gateway) == 2, "both slots are taken")
        waiter.send(post(chat()))
        answer = whole.answer()
        assert (answer.status, answer.code) == (504, "engine_timeout")
        assert events(b"data: " + stream.answer_body())[-1]["error"]["code"] == "engine_timeout"
        assert "/health" in gateway.wait_for(event="replica", state="restarting")["reason"]
        gateway.wait_for(event="replica", state="ready")
    assert waiter.answer().status == 200
    for client in clients:
        client.close()
    assert engine_of(gateway) != engine
    free_within_a_second(gateway)


def test_it_pauses_for_less_than_the_limit(start: Start) -> None:
    """A short silence changes nothing."""
    gateway = start("models: {demo: {source: demo, slots: 1, threads: 1, idle_timeout: 30s}}")
    with Client(gateway) as client:
        client.send(post(chat(stream=True, max_tokens=300, ignore_eos=True)))
        client.read_until(b"data: ")
        with frozen(engine_of(gateway)):
            assert ask(gateway, head("GET", "/health", key=None)).status == 200
        assert b"[DONE]" in client.answer_body()


def test_it_never_starts(start: Start, tmp_path: Path) -> None:
    """/health says 503, requests are told 503 with Retry-After, the event has the engine's own words, and the gateway
    tries on: once the fault is mended, it serves."""
    gate = tmp_path / "gate"
    gateway = start(f"models: {{demo: {{source: demo, engine_binary: {engines.broken(tmp_path, gate)}}}}}", ready=False)
    for _ in range(2):
        assert "the moon is full" in gateway.wait_for(event="replica", state="failed")["reason"]
    health = ask(gateway, head("GET", "/health", key=None))
    assert health.status == 503
    for stream in (True, False):
        refused = ask(gateway, post(chat(stream=stream)))
        assert (refused.status, refused.json["error"]["type"]) == (503, "server_error")
        assert int(refused.headers["retry-after"]) >= 1
    assert gateway.process.poll() is None
    gate.touch()
    gateway.wait_for(event="replica", state="ready")
    still_works(gateway)
    assert ask(gateway, head("GET", "/health", key=None)).status == 200


def test_a_file_that_the_engine_refuses(start: Start, tmp_path: Path) -> None:
    """The event has the real reason, clients are told 503, the gateway stays."""
    import inhouse.weights

    demo = (Path(inhouse.weights.__file__).parent / "demo.gguf").read_bytes()
    key = b"general.architecture"
    value = demo.index(b"llama", demo.index(key) + len(key))
    (tmp_path / "bad.gguf").write_bytes(demo[:value] + b"lla_a" + demo[value + 5 :])
    gateway = start(f"models: {{demo: {{source: {tmp_path}/bad.gguf}}}}", ready=False)
    reason = gateway.wait_for(event="replica", state="failed")["reason"]
    assert "unknown model architecture: 'lla_a'" in reason
    answer = ask(gateway, post(chat()))
    assert answer.status == 503
    assert answer.code in ("model_failed", "model_loading")
    assert "retry-after" in answer.headers
    assert gateway.process.poll() is None


def test_a_binary_that_is_not_there(start: Start, tmp_path: Path) -> None:
    gateway = start(f"models: {{demo: {{source: demo, engine_binary: {tmp_path}/nowhere}}}}", ready=False)
    assert "nowhere" in gateway.wait_for(event="replica", state="failed")["reason"]
    assert ask(gateway, post(chat())).status == 503


def test_a_model_that_loads_slowly(start: Start, tmp_path: Path) -> None:
    """`Prefer: wait=20` waits and is answered; without it there is a 503 that says when to come back; with too short a
    wait likewise."""
    gate = tmp_path / "gate"
    gateway = start(f"models: {{demo: {{source: demo, engine_binary: {engines.late(tmp_path, gate)}}}}}", ready=False)
    gateway.wait_for(event="replica", state="loading")
    assert ask(gateway, head("GET", "/health", key=None)).status == 503
    for lines in ((), ("Prefer: wait=1",), ("Prefer: respond-async",)):
        answer = ask(gateway, post(chat(), *lines))
        assert (answer.status, answer.code) == (503, "model_loading")
        assert int(answer.headers["retry-after"]) >= 1
    with Client(gateway) as client:
        client.send(post(chat(), "Prefer: respond-async, wait=60"))
        until(lambda: waiting(gateway) == 1, "it waits")
        gate.touch()
        assert client.answer().status == 200


def test_who_waits_too_long(start: Start) -> None:
    """504 after `queue_wait_max`, with when to come back."""
    gateway = start("models: {demo: {source: demo, slots: 1, threads: 1, queue_wait_max: 1s}}")
    with Client(gateway) as busy, frozen(engine_of(gateway)):
        busy.send(post(long_chat(stream=True)))
        until(lambda: in_service(gateway) == 1, "the slot is taken")
        answer: Answer = ask(gateway, post(chat(stream=True)))
        assert (answer.status, answer.code) == (504, "queue_timeout")
        assert int(answer.headers["retry-after"]) >= 1
        assert in_service(gateway) == 1


def test_a_long_path_of_the_temporary_folder(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket's path is at most some 104 characters: the engine is reached all the same."""
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setenv("TMPDIR", str(deep))
    gateway = start()
    still_works(gateway)
    assert gateway.stop() == 0
    shutil.rmtree(deep)


@pytest.mark.parametrize("slots", [3, 7])
def test_any_number_of_slots(start: Start, slots: int) -> None:
    """llama.cpp can pool embeddings of any number of sequences only if its batch divides by them."""
    gateway = start(f"models: {{demo: {{source: demo, slots: {slots}, threads: 1}}}}")
    still_works(gateway)
    answer = ask(gateway, post({"model": "demo", "input": ["a", "b c"] * slots}, path="/v1/embeddings"))
    assert len(answer.json["data"]) == 2 * slots


def test_a_failed_assertion_of_the_engine(start: Start) -> None:
    """Its own words are in the event, and it ends at once also where a debugger is installed, which it would call."""
    gateway = start("models: {demo: {source: demo, slots: 3, engine_args: [--ubatch-size, '512']}}", ready=False)
    assert "GGML_ASSERT" in gateway.wait_for(event="replica", state="failed")["reason"]
