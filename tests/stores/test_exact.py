"""Three gateways and one Redis: limits hold for all of them together, to the token."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from pathlib import Path

import uvloop
from crowd import Seen, crowd, gateways, stack_of, until

from fake_engine import fake_engine
from inhouse.config import StoreSpec
from inhouse.store.ledger import LimitName, UsageFilter, Use
from inhouse.store.stores import Stores
from services import Service
from serving import Gateway

QUOTA = 60_000


def shared(service: Service, prefix: str, more: str = "") -> str:
    return f"store: {{redis: {{url: '{service.url}', prefix: {prefix}, timeout: 10 s}}{more}}}\n"


def standing(service: Service, prefix: str, folder: Path, *, wait_s: float = 20.0) -> dict[LimitName, Use]:
    """Where the tenant's limits stand once nothing is held for requests and leases."""
    stores = Stores(folder, StoreSpec.model_validate({"redis": {"url": service.url, "prefix": prefix}}))
    with contextlib.closing(stores.ledger()) as ledger:
        end_s = time.monotonic() + wait_s
        while True:
            live = ledger.live("tenant:default", ledger.now())
            if live["tokens_per_day"].held == 0 or time.monotonic() > end_s:
                return live


def counted(doors: list[Gateway]) -> int:
    """Tokens in the usage of the gateways, each of which keeps its own."""
    total = 0
    for door in doors:
        with contextlib.closing(Stores(door.state_dir).ledger()) as ledger:
            total += sum(row.prompt_tokens + row.completion_tokens for row in ledger.usage(UsageFilter()))
    return total


def test_a_quota_of_all_gateways_to_the_last_token(redis: Service, tmp_path: Path) -> None:
    """3 × 64 clients: what was used is what they were told, never above the quota, and close to it."""
    with fake_engine(answer_spread=0.5, slots=256) as engine:
        stack = stack_of(engine, shared(redis, "exact"), limits=f"tokens_per_day: {QUOTA}")
        with gateways(tmp_path, stack) as doors:
            seen = Seen()
            uvloop.run(crowd(doors, seen, lambda: seen.codes["insufficient_quota"] > 0))
            live = standing(redis, "exact", tmp_path)
        assert set(seen.statuses) == {"200", "429"}
        assert live["tokens_per_day"] == Use(used=seen.tokens, held=0)
        assert live["concurrent_requests"] == Use(used=0, held=0)
        assert QUOTA - 600 <= seen.tokens <= QUOTA
        assert counted(doors) == seen.tokens


def test_requests_at_once_on_all_gateways(redis: Service, tmp_path: Path) -> None:
    """The engine never had more of them than the limit, though it had slots for all."""
    with fake_engine(tokens_per_s=500, answer_tokens=8, slots=256) as engine:
        stack = stack_of(engine, shared(redis, "narrow"), limits="concurrent_requests: 5")
        with gateways(tmp_path, stack) as doors:
            seen = Seen()
            uvloop.run(crowd(doors, seen, lambda: seen.statuses["200"] >= 100, clients=16, tokens=8))
        assert engine.stats()["running_max"] == 5
        assert seen.statuses["429"] > 0


def test_what_a_killed_gateway_held(redis: Service, tmp_path: Path) -> None:
    """Its places are free and its tokens charged once its lease has run out; the quota holds all the while."""
    with fake_engine(tokens_per_s=10, answer_tokens=40, slots=256) as engine:
        limits = "concurrent_requests: 8, tokens_per_day: 100000"
        stack = stack_of(engine, shared(redis, "killed", ", lease: 1 s"), limits=limits)
        with gateways(tmp_path, stack, 2) as doors:
            seen = Seen()

            async def kill_and_wait() -> None:
                async with asyncio.TaskGroup() as group:
                    group.create_task(crowd(doors[:1], seen, lambda: False, clients=8))
                    await asyncio.to_thread(until, lambda: engine.stats()["running"] == 8)
                    doors[0].process.send_signal(signal.SIGKILL)

            uvloop.run(kill_and_wait())
            begun_s = time.monotonic()
            live = standing(redis, "killed", tmp_path)
            waited_s = time.monotonic() - begun_s
            assert live["concurrent_requests"].held == 0
            assert live["tokens_per_day"].used > 0
            assert waited_s < 2.0
            other = Seen()
            uvloop.run(crowd(doors[1:], other, lambda: other.statuses["200"] >= 1, clients=8, tokens=8))
            assert other.statuses["200"] >= 1
