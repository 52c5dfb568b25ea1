"""The command: `python -m benchmarks.gateway`. Runs the sections asked for, then judges the goals."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from benchmarks.gateway import environments, footprint, goals, hangups, speed
from benchmarks.gateway.peers import PEERS
from benchmarks.gateway.settings import Settings, cache_folder, cores
from benchmarks.rig import command
from benchmarks.rig.errors import FailedError
from benchmarks.rig.subject import inhouse_command
from benchmarks.rig.tools import Tools

SECTIONS: command.Sections[Settings] = {
    "requests": speed.measure_requests,
    "streams": speed.measure_streams,
    "memory": footprint.measure,
    "hang-ups": hangups.measure,
}
MEMORY_REQUESTS = 100_000


def main(argv: list[str] | None = None) -> int:
    """0: everything measured or skipped; 1: something failed; 130: stopped."""
    flags = _parser().parse_args(argv)
    cache = flags.cache or cache_folder(os.environ)
    if flags.install_peers:
        try:
            environments.install(flags.peers, cache)
        except FailedError as error:
            print(error, file=sys.stderr)
            return 1

    def settle(tools: Tools) -> Settings:
        core, load_core = cores()
        return Settings(
            tools=tools,
            seconds=flags.seconds,
            rounds=flags.rounds,
            inhouse=tuple(shlex.split(flags.inhouse)) if flags.inhouse else inhouse_command(),
            peers=tuple(flags.peers),
            cache=cache,
            memory_requests=flags.memory_requests,
            core=core,
            load_core=load_core,
        )

    return command.run("gateway", argv, flags, SECTIONS, settle, lambda done: [goals.judged(done)])


def _parser() -> argparse.ArgumentParser:
    parser = command.parser(
        "gateway",
        "Measures the gateway with everything on, on one core, beside others. Loopback only; nothing is left running.",
        SECTIONS,
    )
    parser.add_argument(
        "--peers", nargs="*", choices=list(PEERS), default=list(PEERS), help="whom to measure beside; none for nobody"
    )
    parser.add_argument(
        "--install-peers", action="store_true", help="first install what is missing of those that come from PyPI"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="FOLDER",
        help="where their environments are (~/.cache/inhouse-benchmarks)",
    )
    parser.add_argument(
        "--memory-requests",
        type=lambda text: int(command.within(1, 10_000_000)(text)),
        default=MEMORY_REQUESTS,
        help="requests after which memory is looked at again (%(default)s)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
