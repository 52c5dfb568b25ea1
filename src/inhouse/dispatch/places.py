"""Which replica a granted turn goes to, and what becomes of turns whose replica is lost before the first token.

Theory of operation. A turn is granted while fewer are served than there are slots; it then takes a *place*: one of the
slots of one open member, chosen by the router where there are several. Capacity, which the queue grants by, is the sum
over members: all slots of an open one, and of one that is shut (not ready, draining, breaker open) the requests that it
still has. So a member that shuts lets nobody else wait longer, and one that opens is used at once.

Between grant and place a member may shut, and a turn whose replica failed wants another one: such turns *rest*. They
keep their turn, so the queue grants nothing meanwhile, and they are first when a place comes free. A turn rests for as
long as there is hope: a member that it has not tried and that is open, or about to be.

Invariants:
- a member has at most its slots (and the queueing that the router's settings allow) in flight from here;
- a place is left exactly once, its member counted back, its outcome told to the router;
- a resting turn ends: by a place, by its deadline, or because there is no hope.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from inhouse.core import Endpoint
from inhouse.engines.member import Member
from inhouse.errors import ApiError, WaitedTooLong
from inhouse.routing.router import Outcome, Pick, RouteAsk, Router


class Place:
    """One slot of one member, in use. `first_s` is when its answer began: from then on nothing is tried again."""

    first_s: float | None = None

    def __init__(self, member: Member, pick: Pick | None, began_s: float) -> None:
        self.member = member
        self.pick = pick
        self.began_s = began_s

    def begun(self) -> float:
        """The answer begins now."""
        self.first_s = time.monotonic()
        if self.pick is not None:
            self.pick.begun()
        return self.first_s


@dataclass(slots=True, eq=False)
class _Rest:
    ask: RouteAsk
    until_s: float
    place: asyncio.Future[Place]


class Places:
    """See the module. `resize` is told the capacity; `hopeless` makes the error of a turn that nothing is left for.

    Without a router there is one member, started here: its places need no choice.
    """

    def __init__(
        self, router: Router | None, *, resize: Callable[[int], None], hopeless: Callable[[], ApiError]
    ) -> None:
        self.router = router
        self.members: dict[str, Member] = {}
        self._resize = resize
        self._hopeless = hopeless
        self.context_tokens: int | None = None
        """The least of what the members take of one request; None while nobody has told it."""
        self.any_ready = False
        """Whether it is worth waiting for a slot: some member is open, or shut for a moment only."""
        self._capacity = 0
        self._snapshots: tuple[Endpoint, ...] | None = None
        self._resting: deque[_Rest] = deque()
        self._loop = asyncio.get_running_loop()

    def join(self, member: Member) -> None:
        """A member that may open from now on."""
        self.members[member.id] = member
        member.changed = self.changed
        member.reported = self._look_again
        self.changed()

    def part(self, member: Member) -> None:
        """It has left, and has nothing of ours."""
        if self.members.get(member.id) is member:
            del self.members[member.id]
        member.changed = member.reported = _nobody
        if self.router is not None:
            self.router.forget(member.id)
        self.changed()

    def changed(self) -> None:
        """A member opened or shut."""
        self._snapshots = None
        self.any_ready = any(member.hopeful for member in self.members.values())
        told = [member.context_tokens for member in self.members.values() if member.context_tokens]
        self.context_tokens = min(told, default=None)
        self._recount()
        self._settle()

    def tick(self) -> None:
        """A few times a second: breakers let probes pass by time alone, and those who rest have deadlines."""
        if self.router is not None:
            self._recount()
            self._settle()

    @property
    def open_slots(self) -> int:
        return sum(member.slots for member in self.members.values() if member.open)

    def take(self, ask: RouteAsk) -> Place | None:
        """A place now; None where the turn has to rest."""
        place = self.choose(ask)
        if place is not None:
            self.start(place)
        return place

    def choose(self, ask: RouteAsk) -> Place | None:
        """The place that `take` would give now: it is not taken before it is given to `start`."""
        now_s = time.monotonic()
        router = self.router
        if router is None:
            member = next(iter(self.members.values()), None)
            return None if member is None or not member.open else Place(member, None, now_s)
        pick = router.pick(ask, self._snapshots or self._seen(), now_s)
        if pick is None:
            return None
        member = self.members[pick.endpoint_id]
        if member.in_flight >= member.slots + router.settings.queueing_max:
            pick = self._pick_among_others(router, ask, pick, now_s)
            if pick is None:
                return None
            member = self.members[pick.endpoint_id]
        return Place(member, pick, now_s)

    def start(self, place: Place) -> None:
        """A place that was chosen just now is taken."""
        if place.pick is not None and self.router is not None:
            self.router.started(place.pick, place.began_s)
        place.member.in_flight += 1

    async def rest(self, ask: RouteAsk, wait_s: float) -> Place:
        """A place, as soon as one is free. Raises WaitedTooLong, or what `hopeless` makes."""
        if not self._hope(ask):
            raise self._hopeless()
        rest = _Rest(ask, time.monotonic() + wait_s, self._loop.create_future())
        self._resting.append(rest)
        try:
            return await rest.place
        except asyncio.CancelledError:
            if rest.place.done() and not rest.place.cancelled() and rest.place.exception() is None:
                self.leave(rest.place.result(), "neutral")  # given in the same turn of the loop
            raise
        finally:
            if rest in self._resting:
                self._resting.remove(rest)

    def leave(self, place: Place, outcome: Outcome, tokens: int = 0, now_s: float | None = None) -> None:
        """The place is free again. `tokens` is about how many came."""
        member, pick, first_s = place.member, place.pick, place.first_s
        member.in_flight -= 1
        if pick is not None and self.router is not None:
            if now_s is None:
                now_s = time.monotonic()
            ttft_s = tpot_s = None
            if first_s is not None and outcome == "ok":
                ttft_s = first_s - place.began_s
                if tokens > 1:
                    tpot_s = (now_s - first_s) / (tokens - 1)
            self.router.ended(pick, outcome, now_s, ttft_s=ttft_s, tpot_s=tpot_s)
            if outcome == "failed" or pick.probe:
                self._recount()
        if not member.open:
            self._recount()
        if self._resting:
            self._settle()

    def may_retry(self, place: Place, ask: RouteAsk) -> bool:
        """Whether a turn that failed before its first token may try another member; counted where it may."""
        if place.first_s is not None or self.router is None:
            return False
        ask.excluded |= {place.member.id}
        return (
            len(ask.excluded) <= self.router.settings.retries_max
            and self._hope(ask)
            and self.router.retries.withdraw(time.monotonic())
        )

    def may_go_on(self, place: Place, ask: RouteAsk) -> bool:
        """Whether an answer that broke off in the middle may go on at another member.

        Only the one where it broke off is left out: those where it was before may have been started anew.
        """
        if self.router is None:
            return False
        ask.excluded = frozenset((place.member.id,))
        return self._hope(ask)

    def _seen(self) -> tuple[Endpoint, ...]:
        """The members' snapshots, as the router wants them: the same ones for as long as nothing but ours changes."""
        self._snapshots = snapshots = tuple([member.endpoint() for member in self.members.values()])
        return snapshots

    def _look_again(self) -> None:
        self._snapshots = None

    def _pick_among_others(self, router: Router, ask: RouteAsk, full: Pick, now_s: float) -> Pick | None:
        """A pick that has room. A new generation counts from 0 at the router, while what the old one has of ours is not
        over: such a member is left out.
        """
        pick: Pick | None = full
        endpoints = self.endpoints()
        while pick is not None:
            member = self.members[pick.endpoint_id]
            if member.in_flight < member.slots + router.settings.queueing_max:
                return pick
            endpoints = [endpoint for endpoint in endpoints if endpoint.id != member.id]
            pick = router.pick(ask, endpoints, now_s)
        return None

    def _hope(self, ask: RouteAsk) -> bool:
        members = self.members.values()
        if not ask.excluded:
            return bool(members)
        return any(member.hopeful and member.id not in ask.excluded for member in members)

    def _settle(self) -> None:
        """Those who rest, longest first: a place, an error, or further rest."""
        if not self._resting:
            return
        now_s = time.monotonic()
        still: deque[_Rest] = deque()
        waiting, self._resting = self._resting, still
        for rest in waiting:
            if rest.place.done():
                continue
            place = self.take(rest.ask)
            if place is not None:
                rest.place.set_result(place)
            elif not self._hope(rest.ask):
                rest.place.set_exception(self._hopeless())
            elif now_s >= rest.until_s:
                rest.place.set_exception(
                    WaitedTooLong("waited too long for a replica that takes the request; retry later", retry_after_s=5)
                )
            else:
                still.append(rest)

    def _recount(self) -> None:
        capacity = sum(self._room(member) for member in self.members.values())
        if capacity != self._capacity:
            self._capacity = capacity
            self._resize(capacity)

    def _room(self, member: Member) -> int:
        if not member.open:
            return member.in_flight
        if self.router is None:
            return member.slots + member.ahead
        refusal = self.router.health(member.id, time.monotonic())
        if refusal is None:
            return member.slots + self.router.settings.queueing_max
        return member.in_flight

    def endpoints(self) -> list[Endpoint]:
        return [member.endpoint() for member in self.members.values()]


def _nobody() -> None:
    return None
