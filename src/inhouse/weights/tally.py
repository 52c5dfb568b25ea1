"""Sums over the headers of all files of one model: thousands that are each within limits may be too much together."""

from __future__ import annotations

import threading
from collections import Counter

from inhouse.weights.cursor import Malformed


class Tally:
    """May be added to in several threads. Once a limit is passed it stays passed."""

    def __init__(self) -> None:
        self._sums: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, count: int, what: str, most: int) -> None:
        """Raises Malformed where the model has more than `most` of it."""
        with self._lock:
            self._sums[what] += count
            total = self._sums[what]
        if total > most:
            raise Malformed(f"with it the model claims {total} {what}, at most {most} are accepted")
