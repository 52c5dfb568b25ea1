"""Users of Redis with the rights that the pages name: all that is done with it works, and each right is used."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as client_of
from crowd import gateways, until
from one_chat import ask
from test_kept import BEGIN, CHAT, whole

from clients import client_at
from fake_engine import fake_engine
from inhouse.config import RedisSpec, StoreSpec
from inhouse.dispatch.cache_shared import SharedAnswers
from inhouse.store.store_check import check
from inhouse.store.stores import Stores
from kept_streams import events
from services import Service, redis_server

sys.path += [str(Path(__file__).parents[1] / name) for name in ("queue", "robustness", "fleet")]

from pool import Pool
from rawhttp import Client, post
from rawhttp import ask as ask_raw
from streams import body_of

DOCS = Path(__file__).parents[2] / "docs"
LUA = Path(__file__).parents[2] / "src" / "inhouse" / "store" / "lua"
OF_THE_LIBRARY = {"hello", "auth", "client", "command", "select", "cluster"}
"""What redis-py may say to begin with; `auth` needs no right, without the others it goes on."""


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Service]:
    with redis_server(tmp_path) as server:
        yield server


def let_in(server: Service, page: str, user: str) -> set[str]:
    """Makes the user of the page, with the password `hidden`; its rights."""
    line = re.search(rf"^ACL SETUSER ({user} .*)$", (DOCS / page).read_text(), re.MULTILINE)
    assert line is not None
    with client_of.Redis(port=server.port) as client:
        client.execute_command("ACL", "SETUSER", *line[1].replace(">password", ">hidden").split())
        client.execute_command("CONFIG", "RESETSTAT")
    return {word[1:] for word in line[1].split() if word.startswith("+")}


def used(server: Service) -> tuple[set[str], list[Any]]:
    """Commands that were run, by their names, and what was denied."""
    with client_of.Redis(port=server.port, decode_responses=True) as client:
        denied: Any = client.execute_command("ACL", "LOG")
        run = client.info("commandstats")
    return {name.removeprefix("cmdstat_") for name, stats in run.items() if stats["calls"]}, denied


def in_scripts(*families: str) -> set[str]:
    """Commands that these scripts call, some of them seldom."""
    texts = [file.read_text() for family in families for file in LUA.glob(f"{family}_*.lua")]
    texts += [file.read_text() for family in families for file in LUA.glob(f"{family}.lua")]
    return {name.lower() for text in texts for name in re.findall(r"redis\.call\('([A-Z]+)'", text)}


def test_the_rights_of_the_shared_store(redis: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits, cache, hints, kept answers and the check, at two gateways and on a database of its own."""
    rights = let_in(redis, "many-gateways.md", "inhouse")
    monkeypatch.setenv("SECRET", "hidden")
    url = redis.url.replace("/0", "/1")
    store = f"{{redis: {{url: '{url}', username: inhouse, password: 'env:SECRET'}}, lease: 1 s}}"
    with fake_engine(tokens_per_s=100, answer_tokens=20, slots=8) as engine:
        stack = (
            f"models: {{chat: {{endpoints: ['{engine.url}'], engine: vllm, cache: {{enabled: true, shared: true}}}}}}\n"
            f"tenants: {{default: {{limits: {{tokens_per_day: 1000000, concurrent_requests: 8}}}}}}\nstore: {store}\n"
        )
        with gateways(tmp_path, stack, 2) as doors:
            assert ask(doors[0], "hello")[0] == ask(doors[1], "hello")[0]
            seen = events(doors[0], BEGIN, CHAT | {"max_tokens": 20}, most=3)
            events(doors[1], {"last-event-id": seen[-1][0]})
            begun = client_at(doors[0]).responses.create(model="chat", input="a", background=True, max_output_tokens=20)
            until(lambda: client_at(doors[1]).responses.retrieve(begun.id).status != "queued")
            with contextlib.suppress(Exception):
                client_at(doors[1]).responses.cancel(begun.id)
            whole(client_at(doors[1]), begun.id)
            client_at(doors[1]).responses.delete(begun.id)
            until(lambda: set(doors[0].get("/health/ready")["stores"].values()) == {"ok"})
    spec = RedisSpec(url=url, username="inhouse", password="env:SECRET", timeout=5.0)
    stores = Stores(tmp_path, StoreSpec(redis=spec), {"SECRET": "hidden"})
    assert {one.state for one in check(stores)} == {"ok"}
    hints = stores.hints()
    assert hints is not None
    hints.tell("chat", "there")
    hints.exchange()
    hints.close()
    _forget(stores)
    run, denied = used(redis)
    assert [(one["object"], one["username"]) for one in _pairs(denied) if one["object"] not in OF_THE_LIBRARY] == []
    assert rights - run - in_scripts("ledger", "answers", "kept") - {"select"} == set(), "no right is one too many"


def test_the_rights_of_a_queue(redis: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers, hang-ups, takeovers, dead letters and the commands that look at them."""
    rights = let_in(redis, "workers.md", "inhouse-queue")
    monkeypatch.setenv("SECRET", "hidden")
    with contextlib.ExitStack() as exits:
        pool = Pool(tmp_path / "pool", redis, exits)
        pool.folder.mkdir()
        pool.settings = "username: inhouse-queue, password: 'env:SECRET', answer_bytes_max: 64 KiB, attempts_max: 2"
        pool.url = redis.url
        pair = pool.workers(2, tokens_per_s=60)
        gateway = pool.gateway()
        assert ask_raw(gateway, post({**body_of("a", 8), "stream": False})).status == 200
        with Client(gateway) as client:
            client.send(post(body_of("b", 100)))
            client.read_until(b'"content":"')
        with Client(gateway) as client:
            client.send(post(body_of("c", 1000)))
            client.read_until(b'"content":"')
            busy = next(one for one in pair if one.engine is not None and one.engine.stats()["running"])
            busy.kill()
            client.read_until(b"\r\n0\r\n\r\n")
        until(lambda: pool.workers_seen() == 1)
        other = next(one for one in pair if one is not busy)
        assert other.engine is not None
        other.engine.set(tokens_per_s=5000)
        with Client(gateway) as client:  # longer than what is kept of an answer
            client.send(post(body_of("d", 1500)))
            client.read_until(b"\r\n0\r\n\r\n")
    run, denied = used(redis)
    assert [(one["object"], one["username"]) for one in _pairs(denied) if one["object"] not in OF_THE_LIBRARY] == []
    assert rights - run - in_scripts("queue") == set(), "no right is one too many"


def _forget(stores: Stores) -> None:
    """An engine that was started anew: what other gateways keep of it counts no more."""
    import uvloop

    async def told() -> None:
        answers = SharedAnswers(stores.redis_link(), prefix="inhouse", model="chat", age_max_s=60, bytes_max=1 << 20)
        answers.forget()
        try:
            assert await answers.get(b"x") is None
            assert not answers.trouble
        finally:
            await answers.close()

    uvloop.run(told())


def _pairs(log: list[Any]) -> list[dict[str, Any]]:
    return [one if isinstance(one, dict) else dict(zip(one[::2], one[1::2], strict=True)) for one in log]
