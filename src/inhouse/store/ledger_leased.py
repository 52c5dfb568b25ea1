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
    NONE,
    Amounts,
    Demand,
    Ledger,
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
from inhouse.store.ledger import now as clock
from inhouse.store.ledger_account import DAY_US, MINUTE_US

_Scopes = tuple[str, ...]


class LeasedLedger:
    """A `Ledger` in front of `ledger`, which it closes. Safe to use from several threads.

    Beyond what a request needs a purse takes at most one `part`-th of what is left: what several processes hold idle
    stays a small part of a limit, and ever less of it as the limit comes near.
    """

    def __init__(self, ledger: Ledger, *, part: int = 8) -> None:
        self._ledger = ledger
        self._part = part
        self._lock = threading.RLock()
        self._purses: dict[_Scopes, _Purse] = {}
        self._found: dict[int, _Purse] = {}
        """Some of the same, by the identity of the demands that they were made for: who asks often asks with those."""
        self._retired: list[_Purse] = []
        self._holders: dict[int, _Purse] = {}
        self._number = 0

    def reserve(self, demands: Sequence[Demand], tokens: int, money: int, now: Now) -> Reservation | Refusal:
        day = now.wall_us // DAY_US
        with self._lock:
            purse = self._found.get(id(demands))
            if purse is None or purse.demands is not demands or purse.day != day:
                purse = self._purse(demands, day)
            if not purse.covers(tokens, money):
                refusal = self._fill(purse, tokens, money, now)
                if purse.lost:  # the ledger was another one meanwhile, as after a restore
                    purse = self._purse(demands, day)
                    refusal = self._fill(purse, tokens, money, now)
                if refusal is not None:
                    return refusal
            purse.take(tokens, money, now.steady_us)
            self._number = number = self._number + 1
            self._holders[number] = purse
            return Reservation(number, purse.scopes, day, tokens, money, *purse.rates())

    def settle(self, reservation: Reservation, tokens: int, money: int, now: Now) -> None:
        with self._lock:
            purse = self._holders.pop(reservation.number, None)
            if purse is not None:
                purse.put_back(reservation, tokens, money, now.steady_us)

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

    def _purse(self, demands: Sequence[Demand], day: int) -> _Purse:
        """A new one for a new combination, a new day, and limits that have changed."""
        scopes = tuple([demand.scope for demand in demands])
        purse = self._purses.get(scopes)
        if purse is not None:
            if purse.day == day and (purse.demands is demands or purse.demands == tuple(demands)):
                self._found[id(purse.demands)] = purse
                return purse
            self._retire(purse)
        purse = self._purses[scopes] = _Purse(scopes, tuple(demands), day)
        return purse

    def _retire(self, purse: _Purse) -> None:
        self._retired.append(purse)
        self._purses.pop(purse.scopes, None)
        self._found.clear()

    def _fill(self, purse: _Purse, tokens: int, money: int, now: Now) -> Refusal | None:
        """Has the ledger grant what a request lacks; where it refuses, once more after all that lies idle is freed."""
        answer = self._renew(
            [(purse, purse.renewal(need=purse.lacks(tokens, money), want=purse.taken.now(), part=self._part))], now
        )
        if not isinstance(answer[0], Refusal):
            return None
        idle = [(other, other.renewal(freed=other.idle.now())) for other in self._all() if other.idle.now() != NONE]
        if not idle:
            return answer[0]
        self._renew(idle, now)
        answer = self._renew([(purse, purse.renewal(need=purse.lacks(tokens, money)))], now)
        return answer[0] if isinstance(answer[0], Refusal) else None

    def _flush(self, now: Now, *, idle: bool) -> None:
        """Spends what was used and gives back the surplus; all that lies idle, with `idle` and of purses at rest."""
        changes = []
        for purse in self._all():
            freed = purse.surplus() if purse.busy and not idle and purse not in self._retired else purse.idle.now()
            if freed != NONE or purse.spent.now() != NONE:
                changes.append((purse, purse.renewal(freed=freed)))
        if changes:
            self._renew(changes, now)
        for purse in self._all():
            purse.taken.halve()
            purse.busy = False
        self._retired = [purse for purse in self._retired if purse.in_use]
        self._purses = {scopes: purse for scopes, purse in self._purses.items() if purse.in_use}
        self._found.clear()

    def _renew(self, changes: Sequence[tuple[_Purse, Renewal]], now: Now) -> list[Renewed | Refusal]:
        answers = self._ledger.renew([renewal for _, renewal in changes], now)
        for (purse, renewal), answer in zip(changes, answers, strict=True):
            purse.renewed(renewal, answer)
            if purse.lost and purse not in self._retired:
                self._retire(purse)
        return answers

    def _all(self) -> list[_Purse]:
        return [*self._purses.values(), *self._retired]


class _Amount:
    """Amounts that change; see `Amounts`."""

    __slots__ = ("money", "open", "requests", "tokens")

    def __init__(self) -> None:
        self.requests = self.open = self.tokens = self.money = 0

    def add(self, amounts: Amounts) -> None:
        self.requests += amounts.requests
        self.open += amounts.open
        self.tokens += amounts.tokens
        self.money += amounts.money

    def halve(self) -> None:
        self.requests //= 2
        self.open //= 2
        self.tokens //= 2
        self.money //= 2

    def now(self) -> Amounts:
        return Amounts(self.requests, self.open, self.tokens, self.money)


class _Purse:
    """What one combination of scopes may hand out. What the ledger holds for it, `held`, is what requests hold, what
    they have `spent` and the ledger has not been told, and what lies `idle`. `taken` is what requests took of late: it
    halves with each flush. `lost`: the ledger has forgotten the lease, so nothing more is handed out.
    """

    __slots__ = (
        "_open",
        "_requests_rate",
        "_spent_us",
        "_tokens_rate",
        "busy",
        "day",
        "demands",
        "held",
        "idle",
        "lost",
        "number",
        "scopes",
        "spent",
        "taken",
    )

    def __init__(self, scopes: _Scopes, demands: tuple[Demand, ...], day: int) -> None:
        self.scopes = scopes
        self.demands = demands
        self.day = day
        self.number = 0
        self.lost = False
        self.busy = False
        """Something was taken since the last flush."""
        self.held = NONE
        self._open = 0
        self._spent_us = 0
        self.idle = _Amount()
        self.spent = _Amount()
        self.taken = _Amount()
        self._requests_rate: Rate | None = None
        self._tokens_rate: Rate | None = None

    @property
    def in_use(self) -> bool:
        return self._open > 0 or self.held != NONE

    def covers(self, tokens: int, money: int) -> bool:
        idle = self.idle
        return idle.requests >= 1 and idle.open >= 1 and idle.tokens >= tokens and idle.money >= money

    def lacks(self, tokens: int, money: int) -> Amounts:
        """What must be granted before a request of this size is covered."""
        idle = self.idle
        return Amounts(
            max(0, 1 - idle.requests),
            max(0, 1 - idle.open),
            max(0, tokens - idle.tokens),
            max(0, money - idle.money),
        )

    def take(self, tokens: int, money: int, at_us: int) -> None:
        """One request, let in now: it counts as spent, whatever becomes of it."""
        idle, taken = self.idle, self.taken
        idle.requests -= 1
        idle.open -= 1
        idle.tokens -= tokens
        idle.money -= money
        taken.requests += 1
        taken.open += 1
        taken.tokens += tokens
        taken.money += money
        self.spent.requests += 1
        if at_us > self._spent_us:
            self._spent_us = at_us
        self._open += 1
        self.busy = True

    def put_back(self, reservation: Reservation, tokens: int, money: int, at_us: int) -> None:
        """A request is over; at most what it held is spent."""
        idle, spent, held = self.idle, self.spent, reservation.tokens
        tokens = held if tokens > held else max(0, tokens)
        self._open -= 1
        idle.open += 1
        idle.tokens += held - tokens
        spent.tokens += tokens
        held = reservation.money
        if held:
            money = max(0, min(money, held))
            idle.money += held - money
            spent.money += money
        if at_us > self._spent_us:
            self._spent_us = at_us

    def surplus(self) -> Amounts:
        """What lies idle beyond what was taken of late."""
        idle, taken = self.idle, self.taken
        return Amounts(
            max(0, idle.requests - taken.requests),
            max(0, idle.open - taken.open),
            max(0, idle.tokens - taken.tokens),
            max(0, idle.money - taken.money),
        )

    def renewal(self, *, need: Amounts = NONE, want: Amounts = NONE, part: int = 1, freed: Amounts = NONE) -> Renewal:
        return Renewal(
            number=self.number,
            demands=self.demands,
            day=self.day,
            held=self.held,
            spent=self.spent.now(),
            spent_us=self._spent_us,
            freed=freed,
            need=need,
            want=want,
            part=part,
        )

    def renewed(self, renewal: Renewal, answer: Renewed | Refusal) -> None:
        """The ledger has done it."""
        self.spent.add(NONE - renewal.spent)
        self.idle.add(NONE - renewal.freed)
        self.held = renewal.held - renewal.spent - renewal.freed
        if isinstance(answer, Refusal):
            self.number = 0 if self.held == NONE else self.number
            return
        if renewal.number and not answer.number and self.held != NONE:
            self.lost, self.held = True, NONE
            return
        self.number = answer.number
        self.idle.add(answer.granted)
        self.held += answer.granted
        self._requests_rate, self._tokens_rate = answer.requests_rate, answer.tokens_rate

    def rates(self) -> tuple[Rate | None, Rate | None]:
        """Where the limits per minute stand: what lies idle here is free for this caller."""
        requests, tokens = self._requests_rate, self._tokens_rate
        if requests is not None:
            requests = Rate(requests.limit, requests.remaining + self.idle.requests, MINUTE_US)
        if tokens is not None:
            tokens = Rate(tokens.limit, tokens.remaining + self.idle.tokens, MINUTE_US)
        return requests, tokens
