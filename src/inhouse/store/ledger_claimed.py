"""A ledger that is reached over a network: leases told in claims, which may be told twice (`ledger_claim`).

Not here: where the accounts are (a `Bank`: Redis or PostgreSQL), where use is counted (a `Book`), and that nobody waits
for the network in an event loop (`ledger_asked`).
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from inhouse.store.ledger import (
    NONE,
    Amounts,
    Demand,
    LimitName,
    Now,
    Rate,
    Refusal,
    Renewal,
    Renewed,
    Reservation,
    UsageFilter,
    UsageRow,
    Use,
)
from inhouse.store.ledger_account import DAY_US, Account
from inhouse.store.ledger_booking import one_request
from inhouse.store.ledger_claim import Claim

_SURE = 0.8
"""Part of a lease's lifetime for which its gateway trusts in it: the rest is for the claim's way, and for clocks."""
_SEQ_STEP = 2
"""A bank that keeps scopes apart may need a second word to a claim."""


class Outcome(NamedTuple):
    """What became of a claim: granted, or refused."""

    granted: Amounts
    refusal: Refusal | None = None
    requests_rate: Rate | None = None
    tokens_rate: Rate | None = None


class Bank(Protocol):
    """Accounts that all gateways share. Every method may raise `StateError`; what has changed then nobody knows."""

    ahead_us: int
    """How far its wall clock is ahead of this machine's, as last seen."""
    reclaimed: int
    """Leases of silent gateways that it charged, as far as its answers told."""

    def claim(self, asked: Sequence[tuple[tuple[Demand, ...], Claim]], now: Now) -> list[Outcome]: ...

    def look(self, scope: str, now: Now) -> tuple[Account, Now]:
        """The account as it is, and the moment by the clocks that it follows."""

    def ping(self) -> None:
        """Whether it is there, for who has nothing to ask."""

    def close(self) -> None: ...


class Book(Protocol):
    """Where use is counted: the part of a `Ledger` that has nothing to do with limits."""

    def count(self, rows: Iterable[UsageRow]) -> None: ...

    def usage(self, wanted: UsageFilter) -> tuple[UsageRow, ...]: ...

    def close(self) -> None: ...


@dataclass(slots=True)
class _Lease:
    """Totals are those that the ledger has acknowledged; `told_us` is when it last did, on the steady clock."""

    id: str
    number: int
    demands: tuple[Demand, ...]
    day: int
    told_us: int
    seq: int = 0
    spent: Amounts = NONE
    freed: Amounts = NONE
    granted: Amounts = NONE

    @property
    def held(self) -> Amounts:
        return self.granted - self.spent - self.freed


class ClaimedLedger:
    """A `Ledger`. It closes `bank` and `book`. `lease_s`: a gateway that is silent for longer has lost what it held."""

    def __init__(self, bank: Bank, book: Book, *, lease_s: float) -> None:
        self._bank = bank
        self._book = book
        self._lease_us = round(lease_s * 1e6)
        self._owner = secrets.token_hex(8)
        self._lock = threading.RLock()
        self._number = 0
        self._leases: dict[int, _Lease] = {}
        self._doubtful: list[_Lease] = []
        """Made, perhaps: the answer was lost."""

    def now(self) -> Now:
        """This moment; days are those of the ledger's clock."""
        return Now(time.time_ns() // 1000 + self._bank.ahead_us, time.monotonic_ns() // 1000)

    def reserve(self, demands: Sequence[Demand], tokens: int, money: int, now: Now) -> Reservation | Refusal:
        with self._lock:
            lease = self._new(tuple(demands), now.wall_us // DAY_US, now)
            first = Amounts(requests=1)
            try:
                outcome = self._claim([(lease, NONE, NONE, 0, one_request(tokens, money), NONE, 1)], now, at_once=1)[0]
            except BaseException:
                lease.granted = lease.spent = first
                self._doubtful.append(lease)
                raise
            if outcome.refusal is not None:
                return outcome.refusal
            lease.spent = first
            self._leases[lease.number] = lease
            return Reservation(
                number=lease.number,
                scopes=tuple([demand.scope for demand in demands]),
                day=lease.day,
                tokens=tokens,
                money=money,
                requests_rate=outcome.requests_rate,
                tokens_rate=outcome.tokens_rate,
            )

    def settle(self, reservation: Reservation, tokens: int, money: int, now: Now) -> None:
        with self._lock:
            lease = self._leases.get(reservation.number)
            if lease is None:
                return
            held = lease.held
            spent = Amounts(tokens=max(0, min(tokens, held.tokens)), money=max(0, min(money, held.money)))
            self._claim([(lease, spent, held - spent, now.steady_us, NONE, NONE, 1)], now)
            del self._leases[reservation.number]

    def renew(self, renewals: Sequence[Renewal], now: Now) -> list[Renewed | Refusal]:
        with self._lock:
            leases = [self._lease_of(renewal, now) for renewal in renewals]
            changes = [
                (lease, renewal.spent, renewal.freed, renewal.spent_us, renewal.need, renewal.want, renewal.part)
                for lease, renewal in zip(leases, renewals, strict=True)
            ]
            try:
                outcomes = self._claim(changes, now)
            except BaseException:
                self._doubtful += [lease for lease in leases if lease.number not in self._leases]
                raise
            answers: list[Renewed | Refusal] = []
            for lease, outcome in zip(leases, outcomes, strict=True):
                if lease.held == NONE:
                    self._leases.pop(lease.number, None)
                else:
                    self._leases[lease.number] = lease
                answers.append(
                    outcome.refusal
                    or Renewed(
                        number=0 if lease.held == NONE else lease.number,
                        granted=outcome.granted,
                        requests_rate=outcome.requests_rate,
                        tokens_rate=outcome.tokens_rate,
                        until_us=now.steady_us + round(_SURE * self._lease_us),
                    )
                )
            return answers

    def sweep(self, now: Now) -> int:
        """Tells the ledger that this gateway lives, and takes back what it may have granted to nobody.

        Leases of others that ran out are charged by whoever next looks at their scope; how many that were of late.
        """
        with self._lock:
            quiet = [lease for lease in self._leases.values() if now.steady_us - lease.told_us >= self._lease_us // 3]
            if quiet or self._doubtful:
                self._claim([(lease, NONE, NONE, 0, NONE, NONE, 1) for lease in (*quiet, *self._doubtful)], now)
                self._doubtful.clear()
            else:
                self._bank.ping()
            reclaimed, self._bank.reclaimed = self._bank.reclaimed, 0
            return reclaimed

    def live(self, scope: str, now: Now) -> dict[LimitName, Use]:
        account, at = self._bank.look(scope, now)
        account.advance(at.steady_us)
        return account.live(at)

    def count(self, rows: Iterable[UsageRow]) -> None:
        self._book.count(rows)

    def usage(self, wanted: UsageFilter) -> tuple[UsageRow, ...]:
        return self._book.usage(wanted)

    def close(self) -> None:
        self._bank.close()
        self._book.close()

    def _lease_of(self, renewal: Renewal, now: Now) -> _Lease:
        known = self._leases.get(renewal.number)
        if known is not None:
            return known
        for index, lease in enumerate(self._doubtful):
            if lease.granted == NONE and lease.day == renewal.day and lease.demands == renewal.demands:
                return self._doubtful.pop(index)
        return self._new(renewal.demands, renewal.day, now)

    def _new(self, demands: tuple[Demand, ...], day: int, now: Now) -> _Lease:
        self._number += 1
        return _Lease(f"{self._owner}-{self._number}", self._number, demands, day, now.steady_us)

    def _claim(
        self,
        changes: Sequence[tuple[_Lease, Amounts, Amounts, int, Amounts, Amounts, int]],
        now: Now,
        *,
        at_once: int = 0,
    ) -> list[Outcome]:
        """Each: lease, more spent, the last of it when, more freed, need, want, part."""
        asked = []
        for lease, spent, freed, spent_us, need, want, part in changes:
            lease.seq += _SEQ_STEP
            one = Claim(
                id=lease.id,
                seq=lease.seq,
                day=lease.day,
                spent=lease.spent + spent,
                spent_us=spent_us or now.steady_us,
                freed=lease.freed + freed,
                granted=lease.granted,
                need=need,
                want=want,
                part=part,
                at_once=at_once,
            )
            asked.append((lease.demands, one))
        outcomes = self._bank.claim(asked, now)
        for (lease, *_), (_, one), outcome in zip(changes, asked, outcomes, strict=True):
            lease.spent, lease.freed, lease.told_us = one.spent, one.freed, now.steady_us
            lease.granted += outcome.granted
        return outcomes
