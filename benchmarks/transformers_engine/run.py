"""The command. Within a round every engine does the same work, each alone on the machine."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.gateway import environments
from benchmarks.gateway.settings import cache_folder
from benchmarks.rig import answers, machine
from benchmarks.rig.answers import Seen, Work
from benchmarks.rig.errors import FailedError, SkippedError
from benchmarks.rig.processes import Child, clean_env
from benchmarks.rig.subject import free_port
from benchmarks.transformers_engine import weights

SHAPE = weights.Shape(width=640, layers=10, heads=10, inner=1728)
STREAMS = (1, 4, 8)
PEER = "transformers"
_START_S = 180.0


@dataclass(frozen=True, slots=True)
class Subject:
    """An engine, and the arguments that it is started with."""

    name: str
    peer: bool
    arguments: tuple[str, ...]


SUBJECTS = (
    Subject("batches of 8", False, ("--batch-max", "8")),
    Subject("one at a time", False, ("--batch-max", "1")),
    Subject("transformers serve", True, ()),
    Subject("the same, continuous batching", True, ("--continuous-batching", "--cb-num-blocks", "256")),
)


def main(argv: list[str] | None = None) -> int:
    """0: measured; 1: something failed."""
    flags = _parser().parse_args(argv)
    cache = flags.cache or cache_folder(os.environ)
    header = machine.facts(
        command=["python -m benchmarks.transformers_engine", *(argv if argv is not None else sys.argv[1:])],
        seconds=0,
        rounds=flags.rounds,
    )
    print("\n".join(f"{name:14} {value}" for name, value in header.items()), flush=True)
    found: dict[str, dict[int, list[Seen]]] = {}
    try:
        if flags.install_peers:
            environments.install([PEER], cache)
        with tempfile.TemporaryDirectory(prefix="transformers-engine-") as place:
            folder = Path(place) / "random"
            millions = weights.write(folder, SHAPE, flags.dtype)
            print(f"{'model':14} Llama, {millions} million random weights, {flags.dtype}", flush=True)
            for subject in [one for one in SUBJECTS if flags.peers or not one.peer]:
                with _started(subject, folder, Path(place), cache, flags.engine_args) as port:
                    found[subject.name] = _measure(port, str(folder) if subject.peer else "random", flags)
            _show(found)
    except (FailedError, SkippedError) as reason:
        print(f"cannot measure: {reason}", file=sys.stderr)
        return 1
    if flags.json:
        told = {name: {n: [asdict(seen) for seen in all_] for n, all_ in by.items()} for name, by in found.items()}
        flags.json.write_text(json.dumps({"header": header, "found": told}, indent=2) + "\n")
    return 0


def _measure(port: int, model: str, flags: argparse.Namespace) -> dict[int, list[Seen]]:
    """The first answer is not counted: it warms up what is made at the first use."""
    asyncio.run(answers.run(port, model, Work(1, 1, 4, (20, 20)), 0))
    found: dict[int, list[Seen]] = {}
    for streams in STREAMS:
        work = Work(streams, flags.answers, flags.tokens, (20, 120))
        found[streams] = [asyncio.run(answers.run(port, model, work, number)) for number in range(flags.rounds)]
    return found


@contextlib.contextmanager
def _started(subject: Subject, folder: Path, place: Path, cache: Path, more: list[str]) -> Iterator[int]:
    port = free_port()
    if subject.peer:
        program = environments.program(PEER, "transformers", cache)
        command = [program, "serve", str(folder), "--device", "cpu", "--port", str(port), *subject.arguments]
    else:
        command = [machine.python(), "-m", "inhouse", "transformers-engine", str(folder), "--port", str(port)]
        command += [*subject.arguments, *more]
    with Child(command, log=place / "engine.log", env=clean_env(HF_HUB_OFFLINE="1")) as child:
        end_s = time.monotonic() + _START_S
        while not _ready(port):
            child.check()
            if time.monotonic() > end_s:
                raise FailedError(f"{subject.name} is not ready after {_START_S:g} s: {child.last_words()}")
            time.sleep(0.2)
        yield port


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
            best = statistics.median(seen.tokens_per_s for seen in first[streams])
            cells.append(f"{rate:.1f}" if by is first else f"{rate:.1f} ({best / rate:.2f} ×)")
        cells += [f"{statistics.median(seen.ttft_ms for seen in by[streams]):.0f} ms" for streams in STREAMS]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.transformers_engine",
        description="What it brings to compute those together who wait, on the CPU. In brackets: how many times more "
        "the first row gives.",
    )
    parser.add_argument("--rounds", type=int, default=1, help="measurements of each; the median is shown (%(default)s)")
    parser.add_argument("--answers", type=int, default=2, help="of each stream, one after another (%(default)s)")
    parser.add_argument("--tokens", type=int, default=32, help="of each answer (%(default)s)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="(%(default)s)")
    parser.add_argument("--engine-args", type=str.split, default=[], help="more flags of our engine, in one text")
    parser.add_argument("--peers", action="store_true", help="`transformers serve` beside it")
    parser.add_argument("--install-peers", action="store_true", help="first install that, if it is missing")
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="where (~/.cache/inhouse-benchmarks)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was seen here too")
    return parser
