"""Bytes in two pools: the machine's memory, and that of its GPUs together. Pure.

What a model needs, what a budget is and what is free are all a `Room`. A pool that has no limit has `UNLIMITED_BYTES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

UNLIMITED_BYTES = 1 << 62


@dataclass(frozen=True, slots=True)
class Room:
    """True where there is any. Nothing in it is ever below 0."""

    memory_bytes: int = 0
    gpu_bytes: int = 0

    def __add__(self, other: Room) -> Room:
        return Room(self.memory_bytes + other.memory_bytes, self.gpu_bytes + other.gpu_bytes)

    def __sub__(self, other: Room) -> Room:
        """What is left in each pool, never less than nothing: `need - free` is what lacks."""
        return Room(max(0, self.memory_bytes - other.memory_bytes), max(0, self.gpu_bytes - other.gpu_bytes))

    def __bool__(self) -> bool:
        return self.memory_bytes > 0 or self.gpu_bytes > 0

    def covers(self, other: Room) -> bool:
        return not other - self


def together(rooms: Iterable[Room]) -> Room:
    return sum(rooms, Room())


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool as people are told of it."""

    name: str
    way_out: str
    """What may be done where a model can never fit into it, beside lowering the model's `context` or `slots`."""
    of: Callable[[Room], int]


POOLS = (
    Pool("memory", "raise `memory.budget`", lambda room: room.memory_bytes),
    Pool(
        "the GPUs' memory",
        "raise `memory.gpu_budget`, take weights that are quantised, keep it off them by "
        "`engine_args: [--device, none]`",
        lambda room: room.gpu_bytes,
    ),
)
