"""A client that leaves, at each stage of its request, gives back what the quota held for it, at once.

The tenant may have two requests at a time. One is held by somebody who stays or is not needed; that the next one is let
in proves that the one who left is gone from the ledger.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rawhttp import (
    Client,
    Start,
    ask,
    chat,
    free_within_a_second,
    frozen,
    in_service,
    long_chat,
    post,
    until,
    waiting,
)

import engines
from serving import Gateway, serving

TENANTS = "tenants: {default: {limits: {concurrent_requests: 2}}}\n"
STACK = TENANTS + "models: {demo: {source: demo, slots: 2, threads: 1, queue_notice_every: 200ms}}"
PEEK = "x-inhouse-timeout: wait=0.01, first-token=0.01"
"""For a request that is only to find out whether the quota lets it in."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving(tmp_path_factory.mktemp("quota"), STACK) as running:
        yield running


def refused(gateway: Gateway) -> bool:
    """Whether the quota has no room for one more request."""
    answer = ask(gateway, post(chat(max_tokens=1), PEEK))
    if answer.status == 429:
        assert answer.code == "rate_limit_exceeded"
        return True
    return False


def leaves(client: Client, gateway: Gateway) -> None:
    """It is refused that another one comes; then the client goes, and within a second it is not."""
    assert refused(gateway)
    client.close()
    until(lambda: not refused(gateway), "the reservation is given back", within_s=1.0)


@contextlib.contextmanager
def streaming(gateway: Gateway) -> Iterator[Client]:
    """One that stays to the end of the block."""
    with Client(gateway) as client:
        client.send(post(long_chat(stream=True)))
        client.read_until(b"data: ")
        yield client


@pytest.mark.parametrize("fields", [{"stream": True}, {"stream": False}, {"stream": True, "n": 3}])
def test_before_the_first_token(gateway: Gateway, fields: dict[str, Any]) -> None:
    """The engine has the request, or several of them, and says nothing."""
    with streaming(gateway), Client(gateway) as client, frozen(gateway.engine_pids()[0]):
        client.send(post(long_chat(**fields)))
        until(lambda: in_service(gateway) == 2, "it has its slot")
        leaves(client, gateway)
    free_within_a_second(gateway)


@pytest.mark.parametrize("fields", [{"stream": True}, {"stream": True, "n": 3}])
def test_in_the_middle_of_a_stream(gateway: Gateway, fields: dict[str, Any]) -> None:
    """With choices: while one of them runs and the others wait for a slot. The other stream keeps its slot."""
    with streaming(gateway), Client(gateway) as client:
        client.send(post(long_chat(**fields)))
        client.read_until(b"data: ")
        with frozen(gateway.engine_pids()[0]):
            leaves(client, gateway)
            until(lambda: (in_service(gateway), waiting(gateway)) == (1, 0), "one is left", within_s=1.0)
    free_within_a_second(gateway)


def test_the_other_stream_goes_on(gateway: Gateway) -> None:
    """To its last token."""
    with Client(gateway) as other, Client(gateway) as client:
        for one in (other, client):
            one.send(post(chat(stream=True, max_tokens=900, ignore_eos=True)))
            one.read_until(b"data: ")
        client.close()
        assert b"[DONE]" in other.answer_body()
    free_within_a_second(gateway)


@pytest.mark.parametrize("heard", [True, False])
@pytest.mark.parametrize("stream", [True, False])
def test_in_the_queue(start: Start, stream: bool, heard: bool) -> None:
    """Whether or not comments have begun its response."""
    every = "200ms" if heard else "60s"
    gateway = start(TENANTS + f"models: {{demo: {{source: demo, slots: 1, threads: 1, queue_notice_every: {every}}}}}")
    with streaming(gateway), Client(gateway) as client, frozen(gateway.engine_pids()[0]):
        client.send(post(chat(stream=stream)))
        until(lambda: waiting(gateway) == 1, "it waits")
        if heard and stream:
            client.read_until(b": queued")
        leaves(client, gateway)
        until(lambda: waiting(gateway) == 0, "its place is free", within_s=1.0)
    free_within_a_second(gateway)


@pytest.mark.parametrize("stream", [True, False])
def test_while_the_model_loads(start: Start, tmp_path: Path, stream: bool) -> None:
    """The one who stays is answered when it is there."""
    gate = tmp_path / "gate"
    model = (
        f"{{source: demo, engine_binary: {engines.late(tmp_path, gate)}, load_wait: 60s, queue_notice_every: 200ms}}"
    )
    gateway = start(TENANTS + f"models: {{demo: {model}}}", ready=False)
    with Client(gateway) as stays, Client(gateway) as client:
        for number, one in enumerate((stays, client), start=1):
            one.send(post(chat(stream=stream)))
            until(lambda number=number: waiting(gateway) == number, "it waits")
        leaves(client, gateway)
        until(lambda: waiting(gateway) == 1, "its place is free", within_s=1.0)
        gate.touch()
        assert stays.answer().status == 200
    free_within_a_second(gateway)
