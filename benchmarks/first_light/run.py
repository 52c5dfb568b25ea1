"""The command: `python -m benchmarks.first_light`. Runs the sections asked for and prints their tables."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.first_light import engine, footprint, machine, start, subjects, tables, throughput
from benchmarks.first_light.errors import FailedError, SkippedError
from benchmarks.first_light.settings import Settings
from benchmarks.first_light.tables import Table
from benchmarks.first_light.tools import Tools

Section = Callable[[Settings, Callable[[str], None]], Table]

SECTIONS: dict[str, Section] = {
    "gateway": throughput.measure,
    "engine": engine.measure,
    "start": start.measure,
    "memory": footprint.measure,
}
SECONDS_MAX = 60.0
ROUNDS_MAX = 20
BUSY_LOAD = 0.5


def main(argv: list[str] | None = None) -> int:
    """0: everything measured or skipped; 1: something failed; 130: stopped."""
    flags = _parser().parse_args(argv)
    if not sys.platform.startswith("linux"):
        print("this bench reads /proc and pins cores: Linux only")
        return 1
    signal.signal(signal.SIGTERM, _as_interrupt)
    header = machine.facts(
        command=["python -m benchmarks.first_light", *(argv if argv is not None else sys.argv[1:])],
        seconds=flags.seconds,
        rounds=flags.rounds,
    )
    print("\n".join(f"{name:14} {value}" for name, value in header.items()), flush=True)
    if float(header["load_at_start"]) > BUSY_LOAD:
        print("other work runs on this machine now: take ratios at most, no figures", flush=True)
    done: list[Table] = []
    stopped = False
    try:
        with tempfile.TemporaryDirectory(prefix="first-light-") as folder:
            settings = Settings(
                tools=Tools.build(Path(folder)),
                seconds=flags.seconds,
                rounds=flags.rounds,
                inhouse=tuple(shlex.split(flags.inhouse)) if flags.inhouse else subjects.inhouse_command(),
                source=flags.weights,
                litellm=flags.litellm,
            )
            for name in flags.only or SECTIONS:
                done.append(_measure(name, settings))
                print(f"\n{tables.to_text(done[-1])}", flush=True)
    except KeyboardInterrupt:
        stopped = True
        print("\nstopped", file=sys.stderr)
    except (SkippedError, FailedError) as error:
        print(f"cannot measure: {error}", file=sys.stderr)
        return 1
    if flags.json:
        _write(flags.json, header, done, complete=not stopped)
    if stopped:
        return 130
    return 1 if any(table.failed for table in done) else 0


def _measure(name: str, settings: Settings) -> Table:
    """A section that is absent or fails does not stop the others."""
    try:
        return SECTIONS[name](settings, _say)
    except SkippedError as reason:
        return Table(name, "no figures", skipped=str(reason))
    except FailedError as reason:
        return Table(name, "no figures", failed=str(reason))


def _write(path: Path, header: dict[str, Any], done: list[Table], *, complete: bool) -> None:
    report = {"header": header, "complete": complete, "sections": [tables.to_json(table) for table in done]}
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _say(what: str) -> None:
    print(f"… {what}", file=sys.stderr, flush=True)


def _as_interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.first_light",
        description="Measures what the gateway adds to an engine. Loopback only; nothing is left running.",
    )
    parser.add_argument(
        "--only", action="append", choices=list(SECTIONS), help="this section; may be given more than once"
    )
    parser.add_argument(
        "--seconds", type=_within(0.2, SECONDS_MAX), default=3.0, help="length of one measurement (%(default)s)"
    )
    parser.add_argument(
        "--rounds", type=_rounds, default=3, help="measurements of each figure; the median is shown (%(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the tables here as JSON too")
    parser.add_argument(
        "--weights", default="demo", type=_weights, metavar="FILE", help="a .gguf file in place of the demo model"
    )
    parser.add_argument(
        "--inhouse", metavar="COMMAND", help="how inhouse is started, if not as `python -m inhouse` with this Python"
    )
    parser.add_argument("--litellm", metavar="COMMAND", help="a LiteLLM to measure beside, if it is not on PATH")
    return parser


def _within(low: float, high: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        found = float(text)
        if not low <= found <= high:
            raise argparse.ArgumentTypeError(f"from {low:g} to {high:g}")
        return found

    return number


def _rounds(text: str) -> int:
    return int(_within(1, ROUNDS_MAX)(text))


def _weights(text: str) -> str:
    if not subjects.is_weights(text):
        raise argparse.ArgumentTypeError(f"{text} is not a file")
    return text if text == "demo" else str(Path(text).resolve())


if __name__ == "__main__":
    sys.exit(main())
