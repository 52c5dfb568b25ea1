"""Who waits hears where it stands, as often as agreed, and a crowd costs the others little."""

from __future__ import annotations

import pytest

from inhouse.admission.fair import FairQueue, Ticket
from inhouse.admission.notices import Notices, Standing


class Room:
    """A queue with a clock, in which everybody listens."""

    def __init__(self, every_s: float = 5.0, slots: int = 1) -> None:
        limits = {"waiting_max": 10**5, "waiting_tokens_max": 10**9, "waiting_bytes_max": 10**9}
        self.queue = FairQueue("m", prefill_long_tokens=1000, **limits)
        self.queue.resize(slots, 0.0)
        self.notices = Notices(self.queue, every_s)
        self.now_s = 0.0
        self.heard: list[tuple[str, float, Standing]] = []
        self.tickets: dict[str, Ticket] = {}

    def arrives(self, name: str, tenant: str = "t") -> None:
        ticket = self.tickets[name] = Ticket(lambda _: None, self.now_s + 100.0, self.now_s, tenant)
        if not self.queue.offer(ticket, self.now_s):
            self.notices.add(ticket, lambda standing: self.heard.append((name, self.now_s, standing)), self.now_s)

    def leaves(self, name: str) -> None:
        self.queue.release(self.tickets[name], self.now_s)
        self.notices.discard(self.tickets[name])

    def until(self, now_s: float) -> None:
        """Looks four times a second."""
        while self.now_s < now_s:
            self.now_s += 0.25
            self.notices.tell(self.now_s)


def test_those_that_wait_hear_their_place_and_a_guess_of_the_wait() -> None:
    """The first time after one interval, then at each; nobody who was served at once hears anything."""
    room = Room()
    for name in ("served", "a", "b"):
        room.arrives(name)
    room.until(4.75)
    assert room.heard == []
    room.until(10.0)
    assert [(name, at_s) for name, at_s, _ in room.heard] == [("a", 5.0), ("b", 5.0), ("a", 10.0), ("b", 10.0)]
    assert [standing.position for _, _, standing in room.heard] == [1, 2, 1, 2]
    for _, at_s, standing in room.heard:
        assert standing.wait_s == standing.position * at_s, "the one in service has taken so long already"


def test_who_has_its_slot_hears_nothing_more() -> None:
    """Also in the instant between the grant and its own next step."""
    room = Room()
    room.arrives("served")
    room.arrives("a")
    room.queue.release(room.tickets["served"], 1.0)
    room.until(20.0)
    assert room.heard == []


def test_who_has_left_hears_nothing_more() -> None:
    room = Room()
    for name in ("served", "a", "b"):
        room.arrives(name)
    room.until(5.0)
    room.leaves("a")
    room.until(10.0)
    assert [name for name, _, _ in room.heard] == ["a", "b", "b"]


def test_nobody_is_told_anything_where_that_is_switched_off() -> None:
    room = Room(every_s=0.0)
    room.arrives("served")
    room.arrives("a")
    room.until(100.0)
    assert room.heard == []


def test_a_model_that_loads() -> None:
    """There is a place, but no pace to guess a wait by."""
    room = Room(slots=0)
    room.arrives("a")
    room.until(5.0)
    assert room.heard == [("a", 5.0, Standing(1, None))]


def test_a_crowd_of_tenants() -> None:
    """All hear in time that they still wait; how many of them with figures is bounded by the work that figures cost."""
    room = Room()
    room.arrives("served")
    for number in range(3000):
        room.arrives(f"r{number}", tenant=f"t{number}")
    room.until(5.0)
    assert len(room.heard) == 3000
    figures = [standing for _, _, standing in room.heard if standing.position is not None]
    assert 1 <= len(figures) <= 3


@pytest.mark.parametrize(("in_service_s", "told_s"), [(0.5, 2.0), (60.0, 60.0)])
def test_a_pace_that_nobody_has_seen_yet(in_service_s: float, told_s: float) -> None:
    """Before the first request has ended, its age speaks: the queue does not call itself quick."""
    room = Room()
    room.arrives("served")
    room.arrives("a")
    assert room.queue.wait_estimate_s(in_service_s, room.tickets["a"]) == told_s


def test_the_pace_over_many_requests() -> None:
    """Ages are those of the requests in service now: nothing of earlier ones is left."""
    room = Room(slots=3)
    for number in range(1000):
        room.now_s = number * 0.1
        room.arrives(f"r{number}")
        if number >= 3:
            room.leaves(f"r{number - 3}")
    assert room.queue.serving == 3
    assert room.queue.pace_s(room.now_s) == pytest.approx(0.1, rel=0.05)
