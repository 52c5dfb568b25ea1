"""Gateways, Redis and PostgreSQL killed, cut off and silenced at random moments under load.

`STORES_STORM_S=120` makes it longer, `STORES_STORM_SEED=7` another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from pathlib import Path

import uvloop
from crowd import Seen, ask, stack_of, until
from store_proxy import proxy
from test_shared import command

from fake_engine import fake_engine
from services import postgres_server, redis_server
from serving import Gateway, started

QUOTA = 30_000
SEED = int(os.environ.get("STORES_STORM_SEED", "1"))
STORM_S = float(os.environ.get("STORES_STORM_S", "10"))
CLIENTS = 24


def test_whatever_dies_the_quota_holds_and_use_is_charged(tmp_path: Path) -> None:
    """What clients were told they used was charged, never more than the quota, and in the end nothing is held."""
    for name in ("redis", "postgres"):
        (tmp_path / name).mkdir()
    with (
        redis_server(tmp_path / "redis") as redis,
        postgres_server(tmp_path / "postgres") as postgres,
        proxy(redis.port) as to_redis,
        proxy(postgres.port) as to_postgres,
        fake_engine(answer_spread=0.5, slots=256) as engine,
        contextlib.ExitStack() as exits,
    ):
        draw = random.Random(SEED)
        url = f"postgresql://inhouse@127.0.0.1:{to_postgres.port}/inhouse"
        store = (
            f"store: {{redis: {{url: 'redis://127.0.0.1:{to_redis.port}/0', timeout: 300 ms}}, "
            f"postgres: {{url: '{url}', timeout: 1 s}}, lease: 2 s}}\n"
        )
        stack = stack_of(engine, store, limits=f"tokens_per_day: {QUOTA}, concurrent_requests: 12")
        doors: list[Gateway] = []

        def start() -> None:
            own = tmp_path / f"gateway-{len(list(tmp_path.glob('gateway-*')))}"
            own.mkdir()
            door = started(own, stack)
            exits.callback(door.stop)
            door.wait_for(event="replica", state="ready")
            doors.append(door)

        for _ in range(3):
            start()
        seen, over = Seen(), False

        async def client(number: int) -> None:
            own = random.Random(number)
            while not over:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(10):
                        if not await ask(own.choice(doors), seen, own):
                            await asyncio.sleep(0.05)

        def storm() -> None:
            end_s = time.monotonic() + STORM_S
            while time.monotonic() < end_s:
                before = seen.statuses.total()
                until(lambda before=before: seen.statuses.total() > before + 20)  # type: ignore[misc]
                fault = draw.choice(["gateway", "redis", "postgres", "silent redis", "silent postgres", "cut"])
                if fault == "gateway":
                    gone = doors.pop(draw.randrange(len(doors)))
                    gone.process.send_signal(signal.SIGKILL)
                    start()
                elif fault in ("redis", "postgres"):
                    server = redis if fault == "redis" else postgres
                    server.kill()
                    time.sleep(draw.uniform(0.0, 0.5))
                    server.start()
                elif fault == "cut":
                    to_redis.cut()
                    to_postgres.cut()
                else:
                    wire = to_redis if fault == "silent redis" else to_postgres
                    wire.silent = True
                    time.sleep(draw.uniform(0.2, 1.5))
                    wire.silent = False

        async def both() -> None:
            nonlocal over
            async with asyncio.TaskGroup() as group:
                for number in range(CLIENTS):
                    group.create_task(client(number))
                try:
                    await asyncio.to_thread(storm)
                finally:
                    over = True

        uvloop.run(both())
        assert set(seen.statuses) <= {"200", "429", "503"}
        assert seen.statuses["200"] > 20
        until(lambda: set(doors[0].get("/health/ready")["stores"].values()) == {"ok"}, wait_s=20)

        def standing() -> dict[str, dict[str, int]]:
            found: dict[str, dict[str, int]] = command(doors[0], "tenants", "show", "default")["limits"]
            return found

        until(lambda: standing()["tokens_per_day"]["held"] == 0, wait_s=20)
        last = standing()
        assert last["concurrent_requests"]["held"] == 0
        assert seen.tokens <= last["tokens_per_day"]["used"] <= QUOTA
        assert command(doors[0], "audit", "verify")["problems"] == []
