"""`python -m benchmarks.queue`: added time to the first token, CPU of each process per token, jobs per second.

Everything runs on this machine: gateway, workers, fake engines, Redis, clients. So figures of time say what the parts
cost when they share the cores; the CPU of a process per token or per job says what one part costs by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from benchmarks.queue.load import Cost, costs, jobs, latencies, percentile, streams
from benchmarks.queue.subjects import Subject, subject
from benchmarks.rig.machine import facts


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queue", description=__doc__)
    parser.add_argument("--requests", type=int, default=300, help="for the time to the first token, one after another")
    parser.add_argument("--streams", type=int, default=32, help="at once, of 40 tokens per second each")
    parser.add_argument("--tokens", type=int, default=200, help="of each of these streams")
    parser.add_argument("--clients", type=int, default=64, help="for jobs per second")
    parser.add_argument("--seconds", type=float, default=10.0, help="for jobs per second")
    parser.add_argument("--workers", type=int, default=2, help="and as many engines, of 32 slots each")
    given = parser.parse_args()
    for name, value in facts(command=["python", "-m", "benchmarks.queue", *sys.argv[1:]], seconds=0, rounds=1).items():
        if name not in ("nginx", "gcc", "seconds", "rounds"):
            print(f"{name:<16}{value}")
    for queued in (False, True):
        with (
            tempfile.TemporaryDirectory(prefix="inhouse-bench-") as folder,
            subject(Path(folder), queued=queued, workers=given.workers) as one,
        ):
            asyncio.run(_measure(one, given))
    return 0


async def _measure(one: Subject, given: argparse.Namespace) -> None:
    print(f"\n{one.name}")
    await jobs(one.address, clients=4, seconds=0.5)  # warm
    first_s = await latencies(one.address, given.requests)
    print(f"  time to first token, alone     p50 {_ms(first_s, 0.5)}  p99 {_ms(first_s, 0.99)}")
    one.pace(40)
    before = costs(one.pids)
    tokens = await streams(one.address, given.streams, given.tokens)
    _print_costs(f"{given.streams} streams of 40 tokens/s", "token", before, costs(one.pids), tokens)
    one.pace(0)
    before = costs(one.pids)
    done, took_s = await jobs(one.address, clients=given.clients, seconds=given.seconds)
    print(
        f"  answers of 8 tokens            {len(done) / took_s:.0f} jobs/s  p50 {_ms(done, 0.5)}  p99 {_ms(done, 0.99)}"
    )
    _print_costs(f"{given.clients} clients", "job", before, costs(one.pids), len(done))


def _print_costs(what: str, unit: str, before: dict[str, Cost], after: dict[str, Cost], count: int) -> None:
    parts = [f"{name} {1e6 * (after[name].cpu_s - before[name].cpu_s) / max(1, count):.0f} µs" for name in before]
    print(f"  CPU per {unit}, {what:<22} {', '.join(parts)}")


def _ms(values_s: list[float], part: float) -> str:
    return f"{1000 * percentile(values_s, part):.1f} ms"


if __name__ == "__main__":
    sys.exit(main())
