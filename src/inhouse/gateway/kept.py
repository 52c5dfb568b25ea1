"""Answers that outlast their connection: each is a list of events that grows, and any number of readers follow it.

Theory of operation. A `Kept` is the sink of an `Aside`. What comes is appended, with a number; readers wait for news
and read on from where they are, so whoever was cut off asks for what follows the last number it has. An answer that is
whole is kept for `kept.time`; a stream that nobody follows and that was not asked for in the background is stopped
after `kept.alone`. All of it is in memory, within `kept.bytes_max`; where gateways share a Redis it is copied there
(`kept_shared`), and one that is whole and copied is only there.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from typing import Protocol

import msgspec

from inhouse.admission.notices import Standing
from inhouse.config.kept import KeptSpec
from inhouse.errors import AnswerLost, ApiError, Conflict, RequestTimeout, TooManyKept
from inhouse.gateway.aside import Aside
from inhouse.wire import sse


class _Carrier(msgspec.Struct):
    """What is looked for in an event of a response."""

    response: msgspec.Raw = msgspec.Raw()


_carrier = msgspec.json.Decoder(_Carrier).decode
_CARRIERS = tuple(
    f'"response.{what}"'.encode() for what in ("created", "in_progress", "completed", "failed", "incomplete")
)


class Kept:
    """One answer. A `Sink`."""

    def __init__(self, tenant: str, api: str, *, background: bool) -> None:
        self.id, self.tenant, self.api, self.background = "", tenant, api, background
        self.shown = b""
        """Of a response: what it is by now."""
        self.events_so_far: list[bytes] = []
        self.bytes = 0
        self.over = self.cancelled = False
        self.ended_s = 0.0
        self.left_s: float | None = None
        """Since when nobody follows it."""
        self.readers = 0
        self.refusal: tuple[int, bytes] | None = None
        self.aside: Aside | None = None
        self.shelved = False
        """All of it is in Redis, where it is read."""
        self.on_news: Callable[[], object] = bool
        """Told of each change."""
        self._news = asyncio.Event()

    # the sink
    def waits(self, standing: Standing) -> None:
        return None

    def events(self, data: bytes) -> None:
        for event in data.split(b"\n\n"):
            if event and not event.startswith(b":"):
                self._append(event + b"\n\n")

    def closed(self, data: bytes) -> None:
        self.events(data)
        self._end()

    def document(self, body: bytes) -> None:
        self.shown = body
        self._end()

    def refused(self, status: int, body: bytes, error: ApiError) -> None:
        self.refusal = (status, body)
        self._append(b"event: error\ndata: " + body + b"\n\n")
        self._end()

    # readers
    async def follow(self, after: int) -> AsyncIterator[tuple[int, bytes]]:
        """Events with their numbers, from the one behind `after` on, until it is whole."""
        at = after + 1
        self.readers += 1
        self.left_s = None
        try:
            while True:
                while at < len(self.events_so_far):
                    yield at, self.events_so_far[at]
                    at += 1
                if self.over:
                    return
                await self._news.wait()
        finally:
            self.readers -= 1
            if not self.readers:
                self.left_s = asyncio.get_running_loop().time()

    async def begun(self) -> None:
        """Until something has come."""
        while not self.events_so_far and not self.over:
            await self._news.wait()

    # others
    def cancel(self) -> None:
        """Raises Conflict where it is whole already."""
        if self.over:
            raise Conflict(f"the answer '{self.id}' is whole: there is nothing to cancel")
        self.cancelled = True
        self._stop(Conflict("it was cancelled by its client"))
        self.on_news()

    def remove(self) -> None:
        self._stop(Conflict("it was deleted by its client"))

    def lost(self) -> None:
        """Other gateways have given it up, or a client has deleted it there."""
        self._stop(AnswerLost("it was given up, or deleted, at another gateway; ask again"))
        self.shelved = True

    def leave(self, reason: ApiError) -> None:
        """It is stopped for a reason of ours, unless it is whole."""
        self._stop(reason)

    def followed(self) -> None:
        """Somebody reads it at another gateway."""
        if self.left_s is not None:
            self.left_s = asyncio.get_running_loop().time()

    def put_away(self) -> None:
        """Its content is elsewhere; what it weighs is known still."""
        self.events_so_far, self.shown = [], b""

    def _stop(self, reason: ApiError) -> None:
        if self.aside is not None and not self.over:
            self.aside.stop(reason)

    def _append(self, event: bytes) -> None:
        self.events_so_far.append(event)
        self.bytes += len(event)
        if any(name in event[:120] for name in _CARRIERS):
            for payload in sse.payloads(event):
                found = _carrier(payload).response
                if bytes(found):
                    self.shown = bytes(found).replace(b'"background":false', b'"background":true', 1)
        self._wake()

    def _end(self) -> None:
        self.over = True
        self.ended_s = asyncio.get_running_loop().time()
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()
        self.on_news()


class Copies(Protocol):
    """Where answers are copied to."""

    beat_s: float

    def keep(self, kept: Kept) -> None: ...

    def forget(self, kept: Kept) -> None: ...


class KeptAnswers:
    """All that are kept here."""

    def __init__(self, spec: KeptSpec, copies: Copies | None) -> None:
        self._spec, self._copies = spec, copies
        self._alone_s = spec.alone if copies is None else max(spec.alone, 3 * copies.beat_s)
        self._all: OrderedDict[str, Kept] = OrderedDict()

    @property
    def under_way(self) -> bool:
        return any(not kept.over for kept in self._all.values())

    def begin(self, kept: Kept, aside: Aside) -> None:
        """Keeps what `aside` will say, and starts it. Raises TooManyKept where there is no room."""
        while len(self._all) >= self._spec.answers_max or self._bytes() > self._spec.bytes_max:
            oldest = next((one for one in self._all.values() if one.over and not one.readers), None)
            if oldest is None:
                raise TooManyKept(
                    "no more answers can be kept now (`kept.answers_max`, `kept.bytes_max`); retry in 5 s",
                    retry_after_s=5.0,
                )
            self.remove(oldest)
        self._all[kept.id] = kept
        kept.aside = aside
        if self._copies is not None:
            self._copies.keep(kept)
        aside.start()

    def find(self, id: str, tenant: str) -> Kept | None:
        """None: this tenant has none here."""
        kept = self._all.get(id)
        return None if kept is None or kept.tenant != tenant or kept.shelved else kept

    def remove(self, kept: Kept) -> None:
        self._all.pop(kept.id, None)
        if self._copies is not None:
            self._copies.forget(kept)
        kept.remove()

    def stop(self, reason: ApiError) -> None:
        """Ends all that are under way."""
        for kept in tuple(self._all.values()):
            kept.leave(reason)

    def sweep(self) -> None:
        """About once a second: what is over its time goes."""
        now_s = asyncio.get_running_loop().time()
        for kept in tuple(self._all.values()):
            alone = kept.left_s is not None and now_s - kept.left_s > self._alone_s
            if kept.over and not kept.readers and now_s - kept.ended_s > self._spec.time:
                if kept.shelved:
                    del self._all[kept.id]  # its copy has a time of its own
                else:
                    self.remove(kept)
            elif kept.over and kept.shelved and not kept.readers:
                kept.put_away()
            elif alone and not kept.background:
                kept.leave(RequestTimeout("its client did not come back"))

    def _bytes(self) -> int:
        return sum(kept.bytes for kept in self._all.values())
