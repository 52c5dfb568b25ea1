"""What one run of the bench was asked for."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.rig.tools import Tools


@dataclass(frozen=True, slots=True)
class Settings:
    """`seconds` is the length of one measurement; figures are medians over `rounds`."""

    tools: Tools
    seconds: float
    rounds: int
    inhouse: tuple[str, ...]
    """The command in front of `serve`: usually this Python with `-m inhouse`."""
    source: str
    """Weights for the real engine: `demo` or a .gguf file."""
    litellm: str | None
    """The command `litellm`, if there is one."""
