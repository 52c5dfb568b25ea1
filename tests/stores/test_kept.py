"""Answers that outlast their connection at several gateways with one Redis: read, ended and forgotten at any of them,
whoever makes them; gateways and Redis killed meanwhile."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import redis as client_of
from crowd import gateways, until

from clients import client_at
from fake_engine import FakeEngine, fake_engine
from kept_streams import events, text_of
from ledgers import redis_cluster
from services import redis_server
from serving import KEY, Gateway, started

CHAT = {"model": "chat", "stream": True, "temperature": 0, "messages": [{"role": "user", "content": "What is a slot?"}]}
BEGIN = {"x-inhouse-resume": "true"}
LEASE_S, GRACE_S = 1.0, 2.0
ENDED_S = LEASE_S + GRACE_S + 2.0
"""What the page promises: a lease and five seconds for the usual one of ten; here beats are shorter."""


def stack_of(engine: FakeEngine, url: str, more: str = "") -> str:
    return (
        f"models: {{chat: {{endpoints: ['{engine.url}'], engine: vllm, slots: 32}}}}\n"
        f"store: {{redis: {{url: '{url}'}}, lease: {LEASE_S} s}}\n{more}"
    )


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngine]:
    with fake_engine(tokens_per_s=100, answer_tokens=60, slots=32) as running:
        yield running


@pytest.fixture(scope="module")
def doors(engine: FakeEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Gateway]]:
    """Two gateways and a Redis of their own."""
    folder = tmp_path_factory.mktemp("kept")
    with redis_server(folder) as redis, gateways(folder, stack_of(engine, redis.url), 2) as made:
        yield made


def numbers(seen: list[tuple[str, str]]) -> list[int]:
    return [int(id.rpartition(":")[2]) for id, _ in seen]


def whole(client: openai.OpenAI, id: str) -> Any:
    until(lambda: client.responses.retrieve(id).status not in ("queued", "in_progress"))
    return client.responses.retrieve(id)


def test_a_stream_goes_on_at_whichever_gateway_its_client_comes_back_to(
    doors: list[Gateway], engine: FakeEngine
) -> None:
    """Piece by piece, in turn at both: no event twice, none missing; the engine was asked once."""
    before = engine.stats()["requests"]
    seen = events(doors[0], BEGIN, CHAT, most=5)
    turn = 1
    while seen[-1][1] != "[DONE]":
        seen += events(doors[turn % 2], {"last-event-id": seen[-1][0]}, most=11)
        turn += 1
    assert turn > 3
    assert numbers(seen) == list(range(len(seen)))
    assert engine.stats()["requests"] == before + 1
    assert text_of(seen) == text_of(events(doors[1], BEGIN, CHAT))
    again = events(doors[1], {"last-event-id": seen[2][0]})
    assert again == seen[3:], "also when it is whole"


def test_a_response_in_the_background_is_seen_at_the_other_gateway(doors: list[Gateway]) -> None:
    """From its first moment on; its events too, live, from any number on."""
    one, other = (client_at(door) for door in doors)
    begun = one.responses.create(model="chat", input="What is a slot?", background=True, temperature=0)
    assert other.responses.retrieve(begun.id).status in ("queued", "in_progress")
    live = [event.sequence_number for event in other.responses.retrieve(begun.id, stream=True)]
    assert live == list(range(len(live)))
    found = whole(other, begun.id)
    assert (found.status, found.background) == ("completed", True)
    assert found == whole(one, begun.id)
    rest = [event.sequence_number for event in other.responses.retrieve(begun.id, stream=True, starting_after=5)]
    assert rest == live[6:]


def test_a_cancel_at_the_other_gateway_reaches_the_one_that_makes_it(doors: list[Gateway], engine: FakeEngine) -> None:
    """The engine hears of it within a lease; both gateways say the same."""
    one, other = (client_at(door) for door in doors)
    before = engine.stats()["hang_ups"]
    begun = one.responses.create(model="chat", input="a", background=True, max_output_tokens=1000)
    until(lambda: one.responses.retrieve(begun.id).status == "in_progress")
    told_s = time.monotonic()
    assert other.responses.cancel(begun.id).status == "cancelled"
    until(lambda: engine.stats()["hang_ups"] == before + 1)
    assert time.monotonic() - told_s < LEASE_S
    assert {whole(client, begun.id).status for client in (one, other)} == {"cancelled"}
    until(lambda: _refused(lambda: other.responses.cancel(begun.id)) == 409)
    assert _refused(lambda: one.responses.cancel(begun.id)) == 409


def test_a_deleted_answer_is_gone_at_all_and_leaves_no_content(doors: list[Gateway], tmp_path: Path) -> None:
    """One that is whole and one that is under way; and another tenant finds neither."""
    one, other = (client_at(door) for door in doors)
    kept = one.responses.create(model="chat", input="a", instructions="thelighthouse", background=True)
    whole(other, kept.id)
    goes = one.responses.create(model="chat", input="a", instructions="thelighthouse", background=True)
    url = _redis_of(doors[0])
    with client_of.Redis.from_url(url) as redis:
        assert any(b"thelighthouse" in dump for dump in _content(redis, goes.id))
        for id in (kept.id, goes.id):
            other.responses.delete(id)
            assert _refused(lambda id=id: other.responses.retrieve(id)) == 404  # type: ignore[misc]
            until(lambda id=id: _refused(lambda: one.responses.retrieve(id)) == 404)  # type: ignore[misc]
            assert not any(b"thelighthouse" in dump for dump in _content(redis, id))
        assert _refused(lambda: other.responses.delete(goes.id)) == 404
        lives = [redis.pttl(key) for key in redis.scan_iter("inhouse:kept:*")]
        assert lives
        assert all(0 < life <= 602_000 for life in lives), "nothing is kept for longer than `kept.time`"


def test_a_refusal_elsewhere_is_told_as_it_was(doors: list[Gateway]) -> None:
    """Failed, with the words of the gateway that refused; strange ids are told as such."""
    one, other = (client_at(door) for door in doors)
    begun = one.responses.create(model="nope", input="a", background=True)
    failed = whole(other, begun.id)
    assert failed.status == "failed"
    assert "nope" in failed.error.message
    with pytest.raises(httpx2.HTTPStatusError, match="404"):
        posted(doors[1], {"last-event-id": "no}such*thing:4"}).raise_for_status()


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_gateway_that_dies_or_freezes_in_the_middle(
    tmp_path: Path, engine: FakeEngine, signal_number: signal.Signals
) -> None:
    """Within the time that the page states the answer ends, in the shape of its API, for those who follow it, those
    who come later and those who ask how it stands; one that wakes up again has lost it, and stops its engine."""
    with redis_server(tmp_path) as redis, gateways(tmp_path, stack_of(engine, redis.url), 1) as (door,):
        own = tmp_path / "maker"
        own.mkdir()
        maker = started(own, stack_of(engine, redis.url))
        try:
            maker.wait_for(event="replica", state="ready")
            engine.set(tokens_per_s=20)
            chat = events(maker, BEGIN, CHAT | {"max_tokens": 1000, "ignore_eos": True}, most=10)
            asked = {"model": "chat", "max_tokens": 1000, "stream": True, "messages": CHAT["messages"]}
            messages = events(maker, BEGIN, asked, most=10, path="/v1/messages")
            begun = client_at(maker).responses.create(model="chat", input="a", background=True)
            waits = client_at(maker).responses.create(model="chat", input="a", background=True)
            until(lambda: client_at(door).responses.retrieve(begun.id).status == "in_progress")
            hang_ups = engine.stats()["hang_ups"]
            maker.process.send_signal(signal_number)
            at_s = time.monotonic()
            rest = events(door, {"last-event-id": chat[-1][0]})
            assert time.monotonic() - at_s < ENDED_S
            assert json.loads(rest[-1][1])["error"]["code"] == "answer_lost"
            assert numbers(chat + rest) == list(range(len(chat + rest)))
            id, _, last = rest[-1][0].rpartition(":")
            for more in (-1, 0, 1, 2, 100_000):
                late = events(door, {"last-event-id": f"{id}:{int(last) + more}"})
                assert json.loads(late[0][1])["error"]["code"] == "answer_lost", "of what it has, Redis never heard"
            with ThreadPoolExecutor(3) as threads:  # each that is asked for first costs a grace
                asked_s = time.monotonic()
                one = threads.submit(events, door, {"last-event-id": messages[-1][0]}, path="/v1/messages")
                two, three = (threads.submit(client_at(door).responses.retrieve, id) for id in (begun.id, waits.id))
                ended, failed = json.loads(one.result()[-1][1]), two.result()
                assert three.result().status == "failed"
                assert time.monotonic() - asked_s < ENDED_S
            assert (ended["type"], ended["error"]["type"]) == ("error", "api_error")
            assert (failed.status, failed.error and failed.error.code) == ("failed", "answer_lost")
            kinds = [event.type for event in client_at(door).responses.retrieve(begun.id, stream=True)]
            assert kinds[0] == "response.created"
            assert kinds[-2:] == ["error", "response.failed"]
            if signal_number == signal.SIGSTOP:
                maker.process.send_signal(signal.SIGCONT)
                until(lambda: engine.stats()["running"] == 0)
                assert engine.stats()["hang_ups"] > hang_ups
                assert client_at(maker).responses.retrieve(begun.id).status == "failed"
        finally:
            engine.set(tokens_per_s=100)
            maker.stop(signal.SIGKILL)


def test_redis_is_killed_and_comes_back_in_the_middle_of_an_answer(tmp_path: Path, engine: FakeEngine) -> None:
    """The maker goes on and is read itself; elsewhere a reader waits, a new one is told 503; then all is as if nothing
    had been, though Redis had lost the last of it."""
    with (
        redis_server(tmp_path, "--appendfsync", "no") as redis,
        gateways(tmp_path, stack_of(engine, redis.url), 2) as doors,
    ):
        body = CHAT | {"max_tokens": 300, "ignore_eos": True}
        seen = events(doors[0], BEGIN, body, most=20)
        half = len((redis.folder / "appendonlydir" / _log_of(redis.folder)).read_bytes()) // 2
        redis.kill()
        log = redis.folder / "appendonlydir" / _log_of(redis.folder)
        log.write_bytes(log.read_bytes()[:half])  # what it had not written yet
        seen += events(doors[0], {"last-event-id": seen[-1][0]}, most=20)
        reply = posted(doors[1], {"last-event-id": seen[-1][0]})
        assert reply.status_code == 503
        assert reply.json()["error"]["code"] == "state_unavailable"
        assert doors[1].get("/health/ready")["stores"]["kept"] == "away"
        redis.start()
        until(lambda: doors[0].get("/health/ready")["stores"]["kept"] == "ok")
        seen += events(doors[1], {"last-event-id": seen[-1][0]})
        assert numbers(seen) == list(range(len(seen)))
        assert seen[-1][1] == "[DONE]"
        assert text_of(seen) == text_of(events(doors[0], BEGIN, body))


def test_an_answer_outlasts_a_gateway_that_stops(tmp_path: Path, engine: FakeEngine) -> None:
    """SIGTERM: what is under way is finished, and read at another gateway; SIGINT: it is told at once."""
    with redis_server(tmp_path) as redis, gateways(tmp_path, stack_of(engine, redis.url), 1) as (door,):
        for number, status in ((signal.SIGTERM, "completed"), (signal.SIGINT, "failed")):
            own = tmp_path / number.name
            own.mkdir()
            maker = started(own, stack_of(engine, redis.url))
            maker.wait_for(event="replica", state="ready")
            begun = client_at(maker).responses.create(model="chat", input="a", background=True)
            until(lambda id=begun.id: client_at(door).responses.retrieve(id).status == "in_progress")  # type: ignore[misc]
            at_s = time.monotonic()
            assert maker.stop(number) == 0
            found = client_at(door).responses.retrieve(begun.id)
            assert found.status == status
            assert time.monotonic() - at_s < 5


def test_a_reader_elsewhere_keeps_a_stream_going(tmp_path: Path, engine: FakeEngine) -> None:
    """`kept.alone` counts from the last reader at any gateway."""
    stack = "kept: {alone: 1 s}\n"
    with redis_server(tmp_path) as redis, gateways(tmp_path, stack_of(engine, redis.url, stack), 2) as doors:
        engine.set(tokens_per_s=20)
        try:
            body = CHAT | {"max_tokens": 1000, "ignore_eos": True}
            seen = events(doors[0], BEGIN, body, most=3)
            seen += events(doors[1], {"last-event-id": seen[-1][0]}, most=50)
            assert numbers(seen) == list(range(53))
            until(lambda: engine.stats()["running"] == 0)
        finally:
            engine.set(tokens_per_s=100)


@pytest.mark.parametrize("kind", ["cluster", "valkey"])
def test_the_same_on_other_kinds_of_redis(tmp_path: Path, engine: FakeEngine, kind: str) -> None:
    """On three masters, where each answer has a slot of its own, and on Valkey; several at once."""
    server = redis_cluster(tmp_path) if kind == "cluster" else redis_server(tmp_path, valkey=True)
    with server as place, gateways(tmp_path, stack_of(engine, place.url), 2) as doors:
        one, other = (client_at(door) for door in doors)
        begun = [one.responses.create(model="chat", input=f"{number}", background=True) for number in range(6)]
        assert {whole(other, response.id).status for response in begun} == {"completed"}
        seen = events(doors[0], BEGIN, CHAT, most=5)
        seen += events(doors[1], {"last-event-id": seen[-1][0]})
        assert numbers(seen) == list(range(len(seen)))
        assert seen[-1][1] == "[DONE]"
        goes = one.responses.create(model="chat", input="a", background=True)
        other.responses.cancel(goes.id)
        assert whole(one, goes.id).status == "cancelled"


def _refused(act: Any) -> int:
    """The status, 200 where it is none."""
    try:
        act()
    except openai.APIStatusError as error:
        return error.status_code
    return 200


def posted(door: Gateway, headers: dict[str, str]) -> httpx2.Response:
    own = {"authorization": f"Bearer {KEY}"} | headers
    return httpx2.post(f"{door.url}/v1/chat/completions", headers=own, timeout=30)


def _redis_of(door: Gateway) -> str:
    text = (door.state_dir.parent / "inhouse.yaml").read_text()
    return str(text.partition("redis: {url: '")[2].partition("'")[0])


def _content(redis: Any, id: str) -> list[bytes]:
    """All that lies there of an answer."""
    key = f"inhouse:kept:{{{id}}}"
    return [
        *redis.hgetall(f"{key}:about").values(),
        *(one[b"d"] for _, one in redis.xrange(f"{key}:events") if b"d" in one),
    ]


def _log_of(folder: Path) -> str:
    return next(file.name for file in (folder / "appendonlydir").iterdir() if ".incr." in file.name)
