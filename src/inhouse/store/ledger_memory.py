"""A ledger in this process alone: for tests, for simulations, and where nothing may be written."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from inhouse.store.ledger import (
    NONE,
    Demand,
    LimitName,
    Now,
    Refusal,
    Renewal,
    Renewed,
    Reservation,
    UsageFilter,
    UsageRow,
    Use,
)
from inhouse.store.ledger_account import Account
from inhouse.store.ledger_booking import advance, give_back, one_request, refuse, renew, renewed, take
from inhouse.store.usage_sums import UsageSums


class MemoryLedger:
    """A `Ledger` that ends with its process. It keeps an account for every scope that ever had a reservation."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._accounts: dict[str, Account] = {}
        self._open: set[int] = set()
        self._number = 0
        self._usage = UsageSums()

    def reserve(self, demands: Sequence[Demand], tokens: int, money: int, now: Now) -> Reservation | Refusal:
        with self._lock:
            pairs = [(self._accounts.get(demand.scope) or Account(), demand) for demand in demands]
            advance(pairs, now)
            refusal = refuse(pairs, one_request(tokens, money), now)
            if refusal is not None:
                return refusal
            self._number += 1
            self._open.add(self._number)
            for account, demand in pairs:
                self._accounts[demand.scope] = account
            return take(pairs, tokens, money, now, self._number)

    def settle(self, reservation: Reservation, tokens: int, money: int, now: Now) -> None:
        with self._lock:
            if reservation.number not in self._open:
                return
            self._open.remove(reservation.number)
            give_back([self._accounts[scope] for scope in reservation.scopes], reservation, tokens, money, now)

    def renew(self, renewals: Sequence[Renewal], now: Now) -> list[Renewed | Refusal]:
        with self._lock:
            return [self._renew(renewal, now) for renewal in renewals]

    def _renew(self, renewal: Renewal, now: Now) -> Renewed | Refusal:
        pairs = [(self._accounts.setdefault(demand.scope, Account()), demand) for demand in renewal.demands]
        advance(pairs, now)
        granted, refusal = renew(pairs, renewal, now)
        if renewal.number == 0 and granted != NONE:
            self._number += 1
            return renewed(pairs, self._number, granted, now)
        return refusal or renewed(pairs, renewal.number, granted, now)

    def sweep(self, now: Now) -> int:
        return 0

    def live(self, scope: str, now: Now) -> dict[LimitName, Use]:
        with self._lock:
            account = self._accounts.get(scope) or Account()
            account.advance(now.steady_us)
            return account.live(now)

    def count(self, rows: Iterable[UsageRow]) -> None:
        with self._lock:
            self._usage.add(rows)

    def usage(self, wanted: UsageFilter) -> tuple[UsageRow, ...]:
        with self._lock:
            return tuple(row for row in self._usage.rows() if _is_wanted(row, wanted))

    def close(self) -> None:
        return None


def _is_wanted(row: UsageRow, wanted: UsageFilter) -> bool:
    return (
        (wanted.since_day is None or row.day >= wanted.since_day)
        and (wanted.until_day is None or row.day <= wanted.until_day)
        and wanted.tenant in (None, row.tenant)
        and wanted.key_id in (None, row.key_id)
        and wanted.model in (None, row.model)
    )
