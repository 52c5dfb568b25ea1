"""Redis and PostgreSQL killed, slow and silent under load: no quota is exceeded, no use is lost, all comes back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from crowd import Seen, crowd, gateways, stack_of, until
from store_proxy import proxy
from test_shared import command

from fake_engine import fake_engine
from ledgers import fresh_postgres
from services import Service, postgres_server, redis_server
from serving import Gateway

QUOTA = 40_000


def during(
    doors: list[Gateway], work: Callable[[Seen, Callable[[], bool]], Any], *, clients: int = 12, tokens: int = 40
) -> Seen:
    """What clients see while `work` goes on in a thread; it has what they saw so far, and a way to wait for more."""
    seen, over = Seen(), False

    async def both() -> None:
        nonlocal over
        async with asyncio.TaskGroup() as group:
            group.create_task(crowd(doors, seen, lambda: over, clients=clients, tokens=tokens))
            try:
                await asyncio.to_thread(work, seen, lambda: seen.statuses["200"] > 0)
            finally:
                over = True

    uvloop.run(both())
    return seen


def more(seen: Seen, status: str, wait_s: float = 20.0) -> float:
    """Waits for one more answer of this status; how long that took."""
    before, begun_s = seen.statuses[status], time.monotonic()
    until(lambda: seen.statuses[status] > before, wait_s=wait_s)
    return time.monotonic() - begun_s


def stores(door: Gateway) -> dict[str, str]:
    found: dict[str, str] = door.get("/health/ready")["stores"]
    return found


def limit(door: Gateway) -> Any:
    return command(door, "tenants", "show", "default")["limits"]["tokens_per_day"]


def settled(door: Gateway, seen: Seen) -> None:
    """Nothing stays held, the quota holds, and what clients were told was charged."""
    until(lambda: limit(door)["held"] == 0, wait_s=30.0)
    used = limit(door)["used"]
    assert seen.tokens <= used <= QUOTA


def counted(door: Gateway) -> int:
    rows = command(door, "usage")["usage"]
    return sum(row["prompt_tokens"] + row["completion_tokens"] for row in rows)


def test_redis_is_killed_and_comes_back(tmp_path: Path, postgres: Service) -> None:
    """Requests with limits are told 503 once leases are used up, and served again within seconds of its return; to the
    token nothing of what it had counted is lost."""
    url = fresh_postgres(postgres).url
    (tmp_path / "redis").mkdir()
    with redis_server(tmp_path / "redis") as redis, fake_engine(answer_spread=0.5, slots=256) as engine:
        store = f"store: {{redis: {{url: '{redis.url}'}}, postgres: {{url: '{url}'}}, lease: 2 s}}\n"
        with gateways(tmp_path, stack_of(engine, store, limits=f"tokens_per_day: {QUOTA}"), 2) as doors:
            back_s: list[float] = []

            def work(seen: Seen, begun: Callable[[], bool]) -> None:
                until(begun)
                for _ in range(2):
                    redis.kill()
                    more(seen, "503")
                    until(lambda: stores(doors[0])["quotas"] == "away")
                    redis.start()
                    back_s.append(more(seen, "200"))
                until(lambda: {stores(door)["quotas"] for door in doors} == {"ok"})

            seen = during(doors, work, clients=4)
            assert set(seen.statuses) <= {"200", "503", "429"}
            assert seen.codes["state_unavailable"] > 0
            assert max(back_s) < 3.0
            settled(doors[0], seen)
            until(lambda: counted(doors[0]) >= seen.tokens)
            assert counted(doors[0]) == seen.tokens
            log = "".join(doors[0].log)
            assert "store away" in log
            assert "store back" in log


def test_postgresql_is_killed_and_comes_back(tmp_path: Path) -> None:
    """Requests with keys that are known go on as before; their use and their audit are written when it is back."""
    (tmp_path / "postgres").mkdir()
    (tmp_path / "redis").mkdir()
    with (
        postgres_server(tmp_path / "postgres") as postgres,
        redis_server(tmp_path / "redis") as redis,
        fake_engine(answer_spread=0.5, slots=256) as engine,
    ):
        store = f"store: {{redis: {{url: '{redis.url}'}}, postgres: {{url: '{postgres.url}', timeout: 1 s}}}}\n"
        with gateways(tmp_path, stack_of(engine, store), 2) as doors:
            key = command(doors[0], "keys", "create")["key"]

            def work(seen: Seen, begun: Callable[[], bool]) -> None:
                until(begun)
                postgres.kill()
                until(lambda: stores(doors[0])["keys"] == "away" and stores(doors[0])["usage"] == "away")
                for _ in range(5):
                    assert more(seen, "200") < 2.0
                postgres.start()
                until(lambda: set(stores(doors[0]).values()) == {"ok"})

            seen = during(doors, work, clients=4)
            assert set(seen.statuses) == {"200"}
            assert key
            until(lambda: counted(doors[0]) >= seen.tokens)
            assert counted(doors[0]) == seen.tokens
            words = ("audit", "list", "--kind", "request", "--status", "200", "--limit", "100000")
            until(lambda: sum(record["api"] == "chat" for record in command(doors[0], *words)) >= seen.requests)
            assert sum(record["api"] == "chat" for record in command(doors[0], *words)) == seen.requests
            assert command(doors[0], "audit", "verify")["problems"] == []


def test_redis_is_slow_silent_and_forgetful(tmp_path: Path, redis: Service) -> None:
    """A slow Redis makes requests wait that must ask it and holds up no others; one that is silent, or whose answers
    get lost, is away; what it did meanwhile is not done twice."""
    with proxy(redis.port) as wire, fake_engine(answer_spread=0.5, slots=256) as engine:
        url = f"redis://127.0.0.1:{wire.port}/0"
        store = f"store: {{redis: {{url: '{url}', prefix: slow, timeout: 300 ms}}, lease: 2 s}}\n"
        with gateways(tmp_path, stack_of(engine, store, limits=f"tokens_per_day: {QUOTA}"), 2) as doors:

            def work(seen: Seen, begun: Callable[[], bool]) -> None:
                until(begun)
                wire.delay_s = 0.1
                begun_s = time.monotonic()
                doors[0].get("/health/live")
                assert time.monotonic() - begun_s < 0.1
                more(seen, "200")
                wire.delay_s = 0.0
                for fault in ("silent", "lossy"):
                    setattr(wire, fault, True)
                    more(seen, "503")
                    setattr(wire, fault, False)
                    wire.cut()
                    assert more(seen, "200") < 5.0

            seen = during(doors, work, clients=4)
            settled(doors[0], seen)


@pytest.mark.parametrize(("policy", "told"), [("fail_closed", "503"), ("fail_open", "200")])
def test_what_the_stack_says_of_quotas_without_redis(tmp_path: Path, policy: str, told: str) -> None:
    """Refused, or let in without a look, counted and seen on `/metrics`."""
    with redis_server(tmp_path) as redis, fake_engine(slots=64) as engine:
        store = f"store: {{redis: {{url: '{redis.url}'}}, lease: 1 s, away: {{quotas: {policy}}}}}\n"
        with gateways(tmp_path, stack_of(engine, store, limits=f"tokens_per_day: {QUOTA}"), 1) as doors:
            redis.kill()
            until(lambda: stores(doors[0])["quotas"] == "away")
            seen = Seen()
            uvloop.run(crowd(doors, seen, lambda: seen.statuses[told] >= 3, clients=1))
            assert set(seen.statuses) == {told}
            page = _text(doors[0], "/metrics")
            assert 'inhouse_store_away{concern="quotas"} 1.0' in page
            assert ("inhouse_quota_unchecked_total 0.0" in page) == (policy == "fail_closed")


def _text(door: Gateway, path: str) -> str:
    import urllib.request

    from serving import KEY

    request = urllib.request.Request(door.url + path, headers={"authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return str(response.read().decode())
