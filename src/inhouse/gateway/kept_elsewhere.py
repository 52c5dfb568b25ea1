"""Answers of other gateways, read from Redis: found, followed, cancelled, deleted, given up where their maker is gone.

A maker says in each fifth of a lease that it is there. One that is late is looked at again after a grace, for after an
outage of Redis all are late; one that is late still is gone, and whoever sees it ends the answer for everybody: readers
have what there is, and then the error in the shape of its API, also those who have more of it than Redis kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from inhouse.errors import AnswerLost, ApiError, Conflict, NotFound, StateUnavailable
from inhouse.gateway.apis import APIS
from inhouse.gateway.kept_shared import KeptShared
from inhouse.store.kept_shelf import GIVEN_UP, KeptShelf, Seen
from inhouse.wire import errors, given_up

_PAUSE_S = 0.25
_BLOCK_S = 0.25
_API_OF = {api.name: api for api in APIS.values()}


class KeptElsewhere:
    """One answer, as it was when it was found; `follow` reads on."""

    def __init__(self, shared: KeptShared, id: str, tenant: str, seen: Seen) -> None:
        self.id = id
        self.shown, self.cancelled = seen.shown, seen.cancelled
        self.refusal = (seen.status, seen.refusal) if seen.refusal else None
        self._shared, self._tenant = shared, tenant

    async def follow(self, after: int) -> AsyncIterator[tuple[int, bytes]]:
        """Events with their numbers, from the one behind `after` on, until it is whole. Raises StateUnavailable where
        Redis is away for longer than a lease, NotFound where it is deleted meanwhile."""
        shared, at, there_s, looked_s = self._shared, after + 1, time.monotonic(), 0.0
        seen: Seen | None = None
        while True:
            try:
                if time.monotonic() - looked_s >= min(shared.beat_s, 1.0):
                    seen = await _looked(shared, self.id, self._tenant, following=True)
                    if seen is None:
                        raise NotFound(f"the answer '{self.id}' was deleted, or its time is over")
                    looked_s = time.monotonic()
                block_s = 0.0 if seen is not None and seen.over else min(_BLOCK_S, shared.timeout_s / 4)
                async with shared.asking() as client:
                    news, end = await shared.shelf.wait(client, self.id, at, block_s)
            except StateUnavailable:
                if time.monotonic() - there_s > shared.shelf.times.lease_s:
                    raise
                await asyncio.sleep(_PAUSE_S)
                continue
            there_s = time.monotonic()
            for number, event in news:
                yield number, event
                at = number + 1
            if not (news or end) and seen is not None and seen.over:
                end = seen.state  # its reader is past all that is there
            if end == GIVEN_UP and (seen is None or seen.state != GIVEN_UP):
                looked_s = 0.0  # since the last look
            elif end:
                break
        if end == GIVEN_UP and seen is not None:
            for number, event in enumerate(given_up.events(_gone(), seen.api, seen.shown, at), at):
                yield number, event

    async def cancel(self) -> None:
        """Its maker hears of it within a fifth of a lease. Raises Conflict, NotFound, StateUnavailable."""
        state = await self._shared.ask(self._shared.shelf.cancel(self.id, self._tenant))
        if state == b"":
            raise NotFound(f"there is no answer '{self.id}' here: it was never kept, or its time is over")
        if state != b"r":
            raise Conflict(f"the answer '{self.id}' is whole: there is nothing to cancel")
        self.cancelled = True


async def find(shared: KeptShared, id: str, tenant: str) -> KeptElsewhere | None:
    """None: this tenant has no such answer. Raises StateUnavailable."""
    if not KeptShelf.may_be(id):
        return None
    seen = await _looked(shared, id, tenant)
    if seen is not None and seen.late == 1:
        await asyncio.sleep(shared.shelf.times.grace_s)
        seen = await _looked(shared, id, tenant)
    return None if seen is None else KeptElsewhere(shared, id, tenant, seen)


async def remove(shared: KeptShared, id: str, tenant: str) -> bool:
    """Whether there was one. Raises StateUnavailable."""
    return KeptShelf.may_be(id) and bool(await shared.ask(shared.shelf.remove(id, tenant)))


async def _looked(shared: KeptShared, id: str, tenant: str, *, following: bool = False) -> Seen | None:
    look = shared.shelf.look(id, tenant, following=following)
    seen = shared.shelf.seen(await shared.ask(look))
    if seen is None or not seen.gone:
        return seen
    error = _gone()
    api = _API_OF.get(seen.api)
    body = errors.body(error) if api is None else api.error_body(error, id)
    await shared.ask(shared.shelf.give_up(id, seen.count, error.status, body))
    return shared.shelf.seen(await shared.ask(look))


def _gone() -> ApiError:
    return AnswerLost("the gateway that made this answer is gone; ask again")
