"""What a process has of its tenants' limits to hand out by itself: a purse for each combination of scopes. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from inhouse.store.ledger import NONE, Amounts, Demand, Now, Rate, Refusal, Renewal, Renewed, Reservation
from inhouse.store.ledger_account import DAY_US, MINUTE_US

FOR_EVER_US = 1 << 62
_Scopes = tuple[str, ...]


class Purses:
    """All purses of a process, and which of them each request in flight was let in from."""

    def __init__(self) -> None:
        self._current: dict[_Scopes, Purse] = {}
        self._found: dict[int, Purse] = {}
        """Some of the same, by the identity of the demands that they were made for: who asks often asks with those."""
        self._retired: list[Purse] = []
        self._holders: dict[int, Purse] = {}
        self._number = 0

    def of(self, demands: Sequence[Demand], now: Now) -> Purse:
        """A new one for a new combination, a new day, and limits that have changed."""
        day = now.wall_us // DAY_US
        purse = self._found.get(id(demands))
        if purse is not None and purse.demands is demands and purse.day == day:
            return purse
        scopes = tuple([demand.scope for demand in demands])
        purse = self._current.get(scopes)
        if purse is not None:
            if purse.day == day and (purse.demands is demands or purse.demands == tuple(demands)):
                self._found[id(purse.demands)] = purse
                return purse
            self._retire(purse)
        purse = self._current[scopes] = Purse(scopes, tuple(demands), day)
        return purse

    def let_in(self, purse: Purse, tokens: int, money: int, now: Now) -> Reservation:
        """One request, out of a purse that covers it."""
        purse.take(tokens, money, now.steady_us)
        self._number = number = self._number + 1
        self._holders[number] = purse
        return Reservation(number, purse.scopes, purse.day, tokens, money, *purse.rates())

    def lend(self, demands: Sequence[Demand], tokens: int, now: Now) -> Purse | None:
        """As `let_in`, of a request that costs no money: without its reservation. None where no purse covers it."""
        purse = self.of(demands, now)
        if not purse.covers(tokens, 0, now.steady_us):
            return None
        purse.take(tokens, 0, now.steady_us)
        return purse

    def reservation(self, purse: Purse, tokens: int) -> Reservation:
        """Of what was lent from a purse; it may be `put_back` from now on."""
        self._number = number = self._number + 1
        self._holders[number] = purse
        return Reservation(number, purse.scopes, purse.day, tokens, 0, *purse.rates())

    def put_back(self, reservation: Reservation, tokens: int, money: int, now: Now) -> None:
        """A request is over. A second time changes nothing."""
        purse = self._holders.pop(reservation.number, None)
        if purse is not None:
            purse.put_back(reservation.tokens, tokens, now.steady_us, money_held=reservation.money, money=money)

    def answered(self, purse: Purse, renewal: Renewal, answer: Renewed | Refusal) -> None:
        purse.renewed(renewal, answer)
        if purse.lost and purse not in self._retired:
            self._retire(purse)

    def all(self) -> list[Purse]:
        return [*self._current.values(), *self._retired]

    def free_idle(self) -> list[Purse]:
        """Has all that lies idle given back; the purses that have something to give."""
        found = [purse for purse in self.all() if purse.idle.now() != NONE]
        for purse in found:
            purse.free(purse.idle.now())
        return found

    def to_flush(self, *, idle: bool, keep: bool = False) -> list[Purse]:
        """The purses that have something to tell.

        Their surplus is given back, and all that lies idle with `idle` and in purses at rest; nothing with `keep`.
        """
        found = []
        for purse in self.all():
            if not keep:
                at_work = purse.busy and not idle and purse not in self._retired
                purse.free(purse.surplus() if at_work else purse.idle.now())
            if purse.freeing.now() != NONE or purse.spent.now() != NONE:
                found.append(purse)
        return found

    def _retire(self, purse: Purse) -> None:
        self._retired.append(purse)
        self._current.pop(purse.scopes, None)
        self._found.clear()

    def rest(self) -> None:
        """After a flush: what was taken of late counts half, and purses that are of no use any more are forgotten."""
        for purse in self.all():
            purse.taken.halve()
            purse.busy = False
        self._retired = [purse for purse in self._retired if purse.in_use]
        self._current = {scopes: purse for scopes, purse in self._current.items() if purse.in_use}
        self._found.clear()


class Amount:
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


class Purse:
    """What one combination of scopes may hand out. What the ledger holds for it, `held`, is what requests hold, what
    they have `spent` and the ledger has not been told, what is given back (`freeing`) and the ledger has not been told,
    and what lies `idle`. `taken` is what requests took of late: it halves with each flush. `lost`: the ledger has
    forgotten the lease, so nothing more is handed out; nor is after `until_us`, when it may have charged it.
    """

    __slots__ = (
        "_open",
        "_spent_us",
        "busy",
        "day",
        "demands",
        "freeing",
        "held",
        "idle",
        "lost",
        "number",
        "requests_rate",
        "scopes",
        "spent",
        "taken",
        "tokens_rate",
        "until_us",
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
        self.idle = Amount()
        self.spent = Amount()
        self.freeing = Amount()
        self.until_us = FOR_EVER_US
        self.taken = Amount()
        self.requests_rate: Rate | None = None
        self.tokens_rate: Rate | None = None

    @property
    def in_use(self) -> bool:
        return self._open > 0 or self.held != NONE

    def covers(self, tokens: int, money: int, at_us: int) -> bool:
        """Whether a request of this size can be let in now, on the steady clock, without a look at the ledger."""
        idle = self.idle
        fits = idle.requests >= 1 and idle.open >= 1 and idle.tokens >= tokens and idle.money >= money
        return fits and at_us < self.until_us

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

    def put_back(self, held: int, tokens: int, at_us: int, *, money_held: int = 0, money: int = 0) -> None:
        """A request is over; at most what it held is spent."""
        idle, spent = self.idle, self.spent
        tokens = held if tokens > held else max(0, tokens)
        self._open -= 1
        idle.open += 1
        idle.tokens += held - tokens
        spent.tokens += tokens
        if money_held:
            money = max(0, min(money, money_held))
            idle.money += money_held - money
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

    def free(self, amounts: Amounts) -> None:
        """Of what lies idle: no request gets it any more, and the next renewal gives it back."""
        self.idle.add(NONE - amounts)
        self.freeing.add(amounts)

    def renewal(self, *, need: Amounts = NONE, want: Amounts = NONE, part: int = 1) -> Renewal:
        return Renewal(
            number=self.number,
            demands=self.demands,
            day=self.day,
            held=self.held,
            spent=self.spent.now(),
            spent_us=self._spent_us,
            freed=self.freeing.now(),
            need=need,
            want=want,
            part=part,
        )

    def renewed(self, renewal: Renewal, answer: Renewed | Refusal) -> None:
        """The ledger has done it."""
        self.spent.add(NONE - renewal.spent)
        self.freeing.add(NONE - renewal.freed)
        self.held = renewal.held - renewal.spent - renewal.freed
        if isinstance(answer, Refusal):
            self.number = 0 if self.held == NONE else self.number
            return
        if renewal.number and not answer.number and self.held != NONE:
            self.lost, self.held = True, NONE
            return
        self.number = answer.number
        if answer.until_us is not None:
            self.until_us = answer.until_us
        self.idle.add(answer.granted)
        self.held += answer.granted
        self.requests_rate, self.tokens_rate = answer.requests_rate, answer.tokens_rate

    def rates(self) -> tuple[Rate | None, Rate | None]:
        """Where the limits per minute stand: what lies idle here is free for this caller."""
        requests, tokens = self.requests_rate, self.tokens_rate
        if requests is not None:
            requests = Rate(requests.limit, requests.remaining + self.idle.requests, MINUTE_US)
        if tokens is not None:
            tokens = Rate(tokens.limit, tokens.remaining + self.idle.tokens, MINUTE_US)
        return requests, tokens
