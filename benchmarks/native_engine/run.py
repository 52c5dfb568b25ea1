"""The command. In each round both engines do the same work, each alone on the machine."""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

from benchmarks.memory import shapes
from benchmarks.rig import machine
from benchmarks.rig.errors import FailedError, SkippedError
from benchmarks.rig.processes import Child, clean_env
from benchmarks.rig.subject import free_port
from benchmarks.transformers_engine import load
from benchmarks.transformers_engine.load import Seen, Work
from inhouse.engines.engine import Spec
from inhouse.engines.hardware import look
from inhouse.engines.http import Address
from inhouse.engines.llamacpp import argv as engine_argv
from inhouse.engines.native_here import built_here

GEMMA_3_1B = shapes.Shape(
    "Gemma-3-1B",
    "gemma3",
    layers=26,
    embedding=1152,
    heads=4,
    kv_heads=1,
    head_length=256,
    feed_forward=6912,
    vocabulary=262144,
    window=512,
    recipe="q4_0",
)
STREAMS = (1, 16)
_START_S = 120.0


def main(argv: list[str] | None = None) -> int:
    """0: measured; 1: something failed."""
    flags = _parser().parse_args(argv)
    words = argv if argv is not None else sys.argv[1:]
    header = machine.facts(command=["python -m benchmarks.native_engine", *words], seconds=0, rounds=flags.rounds)
    print("\n".join(f"{name:14} {value}" for name, value in header.items()), flush=True)
    hardware = look(with_gpus=False)
    try:
        built = built_here(hardware, os.environ)
        if built is None:
            raise SkippedError("no engine is built here: `inhouse engine build`")
        with tempfile.TemporaryDirectory(prefix="native-engine-") as place:
            weights = flags.model or Path(place) / "random.gguf"
            if flags.model is None:
                shapes.write(GEMMA_3_1B, weights)
            package = Spec("bench", weights, 512, max(STREAMS), threads=hardware.usable_cores)
            specs = {"in the package": package, "built here": replace(package, native=built.program)}
            found: dict[str, dict[int, list[Seen]]] = {name: {n: [] for n in STREAMS} for name in specs}
            for number in range(flags.rounds):
                for name, spec in specs.items():
                    _measure(spec, found[name], number, flags, Path(place))
        _show(found)
    except (FailedError, SkippedError) as reason:
        print(f"cannot measure: {reason}", file=sys.stderr)
        return 1
    return 0


def _measure(spec: Spec, found: dict[int, list[Seen]], number: int, flags: argparse.Namespace, place: Path) -> None:
    port = free_port()
    command = engine_argv(spec, Address(port=port)).argv
    with Child(command, log=place / "engine.log", env=clean_env(GOMP_SPINCOUNT="10000"), held=True) as child:
        end_s = time.monotonic() + _START_S
        while not _ready(port):
            child.check()
            if time.monotonic() > end_s:
                raise FailedError(f"not ready after {_START_S:g} s: {child.last_words()}")
            time.sleep(0.1)
        asyncio.run(load.run(port, "bench", Work(1, 1, 4, (20, 20)), 0))
        for streams in STREAMS:
            work = Work(streams, 1, flags.tokens, (40, 80))
            found[streams].append(asyncio.run(load.run(port, "bench", work, number)))


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _show(found: dict[str, dict[int, list[Seen]]]) -> None:
    titles = [f"tokens/s × {streams}" for streams in STREAMS] + [f"TTFT × {streams}" for streams in STREAMS]
    print(f"\n| | {' | '.join(titles)} |\n|---|{'---:|' * len(titles)}")
    first = next(iter(found.values()))
    for name, by in found.items():
        cells = []
        for streams in STREAMS:
            rate = statistics.median(seen.tokens_per_s for seen in by[streams])
            package = statistics.median(seen.tokens_per_s for seen in first[streams])
            cells.append(f"{rate:.1f}" if by is first else f"{rate:.1f} ({rate / package:.2f} ×)")
        cells += [f"{statistics.median(seen.ttft_ms for seen in by[streams]):.0f} ms" for streams in STREAMS]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.native_engine",
        description="What `inhouse engine build` brings on this CPU, on random weights in Gemma-3-1B's shape, Q4_0. "
        "In brackets: how many times the first row.",
    )
    parser.add_argument("--rounds", type=int, default=1, help="measurements of each; the median is shown (%(default)s)")
    parser.add_argument("--tokens", type=int, default=24, help="of each answer (%(default)s)")
    parser.add_argument("--model", type=Path, metavar="FILE", help="a .gguf file in place of random weights")
    return parser
