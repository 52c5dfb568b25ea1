"""The command: `python -m benchmarks.first_light`. Runs the sections asked for and prints their tables."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from benchmarks.first_light import engine, footprint, start, subjects, throughput
from benchmarks.first_light.settings import Settings
from benchmarks.rig import command
from benchmarks.rig.subject import inhouse_command
from benchmarks.rig.tools import Tools

SECTIONS: command.Sections[Settings] = {
    "gateway": throughput.measure,
    "engine": engine.measure,
    "start": start.measure,
    "memory": footprint.measure,
}


def main(argv: list[str] | None = None) -> int:
    """0: everything measured or skipped; 1: something failed; 130: stopped."""
    flags = _parser().parse_args(argv)

    def settle(tools: Tools) -> Settings:
        return Settings(
            tools=tools,
            seconds=flags.seconds,
            rounds=flags.rounds,
            inhouse=tuple(shlex.split(flags.inhouse)) if flags.inhouse else inhouse_command(),
            source=flags.weights,
            litellm=flags.litellm,
        )

    return command.run("first_light", argv, flags, SECTIONS, settle)


def _parser() -> argparse.ArgumentParser:
    parser = command.parser(
        "first_light", "Measures what the gateway adds to an engine. Loopback only; nothing is left running.", SECTIONS
    )
    parser.add_argument(
        "--weights", default="demo", type=_weights, metavar="FILE", help="a .gguf file in place of the demo model"
    )
    parser.add_argument("--litellm", metavar="COMMAND", help="a LiteLLM to measure beside, if it is not on PATH")
    return parser


def _weights(text: str) -> str:
    if not subjects.is_weights(text):
        raise argparse.ArgumentTypeError(f"{text} is not a file")
    return text if text == "demo" else str(Path(text).resolve())


if __name__ == "__main__":
    sys.exit(main())
