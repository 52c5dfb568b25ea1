"""What a lane asks of whoever puts its model to sleep and wakes it."""

from __future__ import annotations

from typing import Protocol


class Sleeper(Protocol):
    @property
    def holds(self) -> bool:
        """Whether requests are held until the model is there: it is asleep, or is loaded because one asked for it."""

    def wanted(self) -> float:
        """A request is about to wait. Returns how long it may be held, in seconds; 0: as any model that loads.

        Raises Unavailable where the model can never be loaded.
        """

    def obstacle(self) -> str:
        """What keeps the model from being loaded now, in words; "" where nothing does."""

    def doing(self) -> str:
        """What those that wait are told by a comment: `model=loading loaded=40%`, `model=waits_for_memory`."""
