"""The bounded queue in front of one model's slots: first come, first served. Pure and synchronous.

Theory of operation. `capacity` slots exist (0 while no replica is ready). A ticket is *serving* (it holds a slot) or
*waiting*. Invariants, held by the property tests: serving ≤ capacity at the time of each grant; waiting ≤
`waiting_max`; nobody waits while a slot is free; tickets are granted in the order of their arrival; a ticket is
granted at most once and released at most once.

Callers pass the time in seconds; nothing here reads a clock.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from inhouse.errors import QueueFull, WaitedTooLong

_SERVICE_S_FIRST_GUESS = 2.0
_SMOOTHING = 0.2


@dataclass(slots=True, eq=False)
class Ticket:
    """One request's place. `wake(None)` is called when it is granted, `wake(error)` when it must leave."""

    wake: Callable[[Exception | None], None]
    deadline_s: float
    arrived_s: float
    granted_s: float | None = field(default=None)


class SlotQueue:
    """See the module. `model` is only used in messages."""

    def __init__(self, model: str, *, waiting_max: int) -> None:
        self.model = model
        self.waiting_max = waiting_max
        self.capacity = 0
        self.serving = 0
        self._waiting: OrderedDict[int, Ticket] = OrderedDict()
        self._service_s = _SERVICE_S_FIRST_GUESS

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def offer(self, ticket: Ticket, now_s: float) -> bool:
        """True: the ticket holds a slot at once. False: it waits and will be woken. Raises QueueFull."""
        if self.serving < self.capacity and not self._waiting:
            self._grant(ticket, now_s)
            return True
        if len(self._waiting) >= self.waiting_max:
            retry_after_s = self.wait_estimate_s()
            raise QueueFull(
                f"the queue for '{self.model}' is full ({len(self._waiting)} waiting, {self.serving} in service); "
                f"retry in {max(1, round(retry_after_s))} s",
                retry_after_s=retry_after_s,
            )
        self._waiting[id(ticket)] = ticket
        return False

    def release(self, ticket: Ticket, now_s: float) -> None:
        """A granted ticket gives its slot back, a waiting one leaves; the next ones are woken."""
        if self._waiting.pop(id(ticket), None) is not None:
            return
        if ticket.granted_s is None:
            return
        self.serving -= 1
        self._service_s += _SMOOTHING * (now_s - ticket.granted_s - self._service_s)
        ticket.granted_s = None
        self._fill(now_s)

    def resize(self, capacity: int, now_s: float) -> None:
        """Slots came or went. Tickets in service keep theirs until they end."""
        self.capacity = capacity
        self._fill(now_s)

    def expire(self, now_s: float) -> None:
        """Tickets whose deadline has passed leave with WaitedTooLong."""
        late = [ticket for ticket in self._waiting.values() if ticket.deadline_s <= now_s]
        for ticket in late:
            del self._waiting[id(ticket)]
            waited_s = now_s - ticket.arrived_s
            ticket.wake(
                WaitedTooLong(
                    f"waited {waited_s:.0f} s for a slot of '{self.model}' ({self.serving} in service); retry later, "
                    "or raise the model's `slots` or `queue_wait_max` in inhouse.yaml",
                    retry_after_s=self.wait_estimate_s(),
                )
            )

    def wait_estimate_s(self) -> float:
        """How long a newcomer would wait: those ahead of it, served at the pace of late."""
        return self._service_s * (len(self._waiting) + 1) / max(1, self.capacity)

    def _fill(self, now_s: float) -> None:
        while self._waiting and self.serving < self.capacity:
            _, ticket = self._waiting.popitem(last=False)
            self._grant(ticket, now_s)
            ticket.wake(None)

    def _grant(self, ticket: Ticket, now_s: float) -> None:
        ticket.granted_s = now_s
        self.serving += 1
