"""What every source is told beside its own line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are here and those that there will be, if known. What was here before counts as done."""


@dataclass(frozen=True, slots=True)
class Wanted:
    base: Path
    """Where relative paths start."""
    progress: Progress
    offline: bool = False
    """Use only what is on this machine."""
