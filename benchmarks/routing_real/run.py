"""The command. Within a round everybody does the same work, so that a slow minute of the machine slows all of them."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

from benchmarks.gateway import environments
from benchmarks.gateway.peers import ROUTER
from benchmarks.gateway.settings import cache_folder
from benchmarks.rig import machine
from benchmarks.rig.command import within
from benchmarks.rig.errors import FailedError, SkippedError
from benchmarks.routing_real import fleets, load, slots, weights
from benchmarks.routing_real.fleets import PEERS, POLICIES, Fleet
from benchmarks.routing_real.load import Door, Seen
from benchmarks.routing_real.work import CONVERSATIONS, STRANGERS, Work

SHAPE = weights.Shape(width=256, layers=4, heads=4, inner=704, context_tokens=4096)
LLAMACPP, FAKE, SLOTS = "llamacpp", "fake", "slots"
WORK: dict[str, dict[str, Work]] = {
    LLAMACPP: {
        CONVERSATIONS: Work(8, turns=8, system_words=80, message_words=(60, 240), answer_tokens=(4, 12)),
        STRANGERS: Work(8, turns=0, system_words=0, message_words=(40, 400), answer_tokens=(4, 12)),
    },
    FAKE: {
        CONVERSATIONS: Work(20, turns=8, system_words=200, message_words=(150, 600), answer_tokens=(16, 64)),
        STRANGERS: Work(20, turns=0, system_words=0, message_words=(50, 500), answer_tokens=(16, 64)),
    },
}
Found = dict[str, list[Seen]]


def main(argv: list[str] | None = None) -> int:
    """0: measured; 1: something failed."""
    flags = _parser().parse_args(argv)
    cache = flags.cache or cache_folder(os.environ)
    header = machine.facts(
        command=["python -m benchmarks.routing_real", *(argv if argv is not None else sys.argv[1:])],
        seconds=flags.seconds,
        rounds=flags.rounds,
    )
    print("\n".join(f"{name:14} {value}" for name, value in header.items()), flush=True)
    report: dict[str, object] = {"header": header}
    try:
        if flags.install_peers:
            environments.install([ROUTER], cache)
        with tempfile.TemporaryDirectory(prefix="routing-real-") as place:
            folder = Path(place)
            model = folder / "random.gguf"
            if flags.fleet != FAKE:
                weights.write(model, SHAPE)
            if flags.fleet == SLOTS:
                report[SLOTS] = slots.measure(model, folder)
            else:
                fleet = (
                    fleets.llamacpp(model, flags.replicas, 4, 4096, (*fleets.CACHE_ARGS, *flags.engine_args))
                    if flags.fleet == LLAMACPP
                    else fleets.fake(flags.replicas, 8, 16_384)
                )
                names = [*flags.policies, *(PEERS if flags.peers else ())]
                for name in flags.work or (CONVERSATIONS, STRANGERS):
                    work = WORK[flags.fleet][name].shorter(flags.lengths, flags.users)
                    found = _measure(fleet, work, names, flags, folder / name, cache)
                    _show(fleet, name, work, found)
                    report[name] = {who: [asdict(seen) for seen in rounds] for who, rounds in found.items()}
    except (FailedError, SkippedError) as reason:
        print(f"cannot measure: {reason}", file=sys.stderr)
        return 1
    if flags.json:
        flags.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def _measure(fleet: Fleet, work: Work, names: list[str], flags: argparse.Namespace, folder: Path, cache: Path) -> Found:
    found: Found = {name: [] for name in names}
    for number in range(flags.rounds):
        for place, name in enumerate(names):
            own = folder / f"{number}-{place}"
            (own / "state").mkdir(parents=True, mode=0o700)
            with _door(fleet, name, own, cache) as door:
                found[name].append(asyncio.run(load.run(door, work, flags.seed + number, flags.seconds)))
    return found


def _door(fleet: Fleet, name: str, folder: Path, cache: Path) -> AbstractContextManager[Door]:
    return fleets.router(fleet, name, folder, cache) if name in PEERS else fleets.gateway(fleet, name, folder)


def _show(fleet: Fleet, name: str, work: Work, found: Found) -> None:
    print(f"\n{name}, {work.users} users; {fleet.title}\n")
    print("| | TTFT p50 | TTFT p95 | requests/s | answer tokens/s | from the cache | requests |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for who, rounds in found.items():
        p50_ms, p95_ms, per_s, tokens_per_s, cached = (
            statistics.median(read(seen) for seen in rounds) for read in _FIGURES
        )
        requests = sum(len(seen.ttft_s) for seen in rounds)
        print(
            f"| `{who}` | {p50_ms:.0f} ms | {p95_ms:.0f} ms | {per_s:.2f} | {tokens_per_s:.0f} | {cached:.0%} |"
            f" {requests} |"
        )
    sys.stdout.flush()


_FIGURES: tuple[Callable[[Seen], float], ...] = (
    lambda seen: seen.quantile_ms(10),
    lambda seen: seen.quantile_ms(19),
    lambda seen: seen.requests_per_s,
    lambda seen: seen.answer_tokens / seen.seconds,
    lambda seen: seen.cached,
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.routing_real",
        description="What the routing policies make of the same work, through a real gateway on real processes.",
    )
    parser.add_argument(
        "--fleet",
        choices=(LLAMACPP, FAKE, SLOTS),
        default=LLAMACPP,
        help="which engines; slots: one llama.cpp alone",
    )
    parser.add_argument("--replicas", type=int, default=4, help="how many engines (%(default)s)")
    parser.add_argument(
        "--work", action="append", choices=(CONVERSATIONS, STRANGERS), help="this work; may be given more than once"
    )
    parser.add_argument(
        "--policies", nargs="+", choices=POLICIES, default=list(POLICIES), help="the gateway's policies (all)"
    )
    parser.add_argument("--peers", action="store_true", help="vLLM's router beside them, on the same engines")
    parser.add_argument("--install-peers", action="store_true", help="first install it, if it is missing")
    parser.add_argument(
        "--cache", type=Path, metavar="FOLDER", help="where its environment is (~/.cache/inhouse-benchmarks)"
    )
    parser.add_argument(
        "--seconds", type=within(0.5, 600), default=20.0, help="length of one measurement (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=1, help="measurements of each; the median is shown (%(default)s)")
    parser.add_argument("--engine-args", type=str.split, default=[], help="more flags of llama.cpp, in one text")
    parser.add_argument("--users", type=int, help="how many at once (8 before llama.cpp, 20 before fake engines)")
    parser.add_argument(
        "--lengths", type=within(1, 200), default=100.0, help="of the texts, in percent of what is usual (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="another seed, other texts; grows by round (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every request's TTFT here too")
    return parser
