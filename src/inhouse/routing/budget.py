"""The retry budget: retries are a share of the traffic, so that they cannot make an overload worse.

As in Finagle and Linkerd: within the last `window_s` there may be `percent` retries for each 100 requests, and beside
those `floor_per_s` × `window_s`, so that little traffic can be retried too. The window is counted in ten parts.
"""

from __future__ import annotations

_PARTS = 10


class RetryBudget:
    """See the module. Requests are counted when they start; their retries are not requests."""

    __slots__ = ("_floor", "_part", "_part_s", "_requests", "_retries", "_share")

    def __init__(self, *, percent: float, floor_per_s: float, window_s: float = 10.0) -> None:
        self._share = percent / 100.0
        self._floor = floor_per_s * window_s
        self._part_s = window_s / _PARTS
        self._part = 0
        self._requests = [0] * _PARTS
        self._retries = [0] * _PARTS

    def deposit(self, now_s: float) -> None:
        """A request was let in."""
        part = int(now_s / self._part_s)
        if part != self._part:
            self._advance(part)
        self._requests[self._part % _PARTS] += 1

    def withdraw(self, now_s: float) -> bool:
        """True: the retry may be made, and is counted. False: the budget is spent."""
        if self.balance(now_s) < 1.0:
            return False
        self._retries[self._part % _PARTS] += 1
        return True

    def balance(self, now_s: float) -> float:
        """How many retries could be made now."""
        self._advance(int(now_s / self._part_s))
        return self._floor + self._share * sum(self._requests) - sum(self._retries)

    def _advance(self, part: int) -> None:
        if part <= self._part:  # the same part, or a clock that was set back: the newest part goes on
            return
        for gone in range(self._part + 1, min(part, self._part + _PARTS) + 1):
            self._requests[gone % _PARTS] = self._retries[gone % _PARTS] = 0
        self._part = part
