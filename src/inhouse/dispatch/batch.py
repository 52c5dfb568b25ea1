"""What is to be done of a batch, and when: lines in order, those that failed for no fault of theirs later. Pure.

Not here: where lines come from, who answers them (`gateway/batch_runner.py`), how they are kept (`store/batches.py`).
"""

from __future__ import annotations

import heapq
from collections.abc import Set
from dataclasses import dataclass, field
from typing import Literal

BACK_OFF_S, BACK_OFF_S_MAX = 0.5, 60.0
_LATER = frozenset({429, 500, 502, 503, 504})
"""Statuses of failures that may be over when the request is sent again."""
_FULL = 429

Verdict = Literal["later", "final"]


@dataclass(slots=True)
class Todo:
    """Lines that wait to be sent. `total` are all that there are, `done` those that have a result."""

    total: int
    done: Set[int]
    attempts_max: int
    later_max: int = 1000
    """Lines that may wait for another try; with more of them, none is begun."""
    _next: int = 0
    _later: list[tuple[float, int]] = field(default_factory=list)
    """(not before, line): a heap."""
    _attempts: dict[int, int] = field(default_factory=dict)
    _out: set[int] = field(default_factory=set)
    """Under way."""

    def take(self, now_s: float) -> int | None:
        """The line to send now; None where there is none, or none yet."""
        if self._later and self._later[0][0] <= now_s:
            return self._sent(heapq.heappop(self._later)[1])
        while self._next < self.total and len(self._later) < self.later_max:
            line, self._next = self._next, self._next + 1
            if line not in self.done:
                return self._sent(line)
        return None

    def ended(self, line: int) -> None:
        """It has a result."""
        self._out.discard(line)
        self._attempts.pop(line, None)

    def failed(self, line: int, status: int, retry_after_s: float | None, now_s: float) -> Verdict:
        """Whether it is sent again. Limits and full queues are no try of the request: they only take their time."""
        if status not in _LATER:
            return "final"
        tries = self._attempts.get(line, 0) + (status != _FULL)
        if tries >= self.attempts_max:
            return "final"
        self._attempts[line] = tries
        pause_s = retry_after_s or BACK_OFF_S * 2.0 ** min(tries, 16)
        self._out.discard(line)
        heapq.heappush(self._later, (now_s + min(pause_s, BACK_OFF_S_MAX), line))
        return "later"

    @property
    def over(self) -> bool:
        return not self._out and not self._later and all(line in self.done for line in range(self._next, self.total))

    @property
    def left(self) -> list[int]:
        """Lines without a result, those that are under way among them."""
        waiting = {line for _, line in self._later} | self._out
        rest = (line for line in range(self._next, self.total) if line not in self.done)
        return sorted({*waiting, *rest})

    def _sent(self, line: int) -> int:
        self._out.add(line)
        return line
