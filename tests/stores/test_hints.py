"""Two gateways before an engine that fails: what the first has found out costs the second one request."""

from __future__ import annotations

from pathlib import Path

import uvloop
from crowd import Seen, crowd, gateways, until

from fake_engine import fake_engine
from services import Service
from serving import Gateway

ROUTING = (
    "{policy: round-robin, breaker: {failures: 5, open: 300 s, open_max: 300 s}, outliers: {requests_min: 100000}}"
)


def left_out(door: Gateway) -> bool:
    return any("endpoint left out" in line for line in door.log)


def test_what_another_gateway_left_out(redis: Service, tmp_path: Path) -> None:
    """The first sends it five requests that fail, the second one; clients of both are answered."""
    with fake_engine(slots=64, error_rate=1.0) as failing, fake_engine(slots=64) as good:
        stack = (
            f"models: {{chat: {{endpoints: ['{failing.url}', '{good.url}'], engine: vllm, slots: 64, "
            f"routing: {ROUTING}}}}}\nstore: {{redis: {{url: '{redis.url}', prefix: hints}}}}\n"
        )
        with gateways(tmp_path, stack, 2) as doors:
            told = []
            for door in doors:
                before = sum(failing.stats()["faults"].values())
                seen = Seen()
                uvloop.run(crowd([door], seen, lambda door=door: left_out(door), clients=1, tokens=4))
                assert seen.statuses["200"] == seen.statuses.total()
                told.append(sum(failing.stats()["faults"].values()) - before)
                if door is doors[0]:
                    until(lambda: _heard(redis, doors))
            assert told[0] == 5
            assert told[1] == 1


def _heard(redis: Service, doors: list[Gateway]) -> bool:
    """Whether what the first told is there, and the second has had time for two looks."""
    import time

    import redis as library

    with library.Redis.from_url(redis.url) as client:
        found = client.zrange("hints:hints", 0, -1, withscores=True)
    return any(time.time() * 1000 - at > 2500 for _, at in found)
