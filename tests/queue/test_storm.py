"""Workers and Redis killed, frozen and stopped at random moments under load: no job is lost, none answered twice.

`STORM_S=300 pytest -s tests/queue/test_storm.py` makes it last longer; it prints what it saw.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter

from pool import LEASE_S, Pool, Worker, soon
from streams import Streams, percentile

STORM_S = float(os.environ.get("STORM_S", "12"))
SLOTS = 4


async def test_workers_and_redis_that_come_and_go(pool: Pool) -> None:
    """Two gateways, three workers, a fault about every second: every stream is whole, word for word, and Redis is empty
    at the end."""
    pool.settings = "attempts_max: 100"
    draw = random.Random(7)
    workers = [_start(pool) for _ in range(3)]
    gateways = [pool.gateway(), pool.gateway()]
    faults: Counter[str] = Counter()
    end_s = time.monotonic() + STORM_S
    async with Streams(gateways[0], at_once=6) as one, Streams(gateways[1], at_once=6, seed=1) as other:
        while time.monotonic() < end_s:
            await (one if draw.random() < 0.5 else other).heard(draw.randint(40, 90))
            victim = draw.randrange(len(workers))
            fault = draw.choice(["kill", "kill", "kill", "freeze", "freeze", "stop", "redis"])
            faults[fault] += 1
            worker = workers[victim]
            if fault == "redis":
                await asyncio.to_thread(pool.redis.kill)
                await asyncio.to_thread(pool.redis.start)
            elif fault == "freeze":
                worker.tell(signal.SIGSTOP)
                await asyncio.sleep(draw.uniform(0.5, 2.0) * LEASE_S)  # some wake up in time, some do not
                worker.tell(signal.SIGCONT)
            else:
                if fault == "kill":
                    worker.tell(signal.SIGKILL)
                else:
                    worker.tell(signal.SIGINT)
                workers[victim] = _start(pool, worker)
    both = (one, other)
    outcomes = one.outcomes + other.outcomes
    seams = [seam for streams in both for seam in streams.seams_s]
    first = [first for streams in both for first in streams.first_s]
    print(
        f"\n{STORM_S:g} s, {sum(faults.values())} faults {dict(faults)}: {dict(outcomes)}, "
        f"{sum(streams.failovers for streams in both)} failovers; recovery p50 {percentile(seams, 0.5):.2f} s, "
        f"p99 {percentile(seams, 0.99):.2f} s, lease {LEASE_S:g} s; first token p99 {percentile(first, 0.99):.2f} s"
    )
    assert set(outcomes) == {"whole"}, (outcomes, one.odd[:3], other.odd[:3])
    assert outcomes["whole"] >= 12
    await soon(lambda: not pool.leftovers(), "nothing is left in Redis", 4 * LEASE_S)
    assert pool.ask_redis("EXISTS", pool.key("dead")) == 0


def _start(pool: Pool, before: Worker | None = None) -> Worker:
    """A worker, beside the engine that another one had."""
    if before is None:
        return pool.worker(slots=SLOTS, tokens_per_s=60, ready=False)
    return pool.worker_beside(before, slots=SLOTS)
