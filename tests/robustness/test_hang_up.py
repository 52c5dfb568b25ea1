"""A client that leaves, at each stage of its request: the slot is free within a second, and nobody else notices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from rawhttp import (
    Client,
    chat,
    descendants,
    free_within_a_second,
    frozen,
    gauge,
    in_service,
    long_chat,
    post,
    still_works,
    until,
    waiting,
)

from serving import Gateway, serving

LONG_PROMPT = "the quick brown fox jumps over the lazy dog " * 40


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Two slots, so that a queue is quickly there."""
    with serving(tmp_path_factory.mktemp("two"), "models: {demo: {source: demo, slots: 2, threads: 1}}") as running:
        yield running


@pytest.fixture(params=["close", "half-close"])
def leave(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def leaves(client: Client, how: str) -> None:
    """A client that closes its sending side counts as gone, like one that closes both."""
    if how == "close":
        client.close()
    else:
        client.half_close()
        client.read_to_the_end()
        client.close()


@pytest.mark.parametrize("bytes_sent", [1, 30, 150])
def test_while_the_head_is_half_sent(gateway: Gateway, leave: str, bytes_sent: int) -> None:
    """Nothing has begun, nothing is left."""
    client = Client(gateway)
    client.send(post(chat())[:bytes_sent])
    leaves(client, leave)
    free_within_a_second(gateway)
    still_works(gateway)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/tokenize"])
def test_while_the_body_is_half_sent(gateway: Gateway, leave: str, path: str) -> None:
    """No slot was taken for half a request; it is no fault worth a line of error in the log either."""
    client = Client(gateway)
    client.send(post(chat(), path=path)[:-20])
    leaves(client, leave)
    free_within_a_second(gateway)
    still_works(gateway)
    assert not [line for line in gateway.log if "Traceback" in line or '"level":"error"' in line]


def test_while_it_waits_in_the_queue(gateway: Gateway, leave: str) -> None:
    """Its place is given up; those before and behind it keep theirs."""
    busy, waiter, behind = [Client(gateway) for _ in range(2)], Client(gateway), Client(gateway)
    for client in busy:
        client.send(post(long_chat(stream=True)))
        client.read_until(b"data: ")
    for number, client in enumerate((waiter, behind), start=1):
        client.send(post(chat()))
        until(lambda number=number: waiting(gateway) == number, "it waits")
    leaves(waiter, leave)
    until(lambda: waiting(gateway) == 1, "its place is free", within_s=1.0)
    assert in_service(gateway) == 2
    for client in busy:
        client.close()
    assert behind.answer().status == 200
    behind.close()
    free_within_a_second(gateway)


def test_before_the_first_token(gateway: Gateway, leave: str) -> None:
    """The engine stands still with the request in its hands: the slot is free all the same."""
    client = Client(gateway)
    with frozen(descendants(gateway.process.pid)[0]):
        client.send(post(long_chat(stream=True)))
        until(lambda: in_service(gateway) == 1, "it has its slot")
        leaves(client, leave)
        until(lambda: in_service(gateway) == 0, "the slot is free", within_s=1.0)
    free_within_a_second(gateway)
    still_works(gateway)


@pytest.mark.parametrize("stream", [True, False])
def test_during_the_prefill_of_a_long_prompt(gateway: Gateway, leave: str, stream: bool) -> None:
    client = Client(gateway)
    client.send(post(long_chat(stream=stream, messages=[{"role": "user", "content": LONG_PROMPT}])))
    until(lambda: in_service(gateway) == 1, "it has its slot")
    leaves(client, leave)
    free_within_a_second(gateway)
    still_works(gateway)


def test_in_the_middle_of_a_stream(gateway: Gateway, leave: str) -> None:
    """Also with others at work: their streams go on to the end."""
    other, client = Client(gateway), Client(gateway)
    other.send(post(chat(stream=True, max_tokens=400, ignore_eos=True)))
    client.send(post(long_chat(stream=True)))
    for one in (other, client):
        one.read_until(b"data: ")
    leaves(client, leave)
    until(lambda: in_service(gateway) <= 1, "the slot is free", within_s=1.0)
    assert b"[DONE]" in other.answer_body()
    other.close()
    free_within_a_second(gateway)
    still_works(gateway)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", long_chat()),
        ("/v1/chat/completions", long_chat(n=4)),
        ("/v1/completions", {"model": "demo", "prompt": ["a", "b"], "max_tokens": 1900, "ignore_eos": True}),
    ],
)
def test_an_answer_as_a_whole_is_being_made(gateway: Gateway, leave: str, path: str, body: dict[str, Any]) -> None:
    """Clients that do not stream leave as noticeably as others, whatever number of slots their choices hold."""
    client = Client(gateway)
    client.send(post(body, path=path))
    until(lambda: in_service(gateway) >= 1, "it has its slot")
    leaves(client, leave)
    free_within_a_second(gateway)
    still_works(gateway)


def test_a_hundred_leave_at_random_moments(gateway: Gateway) -> None:
    """Whatever they were at, in the end every slot and place is free and each is counted once."""
    for number in range(100):
        client = Client(gateway)
        request = post(long_chat(stream=number % 2 == 0))
        client.send(request[: len(request) - (number % 5 == 0)])
        if number % 3 == 0 and number % 5 != 0:
            until(lambda: in_service(gateway) >= 1, "it has its slot")
        client.close()
    until(lambda: in_service(gateway) == 0 and waiting(gateway) == 0, "all is free")
    free_within_a_second(gateway)
    assert gauge(gateway, "inhouse_slots") == 2
    still_works(gateway)
