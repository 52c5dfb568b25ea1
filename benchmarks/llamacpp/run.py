"""The command: `python -m benchmarks.llamacpp`. Runs the sections asked for and prints their tables."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path

from benchmarks.gateway import environments
from benchmarks.gateway.settings import cache_folder
from benchmarks.llamacpp import decode, sections, start
from benchmarks.llamacpp.settings import Settings
from benchmarks.llamacpp.subjects import PYTHON
from benchmarks.rig import command
from benchmarks.rig.subject import inhouse_command
from benchmarks.rig.tools import Tools
from inhouse.engines.hardware import look
from inhouse.engines.native_here import built_here

SECTIONS: command.Sections[Settings] = {
    "gateway": sections.gateway,
    "native": sections.native,
    "decode": decode.measure,
    "start": start.measure,
    "peers": sections.peers,
}


def main(argv: list[str] | None = None) -> int:
    """0: everything measured or skipped; 1: something failed; 130: stopped."""
    flags = _parser().parse_args(argv)
    hardware = look(with_gpus=False)
    cache = flags.cache or cache_folder(os.environ)

    def settle(tools: Tools) -> Settings:
        if flags.install_peers:
            environments.install([PYTHON], cache)
        built = built_here(hardware, os.environ)
        return Settings(
            tools=tools,
            rounds=flags.rounds,
            inhouse=tuple(shlex.split(flags.inhouse)) if flags.inhouse else inhouse_command(),
            given=flags.weights,
            tokens=flags.tokens,
            native=flags.binary or (None if built is None else built.program),
            named=flags.binary is not None,
            hardware=hardware,
            cache=cache,
        )

    return command.run("llamacpp", argv, flags, SECTIONS, settle)


def _parser() -> argparse.ArgumentParser:
    parser = command.parser(
        "llamacpp",
        "The embedded engine on random weights in Gemma-3-1B's shape: what the gateway leaves of it, what a build for "
        "this CPU brings, how much of the memory's bandwidth it uses, how fast it starts, and peers.",
        SECTIONS,
    )
    parser.add_argument("--weights", type=_file, metavar="FILE", help="a .gguf file in place of random weights")
    parser.add_argument("--tokens", type=int, default=16, help="of each answer (%(default)s)")
    parser.add_argument("--binary", type=_file, metavar="FILE", help="a llama-server in place of the one built here")
    parser.add_argument("--install-peers", action="store_true", help="first compile llama-cpp-python, if it is missing")
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="where (~/.cache/inhouse-benchmarks)")
    return parser


def _file(text: str) -> Path:
    path = Path(text).resolve()
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{text} is not a file")
    return path
