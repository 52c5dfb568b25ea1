"""Answers that all gateways share: found by others, forgotten together, bounded, missed quickly without Redis."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as client_library

from inhouse.config import RedisSpec
from inhouse.dispatch.cache import Answer
from inhouse.dispatch.cache_shared import SharedAnswers
from inhouse.store.redis_link import link_of
from services import Service, redis_server

ANSWER = Answer((b"data: 1\n\n", b"data: [DONE]\n\n"), 7)
MIB = 1 << 20


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


def shared(service: Service, prefix: str, **settings: Any) -> SharedAnswers:
    link = link_of(RedisSpec(url=service.url, timeout=2.0), {}, "store.redis")
    return SharedAnswers(link, prefix=prefix, model="chat", **{"age_max_s": 60.0, "bytes_max": MIB, **settings})


@pytest.fixture
async def two(redis: Service) -> AsyncIterator[list[SharedAnswers]]:
    prefix = secrets.token_hex(6)
    made = [shared(redis, prefix), shared(redis, prefix)]
    yield made
    for one in made:
        await one.close()


async def test_what_one_keeps_the_other_finds(two: list[SharedAnswers]) -> None:
    """As it was, with its age; another key finds nothing."""
    await two[0].put(b"k" * 32, ANSWER)
    found = await two[1].get(b"k" * 32)
    assert found is not None
    answer, age_s = found
    assert answer == ANSWER
    assert 0.0 <= age_s < 5.0
    assert await two[1].get(b"x" * 32) is None


async def test_an_engine_that_was_started_anew(two: list[SharedAnswers]) -> None:
    """What was kept before is given out by nobody; what is kept from then on is."""
    await two[0].put(b"k" * 32, ANSWER)
    two[1].forget()
    assert await two[1].get(b"k" * 32) is None
    assert await two[0].get(b"k" * 32) is None
    await two[1].put(b"j" * 32, ANSWER)
    assert await two[0].get(b"j" * 32) is not None


async def test_memory_is_bounded(redis: Service) -> None:
    """The oldest make room, and one that is too large is not kept at all."""
    prefix = secrets.token_hex(6)
    answers = shared(redis, prefix, bytes_max=10_000)
    for number in range(20):
        await answers.put(b"%032d" % number, Answer((b"x" * 1000,), 1))
    assert await answers.get(b"%032d" % 0) is None
    assert await answers.get(b"%032d" % 19) is not None
    await answers.put(b"l" * 32, Answer((b"x" * 20_000,), 1))
    assert await answers.get(b"l" * 32) is None
    with client_library.Redis.from_url(redis.url) as client:
        held = [client.strlen(key) for key in client.keys(f"{prefix}:answers:*") if client.type(key) == b"string"]
    assert 5_000 < sum(held) <= 10_000
    await answers.close()


async def test_redis_is_away(tmp_path: Path) -> None:
    """Nothing is found and nothing raised; after the first try nobody waits; it is used again when it is back."""
    with redis_server(tmp_path) as server:
        answers = shared(server, "away")
        await answers.put(b"k" * 32, ANSWER)
        server.kill()
        assert await answers.get(b"k" * 32) is None
        assert "Redis at" in answers.trouble
        begun_s = time.monotonic()
        for _ in range(50):
            assert await answers.get(b"k" * 32) is None
            await answers.put(b"j" * 32, ANSWER)
        assert time.monotonic() - begun_s < 0.5
        server.start()
        end_s = time.monotonic() + 20
        while await answers.get(b"k" * 32) is None:
            assert time.monotonic() < end_s
        assert answers.trouble == ""
        await answers.close()
