"""Faults that last, in the log: told when they begin, then once in a while, however often they are met."""

from __future__ import annotations

import time
from collections.abc import Callable

from inhouse.telemetry.log import Log

EVERY_S = 60.0
_KINDS_MAX = 100


class Alarm:
    """For faults that every request or every tick would meet, such as a disk that is full."""

    def __init__(self, log: Log, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._told: dict[tuple[str, ...], float] = {}

    def state(self, reason: str) -> None:
        """The state folder cannot be read or written; `reason` is the message of a `StateError`."""
        self.tell("state folder", reason=reason)

    def tell(self, event: str, **facts: str) -> None:
        """An error with these facts, unless the same was told within `EVERY_S`."""
        kind = (event, *facts.values())
        now_s = self._clock()
        if now_s - self._told.get(kind, float("-inf")) < EVERY_S:
            return
        if len(self._told) >= _KINDS_MAX:
            self._told.clear()
        self._told[kind] = now_s
        self._log.event("error", event, **facts)
