"""Turns under cancellation: whoever leaves, in whatever instant, leaves nothing behind."""

from __future__ import annotations

import asyncio
import random
import weakref

import pytest

from inhouse.admission.fair import FairQueue
from inhouse.admission.notices import Standing
from inhouse.admission.turns import Turns
from inhouse.errors import QueueFull, WaitedTooLong


def turns_of(slots: int, waiting_max: int = 100) -> Turns:
    limits = {"waiting_max": waiting_max, "waiting_tokens_max": 10**6, "waiting_bytes_max": 10**6}
    turns = Turns(FairQueue("m", prefill_long_tokens=1000, **limits))
    turns.resize(slots)
    return turns


async def settle() -> None:
    """Lets everything run that can."""
    for _ in range(5):
        await asyncio.sleep(0)


class Holder:
    """A task that takes a turn and keeps it until told to end."""

    def __init__(self, turns: Turns, wait_s: float = 100.0) -> None:
        self.entered = False
        self.end = asyncio.Event()
        self._turns, self._wait_s = turns, wait_s
        self.task = asyncio.create_task(self._hold())

    async def _hold(self) -> None:
        async with self._turns.turn(self._wait_s):
            self.entered = True
            await self.end.wait()


async def test_turns_are_taken_and_given_back_in_order() -> None:
    turns = turns_of(1)
    holders = [Holder(turns) for _ in range(3)]
    for number, holder in enumerate(holders):
        await settle()
        assert [one.entered for one in holders] == [True] * (number + 1) + [False] * (2 - number)
        holder.end.set()
    await asyncio.gather(*(holder.task for holder in holders))
    assert (turns.queue.serving, turns.queue.waiting) == (0, 0)


async def test_cancelled_while_it_waits() -> None:
    """Its place is gone, the others keep theirs."""
    turns = turns_of(1)
    first, second, third = (Holder(turns) for _ in range(3))
    await settle()
    second.task.cancel()
    await settle()
    assert turns.queue.waiting == 1
    first.end.set()
    await settle()
    assert (second.entered, third.entered) == (False, True)
    third.end.set()
    await asyncio.wait([second.task, third.task])
    assert turns.queue.serving == 0


@pytest.mark.parametrize("cancel_first", [True, False])
async def test_cancelled_in_the_very_turn_of_the_grant(cancel_first: bool) -> None:
    """The slot goes to the next one, whichever of the two came first within one turn of the loop."""
    turns = turns_of(1)
    first, second, third = (Holder(turns) for _ in range(3))
    await settle()
    if cancel_first:
        second.task.cancel()
        turns.resize(2)
    else:
        turns.resize(2)
        second.task.cancel()
    await settle()
    assert second.task.cancelled()
    assert (second.entered, third.entered) == (False, True)
    assert turns.queue.serving == 2
    for holder in (first, third):
        holder.end.set()
    await asyncio.wait([first.task, third.task])
    assert (turns.queue.serving, turns.queue.waiting) == (0, 0)


async def test_cancelled_in_the_very_turn_of_its_deadline() -> None:
    turns = turns_of(0)
    holder = Holder(turns, wait_s=-1.0)
    await settle()
    turns.expire()
    holder.task.cancel()
    await settle()
    assert holder.task.done()
    assert (turns.queue.serving, turns.queue.waiting) == (0, 0)


async def test_the_deadline() -> None:
    """Who waits too long leaves with WaitedTooLong."""
    turns = turns_of(0)
    late, patient = Holder(turns, wait_s=-1.0), Holder(turns)
    await settle()
    turns.expire()
    with pytest.raises(WaitedTooLong):
        await late.task
    turns.resize(1)
    await settle()
    assert patient.entered
    patient.end.set()
    await patient.task


async def test_an_error_in_the_block_gives_the_slot_back() -> None:
    turns = turns_of(1)
    with pytest.raises(ValueError, match="x"):
        async with turns.turn(1.0):
            raise ValueError("x")
    assert turns.queue.serving == 0


async def test_no_place_in_the_queue() -> None:
    turns = turns_of(1, waiting_max=0)
    async with turns.turn(1.0):
        with pytest.raises(QueueFull):
            async with turns.turn(1.0):
                raise AssertionError("not reached")
    assert (turns.queue.serving, turns.queue.waiting) == (0, 0)


@pytest.mark.parametrize("seed", range(10))
async def test_any_interleaving(seed: int) -> None:
    """Grants, cancellations, resizes and ends at random, several within one turn of the loop: nothing leaks."""
    chance = random.Random(seed)
    turns = turns_of(2)
    holders = [Holder(turns) for _ in range(60)]
    for _ in range(400):
        holder = chance.choice(holders)
        match chance.randrange(5):
            case 0:
                holder.task.cancel()
            case 1:
                holder.end.set()
            case 2:
                turns.resize(chance.randrange(4))
            case 3:
                holders.append(Holder(turns, wait_s=chance.choice([-1.0, 100.0])))
            case _:
                turns.expire()
        if chance.random() < 0.4:
            await asyncio.sleep(0)
    turns.resize(2)
    for holder in holders:
        holder.end.set()
    await asyncio.wait([holder.task for holder in holders], timeout=30)
    assert all(holder.task.done() for holder in holders)
    for holder in holders:
        if not holder.task.cancelled():
            assert holder.task.exception() is None or isinstance(holder.task.exception(), WaitedTooLong | QueueFull)
    assert (turns.queue.serving, turns.queue.waiting) == (0, 0)


async def test_a_request_that_has_waited_is_forgotten() -> None:
    """What the queue remembers of it until its deadline holds on to nothing of the request."""
    turns = turns_of(1)

    class Client:
        def hear(self, standing: Standing) -> None: ...

    async def hold(client: Client) -> None:
        async with turns.turn(100.0, tell=client.hear):
            pass

    first = Holder(turns)
    await settle()
    client = Client()
    task = asyncio.create_task(hold(client))
    await settle()
    last = Holder(turns)
    await settle()
    first.end.set()
    await task
    gone = weakref.ref(client)
    del client, task
    assert gone() is None
    await settle()
    last.end.set()
    await last.task
