"""One job that was handed to a queue, at the gateway's end: its answer as it comes in, each piece once and in order.

Theory of operation. Pieces are numbered from 1. The next one goes to the sink; one that is known is passed over; one
that is not the next means that some were missed (the inbox is short, or Redis was away), or that the client reads too
slowly for them to be kept here: then the job is *behind*, what comes is not taken, and `fetch` is asked to look the
rest up in the answer's own stream. No task wakes up for a piece.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from inhouse.admission.notices import Standing
from inhouse.engines.connection import BUFFER_BYTES_MAX
from inhouse.errors import ApiError, EngineError
from inhouse.store.queue import Missed, News
from inhouse.store.redis_calls import Run
from inhouse.wire.queued import parse_error

_LOST = "the queue has lost this request; it can be sent again"
LOOK_COUNT = 1000
"""Pieces that are looked up at once."""


class Receiver(Protocol):
    def data(self, data: bytes) -> None: ...

    def done(self, error: Exception | None) -> None: ...


class Handed:
    """See the module. `fetch` has what was missed looked up; `read` tells the worker that all up to `seq` has been
    read, as often as `window_bytes` want it.

    `taken` is called with the worker's name each time that one takes it.
    """

    __slots__ = (
        "_behind",
        "_error",
        "_fetch",
        "_finished",
        "_held",
        "_held_bytes",
        "_newest",
        "_open",
        "_paused",
        "_read",
        "_sink",
        "_unread_bytes",
        "_window_bytes",
        "begun",
        "id",
        "noted_s",
        "piped",
        "put",
        "seq",
        "taken",
        "there",
        "tokens_max",
        "until_s",
        "waits",
        "worker",
    )

    def __init__(
        self,
        id: str,
        *,
        until_s: float,
        tokens_max: int,
        window_bytes: int,
        waits: Callable[[Standing], None] | None,
        open: Callable[[bytes], bytes],
        fetch: Callable[[Handed], None],
        read: Callable[[Handed], None],
        taken: Callable[[str], None],
    ) -> None:
        self.id = id
        self.until_s = until_s
        """By when a worker must have taken it."""
        self.tokens_max = tokens_max
        self.put: Run | None = None
        """How it is handed over."""
        self.waits = waits
        """Tells its client that it waits; None where nobody is told."""
        self.noted_s = time.monotonic()
        """When its client was last told that it waits."""
        self.taken = taken
        self.worker = ""
        self.seq = 0
        self.there = False
        """Redis has it."""
        self.piped = False
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done with the first piece, or the error in its place."""
        self._open = open
        self._fetch = fetch
        self._read = read
        self._unread_bytes = 0
        self._window_bytes = window_bytes
        self._sink: Receiver | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._newest = 0
        self._paused = False
        self._behind = False
        self._finished = False
        self._error: ApiError | None = None

    # the request's side
    def pipe(self, sink: Receiver) -> None:
        """From now on pieces are pushed to `sink`, those that have come already at once."""
        self._sink, self.piped = sink, True
        self._give()
        if self._finished and not self._held:
            self._over()
        elif self._behind and not self._paused:
            self._fetch(self)

    async def whole(self) -> bytes:
        """All of an answer that is one document. Raises ApiError."""
        collector = _Collector()
        self.pipe(collector)
        return await collector.whole

    def pause(self) -> None:
        """The client reads too slowly."""
        self._paused = True

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._give()
            if self._behind:
                self._fetch(self)

    @property
    def paused(self) -> bool:
        return self._paused

    @property
    def over(self) -> bool:
        return self._finished

    def drop(self) -> None:
        """Nobody listens any more."""
        self._finished, self._sink, self._held = True, None, []

    # the queue's side
    def arrived(self, _answer: object = None) -> None:
        """Redis has it."""
        self.there = True

    def hear(self, news: News) -> None:
        """An entry of the inbox that is about this job."""
        if self._finished:
            return
        if news.kind == "t":
            self.worker = news.data.decode()
            self.taken(self.worker)
            return
        self._newest = max(self._newest, news.seq)
        if news.seq == self.seq + 1 and not self._behind:
            self._take(news.seq, news.kind, news.data)
        elif news.seq > self.seq:
            self.fall_behind()

    def fall_behind(self) -> None:
        """There is more than came here."""
        if not self._behind:
            self._behind = True
            if not self._paused:
                self._fetch(self)

    def catch_up(self, missed: Missed) -> None:
        """What was looked up."""
        if self._finished:
            return
        if not missed.state:
            self.fail(EngineError(_LOST))
            return
        self._behind = False
        for seq, data in missed.pieces:
            if seq > self.seq + 1:
                self.fail(EngineError("a part of the answer is gone, for it was not read in time; send it again"))
                return
            if seq == self.seq + 1 and not self._take(seq, "d", data):
                return
        if missed.final and len(missed.pieces) < LOOK_COUNT:
            self._end(missed.final, missed.final_data)
        elif self.seq < max(missed.seq, self._newest):
            self.fall_behind()

    def fail(self, error: ApiError) -> None:
        """It ends here, whatever else comes."""
        if self._finished:
            return
        self._finished, self._error = True, error
        if self._sink is not None and self._held:
            data, self._held = b"".join(self._held), []
            self._sink.data(data)
        self._over()

    def _take(self, seq: int, kind: str, data: bytes) -> bool:
        """False where there is no room for it now."""
        if self._held_bytes > BUFFER_BYTES_MAX:
            self._behind = True
            return False
        self.seq = seq
        if kind in "de" and data:
            try:
                self._held.append(self._open(data))
            except EngineError as error:  # sealed with another key
                self.fail(error)
                return False
            self._held_bytes += len(data)
        if kind == "d":
            self._give()
        else:
            self._end(kind, data)
        return True

    def _end(self, kind: str, data: bytes) -> None:
        if kind == "e":
            self._finished = True
            self._give()
        else:
            try:
                error = parse_error(self._open(data) if kind == "x" else data)
            except EngineError as fault:
                error = fault
            self.fail(error)

    def _give(self) -> None:
        if self._held and not self.begun.done():
            self.begun.set_result(None)
        if self._sink is not None and not self._paused and self._held:
            data, self._held, self._held_bytes = b"".join(self._held), [], 0
            self._unread_bytes += len(data)
            if self._unread_bytes > self._window_bytes // 4 and not self._finished:
                self._unread_bytes = 0
                self._read(self)
            self._sink.data(data)
        if self._finished and not self._held:
            self._over()

    def _over(self) -> None:
        error = self._error
        if not self.begun.done():
            if error is not None:
                self.begun.set_exception(error)
                self.begun.exception()  # whoever waited may have left
            else:
                self.begun.set_result(None)
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.done(error)


class _Collector:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.whole: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._parts: list[bytes] = []

    def data(self, data: bytes) -> None:
        self._parts.append(data)

    def done(self, error: Exception | None) -> None:
        if self.whole.done():
            return
        if error is not None:
            self.whole.set_exception(error)
        else:
            self.whole.set_result(b"".join(self._parts))
