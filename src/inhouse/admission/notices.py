"""Who of those that wait hears next where it stands. Pure: callers pass the time in seconds.

Theory of operation. All that wait hear at the same interval, so they stand in one line by when they are due: a newcomer
at its end, and whoever has just heard goes there again. A look costs as much as there are people due. Positions cost
O(tenants) each: at most `_TENANTS_LOOKED_AT` are looked at in one round, and who is due beyond that hears that it still
waits, without figures, so that a crowd costs the others at most a few milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from inhouse.admission.fair import FairQueue, Ticket

_TENANTS_LOOKED_AT = 5_000


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one that waits stands: 1 is next. None where it is not known, as the wait for a model that loads."""

    position: int | None = None
    wait_s: float | None = None
    doing: str = ""
    """What is done meanwhile for a model that is not there yet, as in `model=loading`."""


Tell = Callable[[Standing], None]
"""Must not call back into the queue."""


@dataclass(slots=True)
class _Listener:
    tell: Tell
    due_s: float


class Notices:
    """See the module. `every_s` of 0 tells nobody anything."""

    def __init__(self, queue: FairQueue, every_s: float) -> None:
        self.every_s = every_s
        self.doing: Callable[[], str] = str
        """Says what is done while no slot is open."""
        self._queue = queue
        self._line: dict[Ticket, _Listener] = {}

    def add(self, ticket: Ticket, tell: Tell, now_s: float) -> None:
        """A ticket begins to wait. The first notice comes after one interval."""
        if self.every_s > 0:
            self._line[ticket] = _Listener(tell, now_s + self.every_s)

    def discard(self, ticket: Ticket) -> None:
        self._line.pop(ticket, None)

    def tell(self, now_s: float) -> None:
        """Tells all that are due. While no slot is open nothing moves, and there is no pace to guess a wait by."""
        left = _TENANTS_LOOKED_AT
        open_ = self._queue.capacity > 0
        pace_s = self._queue.pace_s(now_s) if open_ else None
        due = self._due(now_s)
        doing = self.doing() if due and not open_ else ""
        for ticket in due:
            listener = self._line.pop(ticket)
            listener.due_s = now_s + self.every_s
            self._line[ticket] = listener
            if left <= 0:
                listener.tell(Standing(doing=doing))
                continue
            left -= 1 + self._queue.tenants_waiting
            position = self._queue.position(ticket)
            listener.tell(Standing(position, None if pace_s is None else pace_s * position, doing))

    def _due(self, now_s: float) -> list[Ticket]:
        found = []
        for ticket, listener in self._line.items():
            if listener.due_s > now_s:
                break
            if ticket.waiting:  # else it was granted a moment ago and its owner has not run yet
                found.append(ticket)
        return found
