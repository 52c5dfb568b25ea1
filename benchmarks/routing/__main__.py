"""`python -m benchmarks.routing`: every policy on the same work, on simulated replicas; the same on any machine."""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import asdict
from pathlib import Path

from benchmarks.routing.work import WORK, Result
from inhouse.routing.router import POLICIES


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.routing", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each figure; their median is shown (3)")
    parser.add_argument("--json", type=Path, help="where to write every run")
    given = parser.parse_args()
    everything: dict[str, list[Result]] = {}
    for name, work in WORK.items():
        print(f"\n{name}\n\n| policy | TTFT p50 | TTFT p95 | requests/s |\n|---|---:|---:|---:|")
        for policy in POLICIES:
            runs = [work(policy, seed) for seed in range(given.seeds)]
            everything.setdefault(name, []).extend(runs)
            p50_s, p95_s, per_s = (
                statistics.median(getattr(run, figure) for run in runs)
                for figure in ("ttft_p50_s", "ttft_p95_s", "requests_per_s")
            )
            print(f"| `{policy}` | {1000 * p50_s:.0f} ms | {1000 * p95_s:.0f} ms | {per_s:.1f} |", flush=True)
    if given.json:
        given.json.write_text(json.dumps({name: [asdict(run) for run in runs] for name, runs in everything.items()}))


if __name__ == "__main__":
    main()
