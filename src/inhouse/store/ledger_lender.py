"""The short way to a purse, of the ledgers that have purses: without a reservation while all goes as usual."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from inhouse.store.ledger import Demand, Now, Reservation
from inhouse.store.ledger_purse import Purse, Purses


class Lender:
    """What is lent ends by `restore`, or by `settle` of its `reservation`. `lock` is its ledger's own."""

    def __init__(self, lock: AbstractContextManager[Any], purses: Purses) -> None:
        self._lock = lock
        self._purses = purses

    def lend(self, demands: Sequence[Demand], tokens: int, now: Now) -> Purse | None:
        """As `Purses.lend`."""
        with self._lock:
            return self._purses.lend(demands, tokens, now)

    def restore(self, purse: Purse, held: int, tokens: int, at_us: int) -> None:
        """A request is over that had `held` tokens of this purse, and took so many."""
        with self._lock:
            purse.put_back(held, tokens, at_us)

    def reservation(self, purse: Purse, tokens: int) -> Reservation:
        """Of what was lent."""
        with self._lock:
            return self._purses.reservation(purse, tokens)
