"""What one run was asked for, and the cores that it has."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rig import machine
from benchmarks.rig.tools import Tools


@dataclass(frozen=True, slots=True)
class Settings:
    """`seconds` is the length of one measurement; figures are medians over `rounds`."""

    tools: Tools
    seconds: float
    rounds: int
    inhouse: tuple[str, ...]
    """The command in front of `serve`: usually this Python with `-m inhouse`."""
    peers: tuple[str, ...]
    cache: Path
    """Where the peers' virtual environments are."""
    memory_requests: int
    """After how many requests memory is looked at again."""
    core: int
    """Of what is measured."""
    load_core: int
    """Of engines and client; the same one on a machine that has no other."""


def cores() -> tuple[int, int]:
    """The core of what is measured and the core of what loads it."""
    only = min(os.sched_getaffinity(0))
    return machine.cores() or (only, only)


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Outside the repository, as the XDG specification has it."""
    base = Path(environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "inhouse-benchmarks"
