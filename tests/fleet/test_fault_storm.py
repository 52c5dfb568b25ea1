"""Replicas that die, freeze, break off and come back while many streams run: none is lost, none is cut, none hangs.

`FAULTS=100 pytest -s tests/fleet/test_fault_storm.py -k deaths` is a longer storm; it prints what it saw.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from rawhttp import ask, gauge, head, post, until
from streams import Streams, percentile

from fleet import Fakes, Start, chat, stack
from serving import Gateway

FAULTS = int(os.environ.get("FAULTS", "40"))
ROUTING = (
    "idle_timeout: 0.5 s, failover: {per_answer_max: 50}, "
    "routing: {policy: least-load, retries: {percent: 1000, floor_per_second: 1000}, breaker: {failures: 1000}, "
    "outliers: {requests_min: 100000}}"
)


class Replica:
    """A fake engine on a socket of its own, that can be killed and started anew."""

    def __init__(self, path: Path, **settings: Any) -> None:
        self.path = path
        flags = [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        self._command = [sys.executable, "-m", "inhouse", "fake-engine", "--host", str(path), *flags]
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)

    async def start_again(self) -> None:
        """Returns when it listens."""
        self.path.unlink(missing_ok=True)
        self.process = self._start()
        await self.listens()

    async def listens(self) -> None:
        while True:
            try:
                _, writer = await asyncio.open_unix_connection(str(self.path))
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return

    def freeze(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)


Replicas = Callable[..., list[Replica]]


@pytest.fixture
async def replicas() -> AsyncIterator[Replicas]:
    """Starts some: `replicas(3, tokens_per_s=50)`."""
    running: list[Replica] = []
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as folder:

        def some(count: int, **settings: Any) -> list[Replica]:
            found = [Replica(Path(folder) / f"{number}.sock", **settings) for number in range(count)]
            running.extend(found)
            return found

        yield some
        for one in running:
            one.kill()


async def enough(gateway: Gateway, slots: int) -> None:
    """Until the gateway sees so many slots open: what is left when one more is gone must be able to serve all."""
    await asyncio.to_thread(until, lambda: gauge(gateway, "inhouse_slots") >= slots, "enough slots are open")


def whole_only(streams: Streams) -> None:
    assert streams.outcomes.keys() == {"whole"}, (streams.outcomes, streams.odd[:3])


async def test_deaths_and_freezes(replicas: Replicas, start: Start) -> None:
    """kill -9 and SIGSTOP, `FAULTS` of them at seeded moments, in prefill and in mid-stream, under 32 streams."""
    draw = random.Random(4)
    fleet = replicas(5, parallel=16, queue_max=0, ttft_s=0.03, tokens_per_s=60)
    gateway = start(stack([f"unix:{one.path}" for one in fleet], ROUTING, slots=16), ready=5)
    async with Streams(gateway, 32) as streams:
        await streams.all_open()
        frozen: list[Replica] = []
        back: list[asyncio.Task[None]] = []
        for _ in range(FAULTS):
            await streams.heard(draw.randint(30, 150))
            while len(frozen) > 1:
                frozen.pop(0).thaw()
            await enough(gateway, 3 * 16)
            well = [one for one in fleet if one not in frozen and one.process.poll() is None]
            one = draw.choice(well)
            if draw.random() < 0.5:
                one.kill()
                back.append(asyncio.create_task(one.start_again()))
            else:
                one.freeze()
                frozen.append(one)
        for one in frozen:
            one.thaw()
        await asyncio.gather(*back)
    whole_only(streams)
    assert streams.failovers > 20
    assert gauge(gateway, "inhouse_failovers_total") == streams.failovers
    print(
        f"{streams.ended} streams, {streams.failovers} failovers, seams p50 {percentile(streams.seams_s, 0.5):.3f} s, "
        f"p99 {percentile(streams.seams_s, 0.99):.3f} s; first token p50 {percentile(streams.first_s, 0.5):.3f} s, "
        f"p99 {percentile(streams.first_s, 0.99):.3f} s"
    )


async def test_everything_else_that_fails(fakes: Fakes, start: Start) -> None:
    """Refused and half-open connections, 500s, what is no HTTP, streams that end too soon, stand still or trickle: two
    of four engines do all of it, and each of 32 clients hears its whole answers."""
    engines = fakes(4, slots=16, queue_max=0, ttft_s=0.01, tokens_per_s=100)
    gateway = start(stack(engines, ROUTING, slots=16), ready=4)
    rates = {"half_open_rate": 0.02, "error_rate": 0.1, "garbage_rate": 0.1, "truncate_rate": 0.3, "stall_rate": 0.03}
    for number, engine in enumerate(engines[:2]):
        engine.set(**rates, refuse_rate=0.2, drip_rate=0.05, drip_s=0.2, fault_seed=number)
    all_of_it = {"refuse", "half_open", "error", "garbage", "truncate", "stall", "drip"}

    def unseen() -> set[str]:
        return all_of_it - {fault for engine in engines[:2] for fault in engine.stats()["faults"]}

    async with Streams(gateway, 32, tokens=(10, 40)) as streams:
        await streams.heard(4_000)
        while missing := await asyncio.to_thread(unseen):
            assert streams.words < 60_000, missing
            await streams.heard(400)
    whole_only(streams)
    assert streams.failovers > 10


async def test_a_rolling_restart_of_the_replicas(replicas: Replicas, start: Start) -> None:
    """One after the other is ended and started anew under a hundred open streams."""
    fleet = replicas(4, parallel=50, queue_max=0, tokens_per_s=40)
    gateway = start(stack([f"unix:{one.path}" for one in fleet], ROUTING, slots=50), ready=4)
    async with Streams(gateway, 100, tokens=(40, 80)) as streams:
        for one in fleet:
            await streams.all_open()
            await enough(gateway, 4 * 50)
            one.process.terminate()
            await asyncio.to_thread(one.process.wait, 20)
            await one.start_again()
    whole_only(streams)
    assert streams.failovers > 20


async def test_a_restart_of_the_gateway(fakes: Fakes, start: Start) -> None:
    """SIGTERM with a hundred open streams: it is not ready any more at once, refuses with 503 and when to come back,
    and each stream comes to its end, even those whose replica dies meanwhile."""
    engines = fakes(3, slots=60, queue_max=0, tokens_per_s=30)
    gateway = start(stack(engines, ROUTING, slots=60), ready=3)
    async with Streams(gateway, 100, tokens=(50, 80)) as streams:
        await streams.all_open()
        streams.over = True
        gateway.process.send_signal(signal.SIGTERM)
        draining = await asyncio.to_thread(gateway.wait_for, event="gateway", state="draining")
        assert draining["open_requests"] == 100
        health = await asyncio.to_thread(ask, gateway, head("GET", "/health", key=None))
        refused = await asyncio.to_thread(ask, gateway, post(chat()))
        assert (health.status, refused.status, refused.code) == (503, 503, "shutting_down")
        assert int(refused.headers["retry-after"]) >= 1
        engines[0].process.kill()
    whole_only(streams)
    assert streams.ended >= 100
    assert streams.failovers > 10
    assert await asyncio.to_thread(gateway.process.wait, 20) == 0
