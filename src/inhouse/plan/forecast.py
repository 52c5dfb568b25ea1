"""What the load may be in a quarter of an hour, by what it was at this time of day yesterday and a week ago. Pure.

The same rule as the further trigger that `deploy/scaling.py` writes in PromQL; a test compares the two on one series.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

AHEAD_S = 900.0
WINDOW_S = 1800.0
DAYS = (1, 7)


@dataclass(slots=True)
class Past:
    """Readings of the load, in the order of their times."""

    times_s: list[float] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)

    def add(self, at_s: float, load: float) -> None:
        self.times_s.append(at_s)
        self.loads.append(load)

    def most(self, begin_s: float, end_s: float) -> float:
        """The largest after `begin_s` and up to `end_s`; 0 where nothing is known."""
        first, last = (bisect_right(self.times_s, at_s) for at_s in (begin_s, end_s))
        return max(self.loads[first:last], default=0.0)


def forecast(past: Past, now_s: float, *, days: Sequence[int] = DAYS, day_s: float = 86400.0) -> float:
    """The larger of the days: the most in the half hour that ended `AHEAD_S` after this time of that day."""
    ends_s = [now_s - day * day_s + AHEAD_S for day in days]
    return max(past.most(end_s - WINDOW_S, end_s) for end_s in ends_s)
