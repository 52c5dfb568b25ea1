"""Chat's time to its first token: alone, beside long prompts without the lane rule, and with it.

Each case has a gateway of its own before the real engine with the demo model, and everybody is the same tenant, so that
nothing but the lane rule (`prefill_long_percent`) tells the cases apart. The cases take turns within each round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.long_prompts import load
from benchmarks.long_prompts.load import KEY, MODEL, Seen
from benchmarks.rig import machine
from benchmarks.rig.errors import FailedError
from benchmarks.rig.processes import Child, clean_env
from benchmarks.rig.subject import free_port, inhouse_command, wait_ready

CONTEXT_TOKENS = 2048
LONG_OVER_TOKENS = 512
LONG_WORDS = 850


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    percent: int
    longs: bool


def main(argv: list[str] | None = None) -> int:
    """0: measured; 1: something failed."""
    flags = _parser().parse_args(argv)
    header = machine.facts(
        command=["python -m benchmarks.long_prompts", *(argv if argv is not None else sys.argv[1:])],
        seconds=flags.seconds,
        rounds=flags.rounds,
    )
    print("\n".join(f"{name:14} {value}" for name, value in header.items()), flush=True)
    cases = [
        Case("chat alone", 100, longs=False),
        Case("beside long prompts, no lane (100 %)", 100, longs=True),
        Case(f"beside long prompts, lane of {flags.percent} %", flags.percent, longs=True),
    ]
    found: dict[str, list[Seen]] = {case.name: [] for case in cases}
    try:
        with tempfile.TemporaryDirectory(prefix="long-prompts-") as folder:
            for number in range(flags.rounds):
                for case in cases:
                    own = Path(folder) / f"{number}-{case.percent}-{case.longs}"
                    with _gateway(own, flags.slots, case.percent) as port:
                        longs = flags.longs if case.longs else 0
                        seen = load.run(
                            port, seconds=flags.seconds, chats=flags.chats, longs=longs, long_words=LONG_WORDS
                        )
                        found[case.name].append(asyncio.run(seen))
    except FailedError as reason:
        print(f"cannot measure: {reason}", file=sys.stderr)
        return 1
    print(f"\n{flags.slots} slots, {flags.chats} chats, {flags.longs} clients with prompts of {LONG_WORDS} words\n")
    print(f"{'':42} {'chat TTFT ms':>24} {'chats/s':>8} {'long TTFT ms':>24} {'long/s':>7}")
    print(f"{'':42} {'p50':>12}{'p95':>12} {'':>8} {'p50':>12}{'p95':>12}")
    for name, rounds in found.items():
        print(f"{name:42} {_row(rounds, flags.seconds)}")
    return 0


def _row(rounds: list[Seen], seconds: float) -> str:
    chat = [one for seen in rounds for one in seen.chat_s]
    long = [one for seen in rounds for one in seen.long_s]
    total_s = seconds * len(rounds)
    return f"{_quantiles(chat)} {len(chat) / total_s:8.1f} {_quantiles(long)} {len(long) / total_s:7.1f}"


def _quantiles(times_s: list[float]) -> str:
    if len(times_s) < 2:
        return f"{'-':>12}{'-':>12}"
    cuts = statistics.quantiles(times_s, n=20, method="inclusive")
    return f"{cuts[9] * 1000:12.1f}{cuts[18] * 1000:12.1f}"


@contextmanager
def _gateway(folder: Path, slots: int, percent: int) -> Iterator[int]:
    """A gateway that is ready; its port."""
    (folder / "state").mkdir(parents=True)
    port = free_port()
    model = {
        "source": "demo",
        "slots": slots,
        "threads": 1,
        "context": CONTEXT_TOKENS,
        "prefill_long": LONG_OVER_TOKENS,
        "prefill_long_percent": percent,
    }
    config = folder / "bench.yaml"  # JSON is YAML
    config.write_text(json.dumps({"models": {MODEL: model}, "gateway": {"port": port}}))
    env = clean_env(INHOUSE_API_KEY=KEY, INHOUSE_STATE_DIR=str(folder / "state"))
    command = [*inhouse_command(), "serve", "--config", str(config), "--json"]
    with Child(command, log=folder / "inhouse.log", env=env) as child:
        wait_ready(f"127.0.0.1:{port}", MODEL, child, key=KEY)
        yield port


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.long_prompts",
        description="Chat's time to its first token beside long prompts, with and without the lane rule.",
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="length of one measurement (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; figures are over all of them (%(default)s)")
    parser.add_argument("--slots", type=int, default=4, help="slots of the engine (%(default)s)")
    parser.add_argument("--chats", type=int, default=3, help="clients that chat (%(default)s)")
    parser.add_argument("--longs", type=int, default=8, help="clients with long prompts (%(default)s)")
    parser.add_argument("--percent", type=int, default=25, help="the lane: `prefill_long_percent` (%(default)s)")
    return parser
