"""Loops that go on while Redis is away, and end when they are told to."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import ConnectionError as Gone

from inhouse.dispatch.contact import Contact


def contact() -> Contact:
    return Contact(lambda _: None, lambda _: None)


@pytest.mark.parametrize("ends", ["well", "badly"])
async def test_a_cancellation_that_a_client_swallows_ends_the_loop_all_the_same(ends: str) -> None:
    """Whether what was cancelled then answers or fails: it is not begun once more."""
    begun = asyncio.Event()
    times = 0

    async def work() -> None:
        nonlocal times
        times += 1
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if ends == "badly":
                raise Gone from None

    loop = asyncio.create_task(contact().steadily(work))
    await begun.wait()
    loop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(loop, 5)
    assert times == 1


async def test_what_fails_is_done_again() -> None:
    """Until it is told to stop."""
    tries: list[int] = []
    enough = asyncio.Event()

    async def work() -> None:
        tries.append(len(tries))
        if len(tries) == 1:
            raise Gone
        enough.set()
        await asyncio.Event().wait()

    loop = asyncio.create_task(contact().steadily(work))
    await asyncio.wait_for(enough.wait(), 5)
    loop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loop
    assert tries == [0, 1]
