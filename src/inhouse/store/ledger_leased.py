"""A ledger that asks another one wholesale and serves requests retail: a request that fits costs no transaction.

Theory of operation. For each combination of scopes that requests count for there is a *purse*: amounts that the ledger
behind holds for this process (a lease). Requests take what they need out of it and put back what they did not use. A
purse begins empty. A request that finds too little has the ledger grant it what it needs, and, beyond that, as much as
requests took of late, so far as that is a small part of what is left. `sweep`, about once a second,
tells the ledger what was used and gives back what nobody took. So:

- no limit is ever exceeded, in any process: whatever a purse holds is held in the ledger until it is charged there, for
  the time at which it was used or a little later;
- near a limit purses are empty and every request asks the ledger; a request is refused only after the other purses of
  this process have given back what lies idle in them. What lies idle in other processes may still refuse it: at most
  an eighth of what was left, for a second;
- a process that is killed is charged what its purses hold, by the ledger's own `sweep`; whoever was never busy holds
  nothing.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Sequence

from inhouse.errors import StateError
from inhouse.store.ledger import (
    Demand,
    Ledger,
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
from inhouse.store.ledger_lender import Lender
from inhouse.store.ledger_purse import Purse, Purses
from inhouse.store.moment import now as clock


class LeasedLedger:
    """A `Ledger` in front of `ledger`, which it closes. Safe to use from several threads.

    Beyond what a request needs a purse takes at most one `part`-th of what is left: what several processes hold idle
    stays a small part of a limit, and ever less of it as the limit comes near.
    """

    now = staticmethod(clock)

    def __init__(self, ledger: Ledger, *, part: int = 8) -> None:
        self._ledger = ledger
        self._part = part
        self._lock = threading.RLock()
        self._purses = Purses()
        self.lender = Lender(self._lock, self._purses)

    def reserve(self, demands: Sequence[Demand], tokens: int, money: int, now: Now) -> Reservation | Refusal:
        with self._lock:
            purse = self._purses.of(demands, now)
            if not purse.covers(tokens, money, now.steady_us):
                refusal = self._fill(purse, tokens, money, now)
                if purse.lost:  # the ledger was another one meanwhile, as after a restore
                    purse = self._purses.of(demands, now)
                    refusal = self._fill(purse, tokens, money, now)
                if refusal is not None:
                    return refusal
            return self._purses.let_in(purse, tokens, money, now)

    def settle(self, reservation: Reservation, tokens: int, money: int, now: Now) -> None:
        with self._lock:
            self._purses.put_back(reservation, tokens, money, now)

    def renew(self, renewals: Sequence[Renewal], now: Now) -> list[Renewed | Refusal]:
        return self._ledger.renew(renewals, now)

    def sweep(self, now: Now) -> int:
        with self._lock:
            self._flush(now, idle=False)
        return self._ledger.sweep(now)

    def live(self, scope: str, now: Now) -> dict[LimitName, Use]:
        with self._lock:
            self._flush(now, idle=True)
        return self._ledger.live(scope, now)

    def count(self, rows: Iterable[UsageRow]) -> None:
        self._ledger.count(rows)

    def usage(self, wanted: UsageFilter) -> tuple[UsageRow, ...]:
        return self._ledger.usage(wanted)

    def close(self) -> None:
        """Gives back what lies idle. Where that cannot be written the next sweep of another process charges it."""
        with self._lock, contextlib.suppress(StateError):
            self._flush(clock(), idle=True)
        self._ledger.close()

    def _fill(self, purse: Purse, tokens: int, money: int, now: Now) -> Refusal | None:
        """Has the ledger grant what a request lacks; where it refuses, once more after all that lies idle is freed."""
        answer = self._renew(
            [(purse, purse.renewal(need=purse.lacks(tokens, money), want=purse.taken.now(), part=self._part))], now
        )
        if not isinstance(answer[0], Refusal):
            return None
        idle = self._purses.free_idle()
        if not idle:
            return answer[0]
        self._renew([(other, other.renewal()) for other in idle], now)
        answer = self._renew([(purse, purse.renewal(need=purse.lacks(tokens, money)))], now)
        return answer[0] if isinstance(answer[0], Refusal) else None

    def _flush(self, now: Now, *, idle: bool) -> None:
        """Spends what was used and gives back the surplus; all that lies idle, with `idle` and of purses at rest."""
        changes = [(purse, purse.renewal()) for purse in self._purses.to_flush(idle=idle)]
        if changes:
            self._renew(changes, now)
        self._purses.rest()

    def _renew(self, changes: Sequence[tuple[Purse, Renewal]], now: Now) -> list[Renewed | Refusal]:
        answers = self._ledger.renew([renewal for _, renewal in changes], now)
        for (purse, renewal), answer in zip(changes, answers, strict=True):
            self._purses.answered(purse, renewal, answer)
        return answers
