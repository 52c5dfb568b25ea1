"""Answers that outlast their connection: each is a list of events that grows, and any number of readers follow it.

Theory of operation. A `Kept` is the sink of an `Aside`. What comes is appended, with a number; readers wait for news
and read on from where they are, so whoever was cut off asks for what follows the last number it has. An answer that is
whole is kept for `kept.time`; a stream that nobody follows and that was not asked for in the background is stopped
after `kept.alone`. All of it is in memory, within `kept.bytes_max`: another gateway does not know it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator

import msgspec

from inhouse.admission.notices import Standing
from inhouse.config.kept import KeptSpec
from inhouse.errors import ApiError, Conflict, NotFound, RequestTimeout, TooManyKept
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

    def __init__(self, tenant: str, *, background: bool) -> None:
        self.id, self.tenant, self.background = "", tenant, background
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


class KeptAnswers:
    """All that are kept here."""

    def __init__(self, spec: KeptSpec) -> None:
        self._spec = spec
        self._all: OrderedDict[str, Kept] = OrderedDict()

    def begin(self, kept: Kept, aside: Aside) -> None:
        """Keeps what `aside` will say, and starts it. Raises TooManyKept where there is no room."""
        while len(self._all) >= self._spec.answers_max or self._bytes() > self._spec.bytes_max:
            oldest = next((one for one in self._all.values() if one.over and not one.readers), None)
            if oldest is None:
                raise TooManyKept(
                    "no more answers can be kept now (`kept.answers_max`, `kept.bytes_max`); retry in 5 s",
                    retry_after_s=5.0,
                )
            del self._all[oldest.id]
        self._all[kept.id] = kept
        kept.aside = aside
        aside.start()

    def find(self, id: str, tenant: str) -> Kept:
        """Raises NotFound, also for another tenant's."""
        kept = self._all.get(id)
        if kept is None or kept.tenant != tenant:
            raise NotFound(f"there is no answer '{id[:100]}' here: it was never kept, or its time is over")
        return kept

    def cancel(self, kept: Kept) -> None:
        """Raises Conflict where it is whole already."""
        if kept.over:
            raise Conflict(f"the answer '{kept.id}' is whole: there is nothing to cancel")
        kept.cancelled = True
        if kept.aside is not None:
            kept.aside.stop(Conflict("it was cancelled by its client"))

    def remove(self, kept: Kept) -> None:
        self._all.pop(kept.id, None)
        if kept.aside is not None and not kept.over:
            kept.aside.stop(Conflict("it was deleted by its client"))

    def sweep(self) -> None:
        """About once a second: what is over its time goes."""
        now_s = asyncio.get_running_loop().time()
        for kept in tuple(self._all.values()):
            alone = kept.left_s is not None and now_s - kept.left_s > self._spec.alone
            if kept.over and not kept.readers and now_s - kept.ended_s > self._spec.time:
                del self._all[kept.id]
            elif alone and not kept.over and not kept.background and kept.aside is not None:
                kept.aside.stop(RequestTimeout("its client did not come back"))

    def _bytes(self) -> int:
        return sum(kept.bytes for kept in self._all.values())
