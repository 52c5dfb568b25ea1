"""Two copies of a real llama.cpp that the gateway itself started, one of which is killed while it answers."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rawhttp import Client, ask, descendants, events, post, until

from serving import Gateway, started

TOKENS = 600
KILLED_BEHIND = (3, 200)
"""Events of a stream after which its engine is killed."""
STACK = """
gateway: {port: 0}
models:
  demo: {source: demo, replicas: 2, slots: 1, context: 2048, routing: {policy: round-robin}}
"""
BODY = {
    "model": "demo",
    "messages": [{"role": "user", "content": "Tell me a story about a cat"}],
    "temperature": 0,
    "max_tokens": TOKENS,
    "ignore_eos": True,
    "stream": True,
    "stream_options": {"include_usage": True},
}


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    running = started(tmp_path, STACK)
    try:
        for _ in range(2):
            running.wait_for(event="replica", state="ready")
        yield running
    finally:
        running.stop(9)


def engines(gateway: Gateway) -> list[int]:
    """The processes that do the inference: each the last in its line, behind what holds its life."""
    return [[child, *descendants(child)][-1] for child in gateway.engine_pids()]


class Listener(threading.Thread):
    """One client. `heard` is set behind so many events of its stream."""

    def __init__(self, gateway: Gateway, behind: int) -> None:
        super().__init__()
        self.heard = threading.Event()
        self.lines: list[bytes] = []
        self._gateway = gateway
        self._behind = behind
        self.start()

    def run(self) -> None:
        with Client(self._gateway) as client:
            client.send(post(BODY, "Connection: close", version="1.0"))
            client.read_until(b"\r\n\r\n")
            count = 0
            while not (self.lines and self.lines[-1] == b"data: [DONE]\n\n"):
                self.lines.append(client.read_until(b"\n\n"))
                count += 1
                if count == self._behind:
                    self.heard.set()

    @property
    def answer(self) -> tuple[str, dict[str, int], int]:
        return told(b"".join(self.lines))


def in_the_middle(gateway: Gateway, behind: int) -> list[Listener] | None:
    """Two streams, one of each replica, of which so many events have come; None where one was over before."""
    listeners = [Listener(gateway, behind) for _ in range(2)]
    assert all(one.heard.wait(60) for one in listeners)
    if all(one.is_alive() for one in listeners):
        return listeners
    for one in listeners:
        one.join(60)
    return None


def told(stream: bytes) -> tuple[str, dict[str, int], int]:
    """Text, usage, and how often it went on elsewhere."""
    found = events(stream)
    assert found.pop() == "[DONE]", stream[-300:]
    usage: dict[str, Any] = found[-1]["usage"]
    usage.pop("prompt_tokens_details", None)
    assert len({one["id"] for one in found}) == 1
    text = "".join(choice["delta"].get("content") or "" for one in found for choice in one["choices"])
    return text, usage, stream.count(b": failover")


def test_a_replica_is_killed_in_the_middle_of_its_stream(gateway: Gateway) -> None:
    """Both clients have the whole answer, word for word and counted right; one of them from two replicas."""
    whole, usage, moved = told(ask(gateway, post(BODY)).body)
    assert (usage["completion_tokens"], moved) == (TOKENS, 0)
    for behind in KILLED_BEHIND:
        victims = engines(gateway)
        assert len(victims) == 2
        listeners = until(lambda behind=behind: in_the_middle(gateway, behind), "both replicas answer at once")
        os.kill(victims[behind % 2], signal.SIGKILL)
        for one in listeners:
            one.join(60)
            assert not one.is_alive()
        answers = [one.answer for one in listeners]
        assert [answer[:2] for answer in answers] == [(whole, usage)] * 2
        assert sorted(answer[2] for answer in answers) == [0, 1]
        gateway.wait_for(event="replica", state="ready")  # it has come back
