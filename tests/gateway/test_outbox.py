"""Writes of one turn of the event loop go out together where much is under way, and always in their order."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from inhouse.outbox import Outbox, outbox_of

MANY = 1000


class Transport(asyncio.Transport):
    """Notes what is written, by itself and in the order of all."""

    def __init__(self, name: str, told: list[tuple[str, bytes]]) -> None:
        super().__init__()
        self.name, self.told = name, told
        self.closed: bool | None = False
        """None: it cannot be written to, and does not say so."""

    def write(self, data: Any) -> None:
        if self.closed is None:
            raise RuntimeError("it has said that it ends")
        assert not self.closed
        self.told.append((self.name, bytes(data)))

    def is_closing(self) -> bool:
        return bool(self.closed)

    def abort(self) -> None:
        self.closed = True


@pytest.fixture
def told() -> list[tuple[str, bytes]]:
    return []


async def test_little_goes_out_at_once(told: list[tuple[str, bytes]]) -> None:
    outbox = outbox_of(asyncio.get_running_loop())
    outbox.busy = 1
    outbox.write(Transport("a", told), b"1")
    assert told == [("a", b"1")]


async def test_much_goes_out_at_the_end_of_the_turn(told: list[tuple[str, bytes]]) -> None:
    """In its order; what comes when little is left under way does not overtake what is held."""
    outbox = outbox_of(asyncio.get_running_loop())
    a, b = Transport("a", told), Transport("b", told)
    outbox.busy = MANY
    outbox.write(a, b"1")
    outbox.write(b, b"2")
    outbox.busy = 0
    outbox.write(a, b"3")
    assert told == []
    await asyncio.sleep(0)
    assert told == [("a", b"1"), ("b", b"2"), ("a", b"3")]
    outbox.write(b, b"4")
    assert told[-1] == ("b", b"4")


async def test_who_closes_has_it_written_first(told: list[tuple[str, bytes]]) -> None:
    """And what is held for a connection that was lost goes nowhere."""
    outbox = outbox_of(asyncio.get_running_loop())
    outbox.busy = MANY
    a, b = Transport("a", told), Transport("b", told)
    outbox.write(a, b"1")
    outbox.write(b, b"2")
    b.closed = True
    outbox.flush()
    a.closed = True
    assert told == [("a", b"1")]
    await asyncio.sleep(0)
    assert told == [("a", b"1")]


async def test_one_that_fails_holds_up_nobody(told: list[tuple[str, bytes]]) -> None:
    outbox = outbox_of(asyncio.get_running_loop())
    outbox.busy = MANY
    a, b = Transport("a", told), Transport("b", told)
    a.closed = None
    outbox.write(a, b"1")
    outbox.write(b, b"2")
    await asyncio.sleep(0)
    assert told == [("b", b"2")]
    assert a.closed


@pytest.mark.parametrize(
    ("busy", "took_s", "rests"), [(MANY, 0.0, 1), (128, 0.0004, 1), (MANY, 0.0006, 0), (127, 0.0, 0), (1, 0.0, 0)]
)
async def test_a_crowd(
    busy: int, took_s: float, rests: int, told: list[tuple[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a turn with little work it rests for a moment, once all is written; after a long one, or of few, not."""
    now, rested = [5.0], list[int]()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda s: rested.append(len(told)) if 0 < s < 0.001 else None)
    outbox = outbox_of(asyncio.get_running_loop())
    outbox.busy = busy
    outbox.write(Transport("a", told), b"1")
    now[0] += took_s
    outbox.write(Transport("b", told), b"2")
    await asyncio.sleep(0)
    assert rested == [2] * rests


async def test_a_crowd_while_somebody_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not rest: what begins needs several turns."""
    rested: list[float] = []
    monkeypatch.setattr(time, "sleep", rested.append)
    outbox = outbox_of(asyncio.get_running_loop())
    outbox.busy = MANY
    for opening, rests in (({"somebody"}, 0), (set[object](), 1)):
        outbox.opening = opening
        outbox.write(Transport("a", []), b"1")
        await asyncio.sleep(0)
        assert len(rested) == rests


def test_each_loop_has_its_own() -> None:
    """A loop that ended with something held does not hold up another one."""
    told: list[tuple[str, bytes]] = []
    boxes: list[Outbox] = []

    async def leave_something() -> None:
        outbox = outbox_of(asyncio.get_running_loop())
        outbox.busy = MANY
        outbox.write(Transport("a", told), b"1")
        boxes.append(outbox)

    async def write() -> None:
        await test_much_goes_out_at_the_end_of_the_turn([])
        boxes.append(outbox_of(asyncio.get_running_loop()))

    asyncio.run(leave_something())
    asyncio.run(write())
    assert boxes[0] is not boxes[1]
