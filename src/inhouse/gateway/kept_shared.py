"""Answers of this gateway that all gateways can read, in Redis; its end of them.

Theory of operation. A `Kept` grows in the memory of the gateway that makes it, as ever, and is copied to Redis behind
it: what is new of all of them, in one round trip, and then what has become new meanwhile. Each copy also says that the
maker is there, and what it is told in return is what others want: that it was cancelled, deleted, or is being read. An
answer of which nothing is new is copied once in a fifth of a lease. Once all of a whole one is in Redis, memory has
only its name and size, so it counts for the limits and is read, and deleted, in one place.

Redis away: answers grow in memory, are read here, and are copied when it is back. One that Redis has lost, in part or
whole, is copied again from where it ends there. Nothing here is made before the first answer that is to be kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inhouse.errors import StateUnavailable
from inhouse.gateway.kept import Kept
from inhouse.store.kept_shelf import KeptShelf, News, ShelfTimes
from inhouse.store.queue import plain
from inhouse.store.redis_calls import Commands, Run, run

if TYPE_CHECKING:
    from inhouse.store.redis_link import Link

_GRACE_S = 2.0
_PAUSE_S = 0.25
_GATHER_S = 0.005
_EVENTS_AT_ONCE, _BYTES_AT_ONCE = 256, 256 * 1024
_ANSWERS_AT_ONCE = 64
_CLOSE_S = 1.0


@dataclass(slots=True)
class _Copied:
    """How much of an answer Redis has."""

    kept: Kept
    count: int = 0
    shown: bytes = b""
    refused: bool = False
    cancelled: bool = False
    at_s: float = 0.0
    """When it was last copied; 0: never."""
    created: asyncio.Event | None = None

    def is_news(self) -> bool:
        kept = self.kept
        return (
            not self.at_s
            or kept.over
            or len(kept.events_so_far) > self.count
            or kept.shown is not self.shown
            or kept.cancelled is not self.cancelled
        )

    def news(self) -> News:
        kept, events, size = self.kept, [], 0
        for event in kept.events_so_far[self.count : self.count + _EVENTS_AT_ONCE]:
            events.append(event)
            size += len(event)
            if size > _BYTES_AT_ONCE:
                break
        status, refusal = kept.refusal if kept.refusal is not None and not self.refused else (0, b"")
        whole = kept.over and self.count + len(events) == len(kept.events_so_far)
        shown = b"" if kept.shown is self.shown else kept.shown
        return News(self.count, events, whole, kept.cancelled, shown, status, refusal)


class KeptShared:
    """See the module. `fault` hears of errors that should not be."""

    def __init__(
        self,
        link: Callable[[], Link],
        prefix: str,
        lease_s: float,
        keep_s: float,
        fault: Callable[[BaseException], None],
    ) -> None:
        self.shelf = KeptShelf(prefix, os.urandom(8).hex(), ShelfTimes(lease_s, _GRACE_S, keep_s))
        self.beat_s = lease_s / 5
        self.timeout_s = 1.0
        self.trouble = ""
        """Why Redis could not be asked the last time; "" where it could."""
        self._link, self._fault = link, fault
        self._client: Commands | None = None
        self._shown = ""
        self._open: dict[str, _Copied] = {}
        self._forgotten: dict[str, str] = {}
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # what the keeper of answers calls
    def keep(self, kept: Kept) -> None:
        """It is copied from now on, until all of it is there."""
        self._open[kept.id] = _Copied(kept)
        kept.on_news = self._news.set
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._copy_all(), name="kept answers")
        self._news.set()

    def forget(self, kept: Kept) -> None:
        """It is not to be found in Redis either, as soon as that can be told to it."""
        copied = self._open.pop(kept.id, None)
        if copied is None or copied.at_s:
            self._forgotten[kept.id] = kept.tenant
            self._news.set()

    async def begun(self, kept: Kept) -> None:
        """Until other gateways know of it; not for longer than Redis may take to answer."""
        copied = self._open.get(kept.id)
        if copied is not None and not copied.at_s and not self.trouble:
            copied.created = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.timeout_s):
                    await copied.created.wait()

    async def close(self) -> None:
        """What can still be told to Redis is, within a second."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_S):
                    await self._copy_the_last()
        if self._client is not None:
            await self._client.aclose()

    # questions to Redis
    async def ask(self, what: Run) -> Any:
        """The answer of one script. Raises StateUnavailable."""
        async with self.asking() as client:
            return (await run(client, [what]))[0]

    @contextlib.asynccontextmanager
    async def asking(self) -> Any:
        """A client, whose errors become StateUnavailable."""
        from redis.exceptions import RedisError

        try:
            client = self._connected()
            async with asyncio.timeout(self.timeout_s):
                yield client
        except (RedisError, OSError, TimeoutError) as error:
            self.trouble = f"Redis at {self._shown} cannot be used: {type(error).__name__}"
            raise StateUnavailable(
                "answers that were kept are in Redis, which does not answer now; retry in 1 s", retry_after_s=1.0
            ) from None
        self.trouble = ""

    def _connected(self) -> Commands:
        if self._client is None:
            link = self._link()
            self.timeout_s, self._shown = 2 * link.timeout_s, link.shown
            self._client = plain(link.connect())
        return self._client

    # the copying
    async def _copy_all(self) -> None:
        while True:
            if not self._open and not self._forgotten:
                await self._news.wait()
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.beat_s / 2):
                        await self._news.wait()
            self._news.clear()
            await asyncio.sleep(_GATHER_S if await self._tried() else _PAUSE_S)

    async def _copy_the_last(self) -> None:
        while self._open or self._forgotten:
            self._news.clear()
            if not await self._tried():
                return
            if self._open:
                await self._news.wait()

    async def _tried(self) -> bool:
        """False: Redis did not answer."""
        try:
            await self._copied()
        except StateUnavailable:
            return False
        except Exception as error:  # noqa: BLE001 - told, and no reason to copy nothing any more
            self._fault(error)
            return False
        return True

    async def _copied(self) -> None:
        while due := list(self._due()):
            runs = [self._push(copied.kept, news) for copied, news in due]
            forgotten = list(self._forgotten.items())
            runs += [self.shelf.remove(id, tenant) for id, tenant in forgotten]
            async with self.asking() as client:
                answers = await run(client, runs)
            for (copied, news), answer in zip(due, answers, strict=False):
                self._heard(copied, news, *self.shelf.pushed(answer))
            for id, _ in forgotten:
                self._forgotten.pop(id, None)
        if forgotten := list(self._forgotten.items()):
            async with self.asking() as client:
                await run(client, [self.shelf.remove(id, tenant) for id, tenant in forgotten])
            for id, _ in forgotten:
                self._forgotten.pop(id, None)

    def _due(self) -> Iterator[tuple[_Copied, News]]:
        """Those that have waited longest: none is late because others have much to say."""
        now_s = time.monotonic()
        due = [one for one in self._open.values() if one.is_news() or now_s - one.at_s >= self.beat_s]
        for copied in heapq.nsmallest(_ANSWERS_AT_ONCE, due, key=lambda one: one.at_s):
            yield copied, copied.news()

    def _push(self, kept: Kept, news: News) -> Run:
        return self.shelf.push(kept.id, kept.tenant, kept.api, news, background=kept.background)

    def _heard(self, copied: _Copied, news: News, state: str, number: int) -> None:
        """What Redis said to it; a number is what the state makes of it (`lua/kept_push.lua`)."""
        kept = copied.kept
        if kept.id not in self._open:
            return
        copied.at_s = time.monotonic()
        if copied.created is not None:
            copied.created.set()
        if state == "over":
            del self._open[kept.id]
            kept.lost()
            return
        if state == "behind":
            copied.count = min(copied.count, number)
            copied.shown, copied.refused, copied.cancelled = b"", False, False
            return
        copied.count = news.first + len(news.events)
        copied.shown = news.shown or copied.shown
        copied.refused = copied.refused or bool(news.refusal)
        copied.cancelled = news.cancelled
        if news.whole:
            del self._open[kept.id]
            kept.shelved = True
        elif state == "cancelled" and not kept.cancelled:
            kept.cancel()
        if 0 <= number < 2000 * self.beat_s:
            kept.followed()
