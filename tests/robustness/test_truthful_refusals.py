"""Refusals at the door of the queue: each has its status and code, and what it says of the time to come is kept."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rawhttp import Client, Start, ask, chat, free_within_a_second, frozen, in_service, long_chat, post, until, waiting

import engines
from serving import Gateway, serving

STACK = "models: {demo: {source: demo, slots: 1, threads: 1, queue_requests_max: 2, queue_wait_max: 3s}}"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving(tmp_path_factory.mktemp("refusals"), STACK) as running:
        yield running


def test_full(gateway: Gateway) -> None:
    """429, the message says how many wait and may, and whoever comes back after `Retry-After`, alone, is let in."""
    with Client(gateway) as busy, Client(gateway) as first, Client(gateway) as second, Client(gateway) as third:
        busy.send(post(long_chat(stream=True)))
        busy.read_until(b"\n\n")
        with frozen(gateway.engine_pids()[0]):
            for number, client in enumerate((first, second), start=1):
                client.send(post(chat()))
                until(lambda number=number: waiting(gateway) == number, "it waits")
            answer = ask(gateway, post(chat()))
            refused_s = time.monotonic()
            assert (answer.status, answer.code) == (429, "queue_full")
            retry_after_s = int(answer.headers["retry-after"])
            message = answer.json["error"]["message"]
            assert "the queue for 'demo' is full: with this request 3 requests would wait, 2 may" in message
            assert re.search(r"retry in (\d+) s", message)[1] == str(retry_after_s)
            assert 1 <= retry_after_s <= 3, "those that wait have left by their deadlines at the latest"
            assert [client.answer().code for client in (first, second)] == ["queue_timeout"] * 2
            assert time.monotonic() - refused_s < retry_after_s + 0.5
            third.send(post(chat()))
            until(lambda: waiting(gateway) == 1, "it is let in")
        busy.close()
        assert third.answer().status == 200
    free_within_a_second(gateway)


def test_waited_too_long(gateway: Gateway) -> None:
    """504; its `Retry-After` is the pace of late, by which one that holds the slot for long makes itself felt."""
    with Client(gateway) as busy:
        busy.send(post(long_chat(stream=True)))
        busy.read_until(b"\n\n")
        with frozen(gateway.engine_pids()[0]):
            answer = ask(gateway, post(chat()))
            assert (answer.status, answer.code) == (504, "queue_timeout")
            assert "waited 3 s for a slot of 'demo' (1 in service)" in answer.json["error"]["message"]
            assert int(answer.headers["retry-after"]) >= 3
            assert in_service(gateway) == 1
    free_within_a_second(gateway)


def test_nothing_is_ready(start: Start, tmp_path: Path) -> None:
    """503: at once where nobody wants to wait, after the wait where somebody did."""
    binary = engines.late(tmp_path, tmp_path / "never")
    gateway = start(f"models: {{demo: {{source: demo, engine_binary: {binary}, load_wait: 1s}}}}", ready=False)
    for stream in (True, False):
        answer = ask(gateway, post(chat(stream=stream)))
        assert (answer.status, answer.code) == (503, "model_loading")
        assert int(answer.headers["retry-after"]) >= 1
