"""One job at a worker: what came of it is kept here until it is published.

`RawView` shows an engine's events as they are, for it is the gateway who renders them; `Work` is the client whom
`dispatch/direct` answers to.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from inhouse.admission.notices import Standing
from inhouse.core import NOTHING, Usage
from inhouse.dispatch.follower import Source
from inhouse.dispatch.watch import TimeLimits
from inhouse.errors import ApiError, EngineError
from inhouse.store.queue import Piece, Taken
from inhouse.wire.splice import Splice
from inhouse.wire.views import fault_in

_UNSENT_BYTES_MAX = 1024 * 1024
"""Of one answer, while Redis is away; then its engine is not read any further."""


class RawView:
    """The engine's own events, or its one document. With a `splice`, the events of an answer that goes on."""

    __slots__ = ("_ended", "_splice", "_streamed", "document", "events_seen")
    streams = True

    def __init__(self, splice: Splice | None = None, *, streamed: bool = True) -> None:
        self._splice = splice
        self._streamed = streamed
        self._ended = False
        self.events_seen = 0
        self.document = b""
        """The whole answer, where it is one."""

    @property
    def usage(self) -> Usage:
        return NOTHING

    def tokens_of(self, job: int) -> int:
        return self.events_seen

    def events(self, job: int, data: bytes) -> bytes:
        if not self._streamed:
            self.document = data
            self._ended = True
            return b""
        if b'"error":' in data and (fault := fault_in(data)) is not None:
            raise fault
        if self._splice is not None:
            data = self._splice.events(data)
        self.events_seen += data.count(b"\n\n")
        self._ended = self._ended or b"[DONE]" in data
        return data

    def finished(self, job: int) -> None:
        if not self._ended:
            raise EngineError("the engine broke off in the middle of its answer; the request can be sent again")

    def end(self) -> bytes:
        return b""

    def fail(self, error: ApiError) -> bytes:
        return b""


class Work:
    """A job that this worker has. `news` is called when there is something to publish, or the job is over."""

    prefer_wait_s = 0.0
    session = ""
    framed = None

    def __init__(
        self, taken: Taken, *, window_bytes: int, seal: Callable[[bytes], bytes], news: Callable[[], None]
    ) -> None:
        self.id, self.epoch, self.attempts = taken.id, taken.epoch, taken.attempts
        self.task: asyncio.Task[None] | None = None
        self.stopped_by: ApiError | None = None
        self.lost = False
        """It is another's, or nobody's, by now."""
        self.given_up: tuple[str, bool] | None = None
        """Why it goes back to the queue, and whether that counts as an attempt."""
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when its end is published, or nobody wants it."""
        self._seq = taken.seq
        self._seal = seal
        self._news = news
        self._parts: list[bytes] = []
        self._bytes = 0
        self._final = ""
        self._final_data = b""
        self._piece: Piece | None = None
        self._sources: list[Source] = []
        self._window_bytes = window_bytes
        self._unread: deque[tuple[int, int]] = deque()
        """Number and bytes of each piece that is published and that the gateway has not read."""
        self._unread_bytes = 0
        self._held = False

    @property
    def busy(self) -> bool:
        """Whether it still has its slot."""
        return not (self._final or self.lost or self.given_up)

    # for dispatch/direct
    def time_limits(self, lane: TimeLimits, *, kept_alive: bool) -> TimeLimits:
        return lane

    def waits(self, standing: Standing) -> None:
        return None

    def begin(self) -> None:
        return None

    def stop(self, reason: ApiError) -> None:
        if self.task is not None and self.stopped_by is None and self.busy:
            self.stopped_by = reason
            self.task.cancel()

    def write(self, data: bytes) -> None:
        self._parts.append(data)
        self._bytes += len(data)
        self._hold()
        self._news()

    def attach(self, source: Source) -> None:
        self._sources.append(source)
        if self._held:
            source.pause()

    def detach(self, source: Source) -> None:
        self._sources.remove(source)

    # for the worker
    def read(self, seq: int) -> None:
        """The gateway has read all up to this piece."""
        while self._unread and self._unread[0][0] <= seq:
            self._unread_bytes -= self._unread.popleft()[1]
        self._hold()

    def end(self, data: bytes = b"") -> None:
        if data:
            self._parts.append(data)
        self._final = "e"
        self._news()

    def fail(self, error: bytes) -> None:
        self._final, self._final_data = "x", error
        self._news()

    def give_up(self, why: str, *, counted: bool) -> None:
        """It goes back, once what has come is published: that is the beginning of what goes on."""
        self.given_up = (why, counted)
        self._news()

    def lose(self) -> None:
        """It is no longer this worker's."""
        busy, self.lost = self.busy, True
        self._parts, self._piece = [], None
        if self.task is not None and busy:
            self.task.cancel()
        self._done()

    def piece(self) -> Piece | None:
        """What is to be published next: the same one until it was `published`."""
        if self._piece is not None or self.lost or self.over.done():
            return self._piece
        if self._parts:
            data = self._seal(b"".join(self._parts))
            self._parts, self._bytes = [], 0
            kind = "e" if self._final == "e" else "d"
            self._piece = Piece(self.id, self.epoch, self._seq + 1, kind, data)
        elif self._final:
            data = self._seal(self._final_data) if self._final == "x" else b""
            self._piece = Piece(self.id, self.epoch, self._seq + 1, self._final, data)
        return self._piece

    def published(self) -> None:
        """The piece is in Redis."""
        piece, self._piece = self._piece, None
        if piece is None:
            return
        self._seq = piece.seq
        if piece.kind != "d":
            self._done()
        else:
            self._unread.append((piece.seq, len(piece.data)))
            self._unread_bytes += len(piece.data)
        self._hold()

    def _hold(self) -> None:
        """The engine is not read while too much lies here or in Redis."""
        hold = self._bytes > _UNSENT_BYTES_MAX or self._unread_bytes > self._window_bytes
        if hold == self._held:
            return
        self._held = hold
        for source in tuple(self._sources):
            if hold:
                source.pause()
            else:
                source.resume()

    def _done(self) -> None:
        if not self.over.done():
            self.over.set_result(None)
