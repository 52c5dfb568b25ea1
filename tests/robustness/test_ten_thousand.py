"""Ten thousand requests, half of whose clients leave at some moment: nothing of them is left in the gateway."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from rawhttp import ask, head, resident_mib, still_works, until
from storm import storm

from fake_engine import binary
from inhouse.store.sqlite import FILE_NAME
from serving import Gateway, serving

STACK = """
models:
  demo: {{source: demo, slots: 24, engine_binary: {engine}, queue_wait_max: 30s}}
  narrow:
    source: demo
    slots: 4
    engine_binary: {engine}
    queue_requests_max: 8
    limits: {{concurrent_requests: 12}}
tenant_defaults:
  limits: {{requests_per_minute: 1000000, tokens_per_minute: 500000000, tokens_per_day: 900000000}}
explain: {{requests_max: 500}}
"""
WARM_UP, ALL, CLIENTS = 1500, 10_000, 96
RESIDENT_MIB_MORE_MAX = 6.0
"""What the allocator may keep."""


def held(gateway: Gateway) -> int:
    """Reservations and leases in the ledger."""
    with contextlib.closing(sqlite3.connect(f"file:{gateway.state_dir}/{FILE_NAME}?mode=ro", uri=True)) as ledger:
        count: int = ledger.execute("SELECT count(*) FROM ledger_reservations").fetchone()[0]
        return count


def gauges(gateway: Gateway) -> dict[str, float]:
    """Sums over models, by name."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(ask(gateway, head("GET", "/metrics", key=None)).body.decode()):
        if family.type == "gauge":
            found[family.name] = sum(sample.value for sample in family.samples)
    return found


def booked(gateway: Gateway) -> Counter[str]:
    """Requests that ended, by status."""
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(ask(gateway, head("GET", "/metrics", key=None)).body.decode()):
        for sample in family.samples:
            if sample.name == "inhouse_requests_total":
                found[sample.labels["status"]] += int(sample.value)
    return found


def at_rest(gateway: Gateway) -> bool:
    now = gauges(gateway)
    names = ("inhouse_requests_in_service", "inhouse_requests_waiting", "inhouse_reservations")
    return not any(now[name] for name in names) and now["inhouse_connections"] <= 1


def engines_idle(gateway: Gateway) -> bool:
    return not any(slot["is_processing"] for lane in gateway.get("/slots") for slot in lane["slots"])


def open_files(gateway: Gateway) -> int:
    return len(os.listdir(f"/proc/{gateway.process.pid}/fd"))


def rests(gateway: Gateway, pools: Callable[[], bool]) -> None:
    until(lambda: at_rest(gateway), "nothing is in service, waits or is held")
    until(lambda: engines_idle(gateway), "the engines are idle")
    until(pools, "idle connections to the engines are closed")


def test_ten_thousand_requests(tmp_path: Path) -> None:
    """No slot, place, reservation, task, file or memory is leaked; each request is booked once; nobody was told that
    the gateway itself failed."""
    engine = binary(
        tmp_path,
        ttft_s=0.003,
        prefill_tokens_per_s=100_000,
        tokens_per_s=500,
        error_rate=0.01,
        truncate_rate=0.01,
        answer_tokens=40,
        answer_spread=0.5,
    )
    with serving(tmp_path, STACK.format(engine=engine)) as gateway:
        gateway.wait_for(event="replica", state="ready")

        def pools() -> bool:
            return gauges(gateway)["inhouse_engine_connections"] == 0

        began_s = time.monotonic()
        ends = storm(gateway.address, requests=WARM_UP, clients=CLIENTS, seed=1)
        rests(gateway, pools)
        before, files, mib = gauges(gateway), open_files(gateway), resident_mib(gateway.process.pid)
        ends += storm(gateway.address, requests=ALL - WARM_UP, clients=CLIENTS, seed=2)
        rests(gateway, pools)
        after, more_mib = gauges(gateway), resident_mib(gateway.process.pid) - mib
        print(f"{time.monotonic() - began_s:.1f} s, {mib:.1f} MiB and {more_mib:+.1f} MiB; {dict(ends)}")

        assert ends.total() == ALL
        assert sum(count for end, count in ends.items() if end.startswith("left")) > ALL * 0.35
        assert set(ends) <= {
            "200", "200 and an error", "429", "502", "ended early",
            "left while sending", "left at once", "left after a while", "left in the stream",
        }  # fmt: skip
        assert ends["502"] + ends["200 and an error"] < ALL * 0.05
        seen_nowhere = ends["left while sending"] + ends["left at once"]  # a reset may overtake what was sent
        assert ALL - seen_nowhere <= booked(gateway).total() <= ALL
        assert booked(gateway)["200"] >= ends["200"] + ends["200 and an error"]
        assert set(booked(gateway)) <= {"200", "429", "499", "502"}
        assert after["inhouse_tasks"] <= before["inhouse_tasks"]
        until(lambda: open_files(gateway) <= files, "no more files are open than before")
        assert more_mib < RESIDENT_MIB_MORE_MAX
        until(lambda: held(gateway) == 0, "nothing is held; what lies idle is given back by the next sweeps")
        still_works(gateway, asked_for="engine_failed")
        assert not [line for line in gateway.log if "Traceback" in line or "internal error" in line]
