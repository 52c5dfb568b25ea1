"""Many clients at once, and clients that do not read: everyone is answered, and memory stays within bounds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rawhttp import (
    Client,
    Start,
    chat,
    free_within_a_second,
    in_service,
    post,
    resident_mib,
    still_works,
    until,
)

import engines
from serving import Gateway

RESIDENT_MIB_MAX = 150


def test_two_hundred_connections_on_four_slots(start: Start) -> None:
    """All are answered, streams and others; the gateway stays small."""
    gateway = start("models: {demo: {source: demo, slots: 4, threads: 1, queue_wait_max: 300s}}")
    before_mib = resident_mib(gateway.process.pid)
    with contextlib.ExitStack() as opened:
        clients = [opened.enter_context(Client(gateway)) for _ in range(200)]
        for number, client in enumerate(clients):
            client.send(post(chat(stream=number % 2 == 0, max_tokens=8, ignore_eos=True)))
        found = [client.answer() for client in clients]
    assert [answer.status for answer in found] == [200] * 200
    assert sum(b"[DONE]" in answer.body for answer in found) == 100
    after_mib = resident_mib(gateway.process.pid)
    print(f"gateway: {before_mib:.1f} MiB before, {after_mib:.1f} MiB after")
    assert after_mib < RESIDENT_MIB_MAX
    free_within_a_second(gateway)


@pytest.fixture
def flooded(start: Start, tmp_path: Path) -> tuple[Gateway, Callable[[], int]]:
    """A gateway before an engine that streams without end, and how many bytes that engine got rid of so far."""
    progress = tmp_path / "progress"
    binary = engines.flood(tmp_path, progress)
    model = f"{{source: demo, slots: 8, idle_timeout: 1s, engine_binary: {binary}}}"
    gateway = start(f"models: {{demo: {model}}}\ngateway: {{body_timeout: 4s, keep_alive: 2s}}")

    def settled() -> int:
        seen: list[int] = []

        def still() -> bool:
            seen.append(int(progress.read_text() or -1))
            return len(seen) > 25 and len(set(seen[-25:])) == 1

        until(still, "the engine stands still")
        return seen[-1]

    return gateway, settled


def test_clients_that_stop_reading(flooded: tuple[Gateway, Callable[[], int]]) -> None:
    """Their streams, 64 MB each, pile up nowhere: the engine is not read either. In the end they are dropped."""
    gateway, settled = flooded
    before_mib = resident_mib(gateway.process.pid)
    with contextlib.ExitStack() as opened:
        for _ in range(8):
            client = opened.enter_context(Client(gateway, receive_buffer=4096))
            client.send(post(chat(stream=True, max_tokens=64_000)))
            client.read_until(b"data: ")
        assert settled() < 8 * 8 * 2**20, "what the buffers of the system hold, not more"
        most_mib = resident_mib(gateway.process.pid)
        assert in_service(gateway) == 8
        until(lambda: in_service(gateway) == 0, "they are dropped")
    print(f"gateway: {before_mib:.1f} MiB before, {most_mib:.1f} MiB with 8 stalled readers")
    assert most_mib < before_mib + 20
    still_works(gateway)


def test_a_slow_reader_gets_everything(flooded: tuple[Gateway, Callable[[], int]]) -> None:
    """What was held back comes as it reads on, whole; that the engine was silent meanwhile is not held against it."""
    gateway, settled = flooded
    with Client(gateway, receive_buffer=4096) as client:
        client.send(post(chat(stream=True, max_tokens=32_000)))
        client.read_until(b"data: ")
        end_s = time.monotonic() + 2.5  # longer than the engine's idle_timeout, shorter than the client's
        settled()
        until(lambda: time.monotonic() > end_s, "time has passed")
        assert in_service(gateway) == 1
        answer = client.answer_body()
    assert answer.count(b"data: ") == 32_001
    assert b"[DONE]" in answer


def test_answers_that_nobody_reads_and_that_are_not_streams(start: Start) -> None:
    """A finished answer that its client does not fetch holds no connection for ever."""
    gateway = start("models: {demo: {source: demo, slots: 4, threads: 1}}\ngateway: {body_timeout: 1s, keep_alive: 1s}")
    body = {"model": "demo", "input": ["a"] * 128}
    with Client(gateway, receive_buffer=4096) as client:
        request = post(body, path="/v1/embeddings")
        client.send(request * 40)
        connections = _open_connections(gateway)
        until(lambda: _open_connections(gateway) < connections, "the connection is dropped")
    still_works(gateway)


def test_pipelined_streams_that_nobody_reads(flooded: tuple[Gateway, Callable[[], int]]) -> None:
    """Each answer is held back like the first one."""
    gateway, settled = flooded
    before_mib = resident_mib(gateway.process.pid)
    with Client(gateway, receive_buffer=4096) as client:
        client.send(post(chat(stream=True, max_tokens=1000)) * 200)
        client.read_until(b"data: ")
        assert settled() < 16 * 2**20
        assert resident_mib(gateway.process.pid) < before_mib + 20
        until(lambda: _open_connections(gateway) <= 1, "it is dropped")
    still_works(gateway)


def _open_connections(gateway: Gateway) -> int:
    """Sockets that the gateway has open towards clients."""
    port = f":{gateway.address[1]:04X}"
    with open(f"/proc/{gateway.process.pid}/net/tcp") as file:
        rows = [line.split() for line in file.readlines()[1:]]
    return sum(row[1].endswith(port) and row[3] == "01" for row in rows)
