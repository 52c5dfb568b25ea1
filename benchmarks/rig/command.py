"""What the commands of the benches share: header, sections that do not stop each other, the report as JSON."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from benchmarks.rig import machine, tables
from benchmarks.rig.errors import FailedError, SkippedError
from benchmarks.rig.tables import Table
from benchmarks.rig.tools import Tools

SECONDS_MAX = 60.0
ROUNDS_MAX = 20
BUSY_LOAD = 0.5

S = TypeVar("S")
Say = Callable[[str], None]
Sections = Mapping[str, Callable[[S, Say], Table]]


def run(
    name: str,
    argv: list[str] | None,
    flags: argparse.Namespace,
    sections: Sections[S],
    settle: Callable[[Tools], S],
    finish: Callable[[list[Table]], Iterable[Table]] = lambda done: (),
) -> int:
    """Runs the sections asked for and prints their tables, then those that `finish` makes of them.

    Status 0: everything was measured or skipped; 1: something failed; 130: stopped.
    """
    if not sys.platform.startswith("linux"):
        print("this bench reads /proc and pins cores: Linux only")
        return 1
    signal.signal(signal.SIGTERM, _as_interrupt)
    header = machine.facts(
        command=[f"python -m benchmarks.{name}", *(argv if argv is not None else sys.argv[1:])],
        seconds=flags.seconds,
        rounds=flags.rounds,
    )
    print("\n".join(f"{name:14} {value}" for name, value in header.items()), flush=True)
    if float(header["load_at_start"]) > BUSY_LOAD:
        print("other work runs on this machine now: take ratios at most, no figures", flush=True)
    done: list[Table] = []
    stopped = False
    try:
        with tempfile.TemporaryDirectory(prefix=f"{name}-".replace("_", "-")) as folder:
            settings = settle(Tools.build(Path(folder)))
            for section in flags.only or sections:
                done.append(_measure(section, sections[section], settings))
                print(f"\n{tables.to_text(done[-1])}", flush=True)
        for table in finish(done):
            done.append(table)
            print(f"\n{tables.to_text(table)}", flush=True)
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


def parser(name: str, description: str, sections: Iterable[str]) -> argparse.ArgumentParser:
    """With the options that all have: sections, seconds, rounds, JSON, how inhouse is started."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    made.add_argument(
        "--only", action="append", choices=list(sections), help="this section; may be given more than once"
    )
    made.add_argument(
        "--seconds", type=within(0.2, SECONDS_MAX), default=3.0, help="length of one measurement (%(default)s)"
    )
    made.add_argument(
        "--rounds", type=_rounds, default=3, help="measurements of each figure; the median is shown (%(default)s)"
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="write the tables here as JSON too")
    made.add_argument(
        "--inhouse", metavar="COMMAND", help="how inhouse is started, if not as `python -m inhouse` with this Python"
    )
    return made


def within(low: float, high: float) -> Callable[[str], float]:
    """For argparse: a number in these bounds."""

    def number(text: str) -> float:
        found = float(text)
        if not low <= found <= high:
            raise argparse.ArgumentTypeError(f"from {low:g} to {high:g}")
        return found

    return number


def _rounds(text: str) -> int:
    return int(within(1, ROUNDS_MAX)(text))


def _measure(name: str, section: Callable[[S, Say], Table], settings: S) -> Table:
    """A section that is absent or fails does not stop the others."""
    try:
        return section(settings, _say)
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
