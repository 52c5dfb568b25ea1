"""The tenants that wait in one priority class, in the order in which they are served: by tokens, with weights.

Theory of operation. Each tenant has an account with a *virtual token counter*: the tokens it has had, divided by its
weight. Next comes the tenant with the smallest counter among those with a ticket that may run, and of its tickets the
oldest that may run. A grant charges the prompt, the release charges what the answer took on top: Sheng et al. 2024,
"Fairness in Serving Large Language Models", https://arxiv.org/abs/2401.00588. The `clock` is the largest counter at
which a ticket was ever granted (the virtual time of start-time fair queueing, Goyal et al. 1996). A tenant that begins
to wait, or is granted a ticket, is first lifted to the clock: time idle, or held up by a full lane, earns nothing.

What follows, for the tenants of one class:
- Counters only grow, by at least 1 / weight with each grant. A prompt is never paid back, not even for an answer that
  failed: a tenant whose requests all fail would otherwise stay in front for ever.
- A newcomer starts at the clock. Until its first grant it sees every other tenant granted at most once, since that puts
  the other's counter above where the clock then was. (If its first is a long ticket: one long grant each. Short ones
  pass by for as long as the long lane is full.)
- Of two tenants that both have a ticket that may run, f is granted only while its counter is not above g's. After that
  f's counter still grows by what f has in service, so it leads by at most slots × L / weight of f, where L is the
  largest cost of one ticket. While both go on so, their weighted services differ by at most the sum of their two leads.
- Only a tenant whose tickets are all held up by the full lane falls behind the clock. Such tenants come in the order of
  their counters too, but each grant lifts: under a fast clock they take turns ticket by ticket, not token by token.
- When nothing waits and nothing runs, the class forgets everything. An account without tickets that is not ahead of the
  clock says nothing any more and is dropped too.

Two heaps, one for each lane, hold (counter, arrival number of the tenant's oldest ticket there, account). Each change
pushes a new entry; stale ones are recognised at the top. Every operation costs O(log tenants), `ahead` O(tenants).
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Literal

Priority = Literal["interactive", "standard", "batch"]

_TOKENS_FIRST_GUESS = 500.0
_SMOOTHING = 0.2
_SLACK = 64


@dataclass(slots=True, eq=False)
class Ticket:
    """One request's place. `wake(None)` is called when it is granted, `wake(error)` when it must leave.

    `wake` must not call back into the queue. A ticket is offered once. `prompt_tokens` is an estimate, `tokens_max`
    bounds prompt and answer together.
    """

    wake: Callable[[Exception | None], None]
    deadline_s: float
    arrived_s: float
    tenant: str = "default"
    weight: float = 1.0
    priority: Priority = "standard"
    prompt_tokens: int = 0
    tokens_max: int = 0
    body_bytes: int = 0

    # the queue's own
    granted_s: float | None = None
    waiting: bool = False
    long: bool = False
    number: int = 0
    """Of its arrival, over the whole queue."""
    place: int = 0
    """Of its arrival, within its account."""

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ValueError(f"the weight of tenant '{self.tenant}' is {self.weight}; it must be above 0")

    @property
    def tokens_at_grant(self) -> int:
        return self.prompt_tokens or 1


_Lane = OrderedDict[Ticket, None]


@dataclass(slots=True, eq=False)
class _Account:
    weight: float
    counter: float = 0.0
    waiting: int = 0
    serving: int = 0
    joined: int = 0
    lanes: tuple[_Lane, _Lane] = field(default_factory=lambda: (OrderedDict(), OrderedDict()))
    """Those that wait, oldest first; indexed by `Ticket.long`."""

    def oldest(self, lanes: Sequence[bool]) -> Ticket:
        """Of those waiting in `lanes`, of which there is at least one."""
        firsts = [next(iter(self.lanes[lane])) for lane in lanes if self.lanes[lane]]
        return min(firsts, key=_number)


_number = attrgetter("number")
_Entry = tuple[float, int, _Account]


class Tenants:
    """See the module."""

    def __init__(self) -> None:
        self.waiting = 0
        self.serving = 0
        self._clock = 0.0
        self._accounts: dict[str, _Account] = {}
        self._accounts_to_sweep = _SLACK
        self._heaps: tuple[list[_Entry], list[_Entry]] = ([], [])
        self._tokens_mean = _TOKENS_FIRST_GUESS

    def first(self, lanes: Sequence[bool]) -> Ticket | None:
        """Who is next, if only tickets of these lanes may run: (False,) the short ones, (False, True) all."""
        tops = [top for lane in lanes if (top := self._top(lane)) is not None]
        if not tops:
            return None
        _, _, account = min(tops)  # arrival numbers are unique, so accounts are compared only with themselves
        return account.oldest(lanes)

    def add(self, ticket: Ticket) -> None:
        """The ticket waits from now on, behind those of its tenant."""
        account = self._account(ticket)
        if not account.waiting:
            account.counter = max(account.counter, self._clock)
        account.weight = ticket.weight
        account.joined += 1
        ticket.place = account.joined
        lane = account.lanes[ticket.long]
        lane[ticket] = None
        account.waiting += 1
        self.waiting += 1
        if len(lane) == 1:
            self._push(account, ticket.long)

    def discard(self, ticket: Ticket) -> None:
        """A waiting ticket leaves without having been granted."""
        account = self._accounts[ticket.tenant]
        if self._take(account, ticket):
            self._push(account, ticket.long)
        self._forget_if_idle()

    def grant(self, ticket: Ticket) -> None:
        """The ticket, waiting or just arrived, goes into service; its prompt is charged."""
        account = self._accounts.get(ticket.tenant) or self._account(ticket)
        if ticket.waiting:
            self._take(account, ticket)
        if account.counter < self._clock:
            account.counter = self._clock
        self._clock = account.counter
        account.serving += 1
        self.serving += 1
        self._charge(account, ticket.tokens_at_grant / ticket.weight)

    def seat(self, tenant: str, weight: float, charged: int) -> None:
        """As `grant`, of a ticket that has just arrived: without the ticket."""
        account = self._accounts.get(tenant)
        if account is None:
            account = self._new_account(tenant, weight)
        counter = account.counter
        if counter < self._clock:
            counter = self._clock
        self._clock = counter
        account.serving += 1
        self.serving += 1
        account.counter = counter + charged / weight
        if account.waiting:
            self._charge(account, 0.0)

    def settle(self, ticket: Ticket, tokens: int) -> None:
        """The ticket's service is over; it took `tokens` in all."""
        self.unseat(ticket.tenant, ticket.weight, ticket.tokens_at_grant, tokens)

    def unseat(self, tenant: str, weight: float, charged: int, tokens: int) -> None:
        """As `settle`, without the ticket."""
        account = self._accounts[tenant]
        account.serving -= 1
        self.serving -= 1
        if tokens > charged:
            self._tokens_mean += _SMOOTHING * (tokens - self._tokens_mean)
            account.counter += (tokens - charged) / weight
            if account.waiting:
                self._charge(account, 0.0)
        else:
            self._tokens_mean += _SMOOTHING * (charged - self._tokens_mean)
        if not self.serving:
            self._forget_if_idle()

    def waiting_tenants(self) -> list[str]:
        return [tenant for tenant, account in self._accounts.items() if account.waiting]

    def charge(self, tenant: str, counter: float) -> None:
        """A tenant that waits has had service elsewhere, of the same slots: so many tokens, divided by its weight."""
        account = self._accounts.get(tenant)
        if account is not None and account.waiting and counter > 0:
            self._charge(account, counter)

    def ahead(self, ticket: Ticket) -> int:
        """About how many of this class are granted before this waiting ticket, if requests go on as of late."""
        own = self._accounts[ticket.tenant]
        before = min(own.waiting - 1, ticket.place - own.oldest((False, True)).place)
        tokens = self._tokens_mean
        counter = own.counter + before * tokens / ticket.weight
        for account in self._accounts.values():
            if account.waiting and account.counter <= counter and account is not own:
                before += min(account.waiting, 1 + int((counter - account.counter) * account.weight / tokens))
        return before

    def _account(self, ticket: Ticket) -> _Account:
        return self._accounts.get(ticket.tenant) or self._new_account(ticket.tenant, ticket.weight)

    def _new_account(self, tenant: str, weight: float) -> _Account:
        self._sweep()
        account = self._accounts[tenant] = _Account(weight)
        return account

    def _take(self, account: _Account, ticket: Ticket) -> bool:
        """True: it was the oldest in its lane, and another one is now."""
        lane = account.lanes[ticket.long]
        was_first = next(iter(lane)) is ticket
        del lane[ticket]
        account.waiting -= 1
        self.waiting -= 1
        return was_first

    def _charge(self, account: _Account, counter: float) -> None:
        account.counter += counter
        if account.waiting:
            self._push(account, False)
            self._push(account, True)

    def _push(self, account: _Account, lane: bool) -> None:
        heap = self._heaps[lane]
        if account.lanes[lane]:
            heapq.heappush(heap, (account.counter, next(iter(account.lanes[lane])).number, account))
        if len(heap) > 2 * len(self._accounts) + _SLACK:
            heap[:] = [
                (each.counter, next(iter(each.lanes[lane])).number, each)
                for each in self._accounts.values()
                if each.lanes[lane]
            ]
            heapq.heapify(heap)

    def _top(self, lane: bool) -> _Entry | None:
        heap = self._heaps[lane]
        while heap:
            counter, number, account = heap[0]
            tickets = account.lanes[lane]
            if tickets and counter == account.counter and number == next(iter(tickets)).number:
                return heap[0]
            heapq.heappop(heap)
        return None

    def _sweep(self) -> None:
        if len(self._accounts) < self._accounts_to_sweep:
            return
        self._accounts = {
            tenant: account
            for tenant, account in self._accounts.items()
            if account.waiting or account.serving or account.counter > self._clock
        }
        self._accounts_to_sweep = 2 * len(self._accounts) + _SLACK

    def _forget_if_idle(self) -> None:
        if not self.waiting and not self.serving:
            if len(self._accounts) == 1:  # as new; who asks one at a time needs no other account each time
                for account in self._accounts.values():
                    account.counter = 0.0
            else:
                self._accounts.clear()
            for heap in self._heaps:
                heap.clear()
            self._clock = 0.0
