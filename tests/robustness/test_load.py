"""Many clients at once, and clients that do not read: everyone is answered, and memory stays within bounds."""

from __future__ import annotations

import contextlib

from rawhttp import (
    Client,
    Start,
    chat,
    descendants,
    free_within_a_second,
    in_service,
    long_chat,
    post,
    resident_mib,
    still_works,
    until,
)

from serving import Gateway

RESIDENT_MIB_MAX = 150


def test_two_hundred_connections_on_four_slots(start: Start, record_property) -> None:  # type: ignore[no-untyped-def]
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
    record_property("gateway_mib_before_and_after", (round(before_mib, 1), round(after_mib, 1)))
    assert after_mib < RESIDENT_MIB_MAX
    free_within_a_second(gateway)


def test_clients_that_stop_reading(start: Start, record_property) -> None:  # type: ignore[no-untyped-def]
    """Their streams of many megabytes pile up nowhere in the gateway; once the limit is over they are dropped."""
    gateway = start("models: {demo: {source: demo, slots: 4, threads: 1}}\ngateway: {body_timeout: 2s, keep_alive: 1s}")
    before_mib = resident_mib(gateway.process.pid)
    with contextlib.ExitStack() as opened:
        for _ in range(4):
            client = opened.enter_context(Client(gateway, receive_buffer=4096))
            client.send(post(long_chat(stream=True, logprobs=True, top_logprobs=20)))
            client.read_until(b"data: ")
        most_mib = 0.0

        def dropped() -> bool:
            nonlocal most_mib
            most_mib = max(most_mib, resident_mib(gateway.process.pid))
            return in_service(gateway) == 0

        until(dropped, "they are dropped")
    record_property("gateway_mib_before_and_most", (round(before_mib, 1), round(most_mib, 1)))
    assert most_mib < before_mib + 20
    free_within_a_second(gateway)
    still_works(gateway)


def test_a_slow_reader_gets_everything(start: Start) -> None:
    """The engine waits for the client: what was held back comes as it reads on, whole and in order."""
    gateway = start("models: {demo: {source: demo, slots: 1, threads: 1, idle_timeout: 1s}}")
    with Client(gateway, receive_buffer=4096) as client:
        usage = {"include_usage": True}
        client.send(post(long_chat(stream=True, stream_options=usage, logprobs=True, top_logprobs=20)))
        client.read_until(b"data: ")
        engine_is_done = _engine_is_done(gateway)
        until(engine_is_done, "the engine has produced all of it")
        assert in_service(gateway) == 1
        assert b'"completion_tokens":3500,' in client.answer_body()
    free_within_a_second(gateway)


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


def test_pipelined_streams_that_nobody_reads(start: Start) -> None:
    """Each answer is held back like the first one."""
    gateway = start("models: {demo: {source: demo, slots: 1, threads: 1}}\ngateway: {body_timeout: 3s}")
    before_mib = resident_mib(gateway.process.pid)
    with Client(gateway, receive_buffer=4096) as client:
        client.send(post(chat(stream=True, max_tokens=300, ignore_eos=True, logprobs=True, top_logprobs=20)) * 200)
        client.read_until(b"data: ")
        until(lambda: in_service(gateway) == 0 and _open_connections(gateway) <= 1, "it is dropped")
    assert resident_mib(gateway.process.pid) < before_mib + 20
    still_works(gateway)


def _engine_is_done(gateway: Gateway):  # type: ignore[no-untyped-def]
    """Whether the engine's processor time has stopped to grow."""
    pid = descendants(gateway.process.pid)[0]
    last, still = -1, 0

    def done() -> bool:
        nonlocal last, still
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        now = int(fields[11]) + int(fields[12])
        still = still + 1 if now == last else 0
        last = now
        return still > 75

    return done


def _open_connections(gateway: Gateway) -> int:
    """Sockets that the gateway has open towards clients."""
    port = f":{gateway.address[1]:04X}"
    with open(f"/proc/{gateway.process.pid}/net/tcp") as file:
        rows = [line.split() for line in file.readlines()[1:]]
    return sum(row[1].endswith(port) and row[3] == "01" for row in rows)
