"""asyncio's way into the queue: `async with turns.turn(wait_s): …` holds a slot for the body of the block.

Most turns need not wait: who is in a hurry calls `enter`, `wait` only where that says so, and `leave` in any case.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from inhouse.admission.fair import FairQueue, Priority, Ticket
from inhouse.admission.notices import Notices, Tell


@dataclass(frozen=True, slots=True)
class Ask:
    """Who wants a slot, and for how much: `prompt_tokens` is an estimate, `tokens_max` bounds prompt and answer."""

    tenant: str = "default"
    weight: float = 1.0
    priority: Priority = "standard"
    prompt_tokens: int = 0
    tokens_max: int = 0
    body_bytes: int = 0


_NOTHING = Ask()


class Turns:
    """The turns at one model's slots. The owner calls `expire` and `tell` a few times a second.

    Those that wait and want to hear of it are told where they stand every `notice_every_s`; 0 is never.
    """

    def __init__(self, queue: FairQueue, *, notice_every_s: float = 0.0) -> None:
        self.queue = queue
        self.notices = Notices(queue, notice_every_s)
        self.now_s: Callable[[], float] = asyncio.get_running_loop().time

    def turn(self, wait_s: float, ask: Ask = _NOTHING, tell: Tell | None = None) -> Turn:
        """A turn that waits at most `wait_s` for its slot. Entering raises QueueFull or WaitedTooLong."""
        return Turn(self, wait_s, ask, tell)

    def resize(self, capacity: int) -> None:
        self.queue.resize(capacity, self.now_s())

    def seated(self, ask: Ask, granted_s: float) -> Turn:
        """The turn of what was let in by `FairQueue.seat`."""
        turn = Turn(self, 0.0, ask, None)
        self.queue.seated(turn.ticket(granted_s), granted_s)
        return turn

    def expire(self) -> None:
        self.queue.expire(self.now_s())

    def tell(self) -> None:
        self.notices.tell(self.now_s())


class Turn:
    """One use of a slot. A waiter that is cancelled gives its place, or the slot it was just granted, back.

    `tokens_used` is set by the holder before it leaves; None counts as `tokens_max`. `place` is that in the queue when
    it came (1 is next), `waited_s` is known once the waiting has ended in any way.
    """

    __slots__ = ("_ask", "_granted", "_tell", "_ticket", "_turns", "_wait_s", "place", "tokens_used", "waited_s")

    def __init__(self, turns: Turns, wait_s: float, ask: Ask, tell: Tell | None) -> None:
        self._turns = turns
        self._wait_s = wait_s
        self._ask = ask
        self._tell = tell
        self.tokens_used: int | None = None
        self._ticket: Ticket | None = None
        self.place = 0
        self._granted: asyncio.Future[None] | None = None
        self.waited_s = 0.0

    async def __aenter__(self) -> Turn:
        if not self.enter():
            await self.wait()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave(self.tokens_used)

    def enter(self) -> bool:
        """True: the slot is held. False: `wait` for it. Raises QueueFull."""
        turns = self._turns
        now_s = turns.now_s()
        return turns.queue.offer(self.ticket(now_s), now_s)

    def ticket(self, now_s: float) -> Ticket:
        """Its place in the queue, made anew."""
        ask = self._ask
        ticket = self._ticket = Ticket(
            self._wake,
            now_s + self._wait_s,
            now_s,
            ask.tenant,
            ask.weight,
            ask.priority,
            ask.prompt_tokens,
            ask.tokens_max,
            ask.body_bytes,
        )
        return ticket

    async def wait(self) -> None:
        """Until the slot is held. Raises WaitedTooLong."""
        turns, ticket = self._turns, self._ticket
        assert ticket is not None  # noqa: S101 - `enter` came before
        granted = self._granted = asyncio.get_running_loop().create_future()
        self.place = turns.queue.waiting
        if self._tell is not None:
            turns.notices.add(ticket, self._tell, ticket.arrived_s)
        try:
            await granted
        except BaseException:
            turns.queue.release(ticket, turns.now_s(), 0)
            raise
        finally:
            turns.notices.discard(ticket)
            ticket.wake, self._tell = _nobody, None  # its deadline may remember the ticket long after the request
            self.waited_s = turns.now_s() - ticket.arrived_s

    def leave(self, tokens_used: int | None) -> None:
        """The slot is given back; `tokens_used` as of `FairQueue.release`."""
        if self._ticket is not None:
            self._turns.queue.release(self._ticket, self._turns.now_s(), tokens_used)

    def _wake(self, error: Exception | None) -> None:
        granted = self._granted
        if granted is None or granted.done():
            return  # cancelled in the same turn of the loop: what `__aenter__` does then gives the slot back
        if error is None:
            granted.set_result(None)
        else:
            granted.set_exception(error)


def _nobody(error: Exception | None) -> None:
    """Whom a ticket wakes that waits no more."""
