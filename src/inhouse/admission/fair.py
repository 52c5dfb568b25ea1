"""The bounded, fair queue in front of one model's slots. Pure and synchronous: callers pass the time in seconds.

Theory of operation. `capacity` slots exist (0 while no replica is ready). A ticket is *serving* (it holds a slot) or
*waiting*. Who is next is decided in three steps, each a sentence:

1. Lane. A ticket with a prompt over `prefill_long_tokens` is *long*. Long tickets hold at most
   max(1, ⌊long_share × capacity⌋) slots; while they do, only short ones may run.
2. Class. Of the classes with a ticket that may run: interactive before standard before batch, except that a class that
   was passed over `PATIENCE` times in a row (standard 4, batch 16) goes first; if both are due, batch.
3. Tenant. Within the class the tenant that has had the fewest tokens for its weight, oldest ticket first: see
   `fair_tenants`. The room for those that wait is counted in `fair_room`.

Invariants, held by the property tests:
- serving ≤ capacity, and long ones ≤ their share, at the time of each grant;
- what waits is within each of the three limits (requests, tokens, bytes); tokens count as `tokens_max`, the most work
  that the queue has promised to do;
- no slot is free while a ticket waits that may run;
- first in, first out within a tenant and class, except that short ones pass by long ones while the long lane is full;
- a ticket is granted at most once, and leaves exactly once: granted, expired or released;
- a class is passed over at most 2 (interactive), 5 (standard) or 16 (batch) times in a row, counting consecutive grants
  at each of which it had a ticket that might have run;
- the bounds of `fair_tenants` within each class. They compose: a newcomer's first ticket waits for a slot to come free,
  then for at most one grant to each other tenant of its class and for the other classes' turns between them.

Not here: who the tenant is and what it may spend in all (`tenancy`), and the event loop (`turns`).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from inhouse.admission.fair_room import Lack, Room
from inhouse.admission.fair_tenants import Priority, Tenants, Ticket
from inhouse.errors import QueueFull, WaitedTooLong

__all__ = ["PATIENCE", "FairQueue", "Priority", "QueueSnapshot", "Ticket"]

PATIENCE: Mapping[Priority, float] = {"interactive": math.inf, "standard": 4, "batch": 16}
"""The classes, first to last, and how many grants in a row to other classes each lets pass."""

_SERVICE_S_FIRST_GUESS = 2.0
_SMOOTHING = 0.2
_SLACK = 64
_SNAPSHOT_TENANTS_MAX = 20


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """The queue's state for metrics. `by_tenant` has the tenants with the most waiting, `other_tenants` the rest."""

    capacity: int
    serving: int
    long_max: int
    long_serving: int
    waiting: int
    waiting_tokens: int
    waiting_bytes: int
    by_class: Mapping[Priority, int]
    by_tenant: Mapping[str, int]
    other_tenants: int


class FairQueue:
    """See the module. `model` is only used in messages.

    `tenant_share` is the part of each limit that one tenant alone may fill; below 1, the others find room beside it.
    """

    def __init__(
        self,
        model: str,
        *,
        waiting_max: int,
        waiting_tokens_max: int,
        waiting_bytes_max: int,
        prefill_long_tokens: int,
        long_share: float = 0.5,
        tenant_share: float = 1.0,
    ) -> None:
        self.model = model
        self.prefill_long_tokens = prefill_long_tokens
        self.long_share = long_share
        self.capacity = 0
        self.long_max = 1
        """How many slots long tickets may hold."""
        self.serving = 0
        self.long_serving = 0
        self.grants = 0
        """How many there have been."""
        self._arrived = 0
        self._room = Room(
            requests_max=waiting_max,
            tokens_max=waiting_tokens_max,
            bytes_max=waiting_bytes_max,
            tenant_share=tenant_share,
        )
        self._classes: dict[Priority, Tenants] = {priority: Tenants() for priority in PATIENCE}
        self._passed: dict[Priority, int] = dict.fromkeys(PATIENCE, 0)
        self._deadlines: list[tuple[float, int, Ticket]] = []
        self._deadline_last_s = 0.0
        self._service_s = _SERVICE_S_FIRST_GUESS
        self._granted_sum_s = 0.0

    @property
    def waiting(self) -> int:
        return self._room.load.requests

    @property
    def tenants_waiting(self) -> int:
        return len(self._room.by_tenant)

    def free_for(self, prompt_tokens: int) -> bool:
        """Whether a ticket with such a prompt would have its slot at once."""
        return self.serving < self.capacity and (
            prompt_tokens <= self.prefill_long_tokens or self.long_serving < self.long_max
        )

    def seat(self, tenant: str, weight: float, priority: Priority, prompt_tokens: int, now_s: float) -> None:
        """As `offer`, where it is `free_for` the ticket, without the ticket. Ended by `unseat`, or as `seated`."""
        self._classes[priority].seat(tenant, weight, prompt_tokens or 1)
        self._granted_sum_s += now_s
        self.serving += 1
        self.grants += 1
        self.long_serving += prompt_tokens > self.prefill_long_tokens

    def unseat(
        self,
        tenant: str,
        weight: float,
        priority: Priority,
        prompt_tokens: int,
        granted_s: float,
        tokens_used: int,
        now_s: float,
    ) -> None:
        """As `release`, of what `seat` let in."""
        self.serving -= 1
        self.long_serving -= prompt_tokens > self.prefill_long_tokens
        self._service_s += _SMOOTHING * (now_s - granted_s - self._service_s)
        self._granted_sum_s = self._granted_sum_s - granted_s if self.serving else 0.0
        self._classes[priority].unseat(tenant, weight, prompt_tokens or 1, tokens_used)
        if self._room.load.requests:
            self._fill(now_s)

    def seated(self, ticket: Ticket, granted_s: float) -> None:
        """From now on the ticket stands for what `seat` let in."""
        ticket.long = ticket.prompt_tokens > self.prefill_long_tokens
        ticket.granted_s = granted_s

    def offer(self, ticket: Ticket, now_s: float) -> bool:
        """True: the ticket holds a slot at once. False: it waits and will be woken. Raises QueueFull."""
        ticket.long = ticket.prompt_tokens > self.prefill_long_tokens
        if self.serving < self.capacity and (
            not ticket.long or self.long_serving < self.long_max
        ):  # then none that waits may run
            self._grant(ticket, now_s)
            return True
        lack = self._room.lack(ticket)
        if lack is not None:
            raise self._full(lack, now_s)
        self._arrived += 1
        ticket.number = self._arrived
        ticket.waiting = True
        self._room.add(ticket)
        self._classes[ticket.priority].add(ticket)
        self._watch(ticket)
        return False

    def release(self, ticket: Ticket, now_s: float, tokens_used: int | None = None) -> None:
        """A granted ticket gives its slot back, a waiting one leaves; the next ones are woken.

        `tokens_used` is what prompt and answer really took; `tokens_max` where that is not known.
        """
        if ticket.waiting:
            self._classes[ticket.priority].discard(ticket)
            self._waits_no_more(ticket)
            return
        if ticket.granted_s is None:
            return
        self.serving -= 1
        self.long_serving -= ticket.long
        self._service_s += _SMOOTHING * (now_s - ticket.granted_s - self._service_s)
        self._granted_sum_s = self._granted_sum_s - ticket.granted_s if self.serving else 0.0
        ticket.granted_s = None
        self._classes[ticket.priority].settle(ticket, ticket.tokens_max if tokens_used is None else tokens_used)
        if self._room.load.requests:
            self._fill(now_s)

    def resize(self, capacity: int, now_s: float) -> None:
        """Slots came or went. Tickets in service keep theirs until they end."""
        self.capacity = capacity
        self.long_max = max(1, math.floor(self.long_share * capacity + 1e-9))  # 0.29 × 100 is 28.999… in floats
        self._fill(now_s)

    def expire(self, now_s: float) -> None:
        """Tickets whose deadline has passed leave with WaitedTooLong, earliest deadline first."""
        if not self._room.load.requests:
            self._deadlines.clear()
        while self._deadlines and self._deadlines[0][0] <= now_s:
            _, _, ticket = heapq.heappop(self._deadlines)
            if not ticket.waiting:
                continue
            self._classes[ticket.priority].discard(ticket)
            self._waits_no_more(ticket)
            waited_s = now_s - ticket.arrived_s
            ticket.wake(
                WaitedTooLong(
                    f"waited {waited_s:.0f} s for a slot of '{self.model}' ({self.serving} in service); retry later, "
                    "or raise the model's `slots` or `queue_wait_max` in inhouse.yaml",
                    retry_after_s=self.wait_estimate_s(now_s),
                )
            )

    def waiting_shares(self) -> list[tuple[Priority, str]]:
        """Class and tenant of all that wait."""
        return [(priority, one) for priority, tenants in self._classes.items() for one in tenants.waiting_tenants()]

    def charge(self, priority: Priority, tenant: str, counter: float) -> None:
        """Where several queues share slots: what the others have given to a tenant that waits here."""
        self._classes[priority].charge(tenant, counter)

    def dismiss(self, error: Callable[[], Exception]) -> None:
        """There is nothing to wait for any more: all that wait leave with an error, the earliest deadline first."""
        waiting = sorted(entry for entry in self._deadlines if entry[2].waiting)
        self._deadlines.clear()
        for _, _, ticket in waiting:
            self._classes[ticket.priority].discard(ticket)
            self._waits_no_more(ticket)
            ticket.wake(error())

    def position(self, ticket: Ticket) -> int:
        """About how many grants from now is this ticket's: 1 for the next, 0 if it does not wait. Costs O(tenants).

        It counts its own tenant's older tickets, other tenants' turns by their counters, and other classes' turns by
        their patience. Newcomers can still push it back.
        """
        if not ticket.waiting:
            return 0
        priority = ticket.priority
        position = 1 + self._classes[priority].ahead(ticket)
        higher = True
        passing = 0
        for other, patience in PATIENCE.items():
            if other == priority:
                higher = False
            else:
                turns = position * PATIENCE[priority] if higher else position // patience
                passing += int(min(self._classes[other].waiting, turns))
        return position + passing

    def wait_estimate_s(self, now_s: float, ticket: Ticket | None = None) -> float:
        """How long this ticket, or a newcomer behind all that wait, has yet to wait at the pace of late."""
        return self.pace_s(now_s) * (self.waiting + 1 if ticket is None else self.position(ticket))

    def pace_s(self, now_s: float) -> float:
        """From one grant to the next: what requests took of late, or what those in service have taken already.

        Without the second part a queue whose first requests take minutes would call itself quick until they end.
        """
        age_s = now_s - self._granted_sum_s / self.serving if self.serving else 0.0
        return max(self._service_s, age_s) / max(1, self.capacity)

    def snapshot(self) -> QueueSnapshot:
        most = heapq.nlargest(_SNAPSHOT_TENANTS_MAX, self._room.by_tenant.items(), key=lambda item: item[1].requests)
        by_tenant = {tenant: load.requests for tenant, load in most}
        return QueueSnapshot(
            capacity=self.capacity,
            serving=self.serving,
            long_max=self.long_max,
            long_serving=self.long_serving,
            waiting=self.waiting,
            waiting_tokens=self._room.load.tokens,
            waiting_bytes=self._room.load.bytes,
            by_class={priority: tenants.waiting for priority, tenants in self._classes.items()},
            by_tenant=by_tenant,
            other_tenants=self.waiting - sum(by_tenant.values()),
        )

    def _lanes(self) -> tuple[bool, ...]:
        """The lanes that may run now, as values of `Ticket.long`."""
        return (False, True) if self.long_serving < self.long_max else (False,)

    def _fill(self, now_s: float) -> None:
        while self._room.load.requests and self.serving < self.capacity and (ticket := self._next()) is not None:
            self._grant(ticket, now_s)
            ticket.wake(None)

    def _next(self) -> Ticket | None:
        lanes = self._lanes()
        firsts: dict[Priority, Ticket] = {}
        for priority, tenants in self._classes.items():
            if tenants.waiting and (ticket := tenants.first(lanes)) is not None:
                firsts[priority] = ticket
        if not firsts:
            return None
        due = [priority for priority in firsts if self._passed[priority] >= PATIENCE[priority]]
        chosen = due[-1] if due else next(iter(firsts))
        for priority in firsts:
            self._passed[priority] += 1
        self._passed[chosen] = 0
        return firsts[chosen]

    def _grant(self, ticket: Ticket, now_s: float) -> None:
        self._classes[ticket.priority].grant(ticket)
        if ticket.waiting:
            self._waits_no_more(ticket)
        ticket.granted_s = now_s
        self._granted_sum_s += now_s
        self.serving += 1
        self.grants += 1
        self.long_serving += ticket.long

    def _waits_no_more(self, ticket: Ticket) -> None:
        ticket.waiting = False
        self._room.remove(ticket)

    def _watch(self, ticket: Ticket) -> None:
        heapq.heappush(self._deadlines, (ticket.deadline_s, ticket.number, ticket))
        self._deadline_last_s = max(self._deadline_last_s, ticket.deadline_s)
        if len(self._deadlines) > 2 * self.waiting + _SLACK:  # most have been granted or have left
            self._deadlines = [entry for entry in self._deadlines if entry[2].waiting]
            heapq.heapify(self._deadlines)

    def _full(self, lack: Lack, now_s: float) -> QueueFull:
        what = f"the queue for '{self.model}'"
        if lack.tenant is not None:
            what = f"the part of tenant '{lack.tenant}' in {what}"
        retry_after_s = self.wait_estimate_s(now_s)
        if self.waiting:  # by their deadlines, those that wait have left in any case
            retry_after_s = min(retry_after_s, max(0.0, self._deadline_last_s - now_s))
        return QueueFull(
            f"{what} is full: with this request {lack.would_wait:,} {lack.unit} would wait, {lack.limit:,} may "
            f"({self.serving} in service); retry in {max(1, math.ceil(retry_after_s))} s, "
            f"or raise `{lack.setting}` in inhouse.yaml",
            retry_after_s=retry_after_s,
        )
