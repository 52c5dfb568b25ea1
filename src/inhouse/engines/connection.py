"""One connection to an engine and the response on it: asyncio protocol, httptools, the body handed on as it arrives.

A `Connection` is busy with one `Reply` at a time; whose it is, is told when it opens, closes, and can be used again.
How requests are written and connections are kept: `http.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, cast

import httptools

from inhouse.engines.known_head import KnownHead
from inhouse.engines.tls import refusal_of
from inhouse.errors import EngineError, EngineTimeout
from inhouse.outbox import Outbox

BODY_BYTES_MAX = 64 * 1024 * 1024
BUFFER_BYTES_MAX = 256 * 1024
_MISSES_MAX = 64


class Sink(Protocol):
    """Where the body of a response goes. `done` is called exactly once, last."""

    def data(self, data: bytes) -> None: ...

    def done(self, error: Exception | None) -> None:
        """`error`: EngineError, or StaleConnectionError where the sink was there before the head."""


class Owner(Protocol):
    """Whose connection it is. `broken` is called before the request in question learns of it."""

    broken: Callable[[], None]
    known: KnownHead
    outbox: Outbox

    def opened(self, connection: Connection) -> None: ...

    def closed(self, connection: Connection) -> None: ...

    def give_back(self, connection: Connection) -> None: ...


class StaleConnectionError(Exception):
    """The connection was closed before the first byte of the response."""


class Reply:
    """One response. Its body goes to a sink; until one is there it is buffered, up to `BUFFER_BYTES_MAX`."""

    __slots__ = (
        "_buffer",
        "_connection",
        "_error",
        "_finished",
        "_loop",
        "_paused",
        "head",
        "heard_s",
        "patient",
        "relay",
        "sink",
        "status",
    )

    def __init__(
        self, connection: Connection, loop: asyncio.AbstractEventLoop, *, patient: bool, sink: Sink | None = None
    ) -> None:
        self.status = 0
        self.patient = patient
        """An answer in one piece is waited for."""
        self.heard_s = loop.time()
        self._loop = loop
        self._connection: Connection | None = connection
        self.head: asyncio.Future[Reply] | None = loop.create_future() if sink is None else None
        """Done when status and headers are there; None where a sink was there before them."""
        self.sink = sink
        self.relay: Callable[[bytes], bool] | None = None
        """Is shown each read that begins at the beginning of a chunk; True: it took it, and nothing is left to do."""
        self._buffer: list[bytes] = []
        self._finished = False
        self._error: EngineError | None = None
        self._paused = False

    def pipe(self, sink: Sink) -> None:
        """From now on the body is pushed to `sink`, what has come already at once."""
        self.sink = sink
        buffered, self._buffer = self._buffer, []
        if self._connection is not None and not self._paused:
            self._connection.resume_reading()
        if buffered:
            sink.data(b"".join(buffered))
        if self._finished:
            sink.done(self._error)

    @property
    def whole(self) -> bytes | None:
        """The body, where all of it came along with the head; None where there is more to wait for."""
        if self._finished and self._error is None and self._connection is None:
            buffer = self._buffer
            return buffer[0] if len(buffer) == 1 else b"".join(buffer)
        return None

    async def read(self, bytes_max: int = BODY_BYTES_MAX) -> bytes:
        """The whole body. Raises EngineError if it breaks off or is longer than `bytes_max`."""
        whole = self.whole
        if whole is not None and len(whole) <= bytes_max:
            return whole
        collector = _Collector(bytes_max)
        self.pipe(collector)
        try:
            return await collector.whole
        finally:
            self.abort()

    def pause(self) -> None:
        """The receiver is full: stop reading from the engine."""
        self._paused = True
        if self._connection is not None:
            self._connection.pause_reading()

    def resume(self) -> None:
        self._paused = False
        self.heard_s = self._loop.time()
        if self._connection is not None:
            self._connection.resume_reading()

    def abort(self) -> None:
        """Nobody listens any more. Nothing is called after this; a finished reply is left alone."""
        self.sink = self.relay = None
        connection, self._connection = self._connection, None
        if connection is not None:
            self._finished = True
            connection.close()

    # for Connection
    def begin(self, status: int) -> None:
        self.status = status
        if self.head is not None and not self.head.done():
            self.head.set_result(self)

    def keep(self, data: bytes) -> None:
        """A piece of the body, while there is no sink."""
        self._buffer.append(data)
        if len(self._buffer) > 1 or len(data) > BUFFER_BYTES_MAX:
            self._limit_buffer()

    def _limit_buffer(self) -> None:
        if self._connection is not None and sum(map(len, self._buffer)) > BUFFER_BYTES_MAX:
            self._connection.pause_reading()

    def finish(self, error: EngineError | None, *, stale: bool = False) -> None:
        if self._finished:
            return
        self._finished = True
        self._error = error
        self._connection = None
        if self.head is not None and not self.head.done():
            self.head.set_exception(StaleConnectionError() if stale else error or EngineError("no answer"))
        elif self.sink is not None:
            sink, self.sink = self.sink, None
            sink.done(StaleConnectionError() if stale else error)

    @property
    def over(self) -> bool:
        """Whole, broken off, or aborted."""
        return self._finished

    @property
    def paused(self) -> bool:
        return self._paused

    def silent_s(self, now_s: float) -> float:
        """Seconds since the engine was last heard; 0 while it is we who do not read, or silence says nothing."""
        return 0.0 if self._paused or self.patient else now_s - self.heard_s


class _Collector:
    """A sink that keeps everything."""

    def __init__(self, bytes_max: int) -> None:
        self.whole: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._parts: list[bytes] = []
        self._room = bytes_max

    def data(self, data: bytes) -> None:
        self._room -= len(data)
        if self._room >= 0:
            self._parts.append(data)
        elif not self.whole.done():
            self.whole.set_exception(EngineError("the engine's answer is too large"))

    def done(self, error: Exception | None) -> None:
        if self.whole.done():
            return
        if error is not None:
            self.whole.set_exception(error)
        else:
            self.whole.set_result(b"".join(self._parts))


class Connection:
    """One connection to an engine; the parser's callbacks fill the current reply once per read."""

    __slots__ = (
        "_at_chunk",
        "_body",
        "_complete",
        "_feed",
        "_keep_alive",
        "_loop",
        "_more",
        "_now_s",
        "_outbox",
        "_parser",
        "_pool",
        "_reading",
        "_reply",
        "_transport",
        "fresh",
        "idle_since",
    )

    def __init__(self, pool: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self._pool = pool
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._outbox = pool.outbox
        self._now_s = loop.time
        self._parser: Any = httptools.HttpResponseParser(self)
        self._feed: Callable[[bytes], None] = self._parser.feed_data
        self._reply: Reply | None = None
        self._body = b""
        self._more: list[bytes] = []
        """What came of the body in one read, beyond the first piece."""
        self._at_chunk = False
        """The parser stands before a chunk."""
        self._complete = False
        self._keep_alive = False
        self._reading = True
        self.idle_since = 0.0
        self.fresh = True

    def usable(self) -> bool:
        transport = self._transport
        return transport is not None and not transport.is_closing()

    def send(self, message: bytes, *, patient: bool = False, sink: Sink | None = None) -> Reply:
        """`sink` gets the body, whatever the status; without one, wait for the reply's `head` first."""
        if self._transport is None:
            raise EngineError("the connection to the engine is closed")
        reply = self._reply = Reply(self, self._loop, patient=patient, sink=sink)
        self._complete = False
        self._outbox.write(self._transport, message)
        return reply

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def pause_reading(self) -> None:
        if self._reading and self._transport is not None and not self._transport.is_closing():
            self._reading = False
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._reading and self._transport is not None and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()

    def check(self, now_s: float, silence_s_max: float) -> None:
        reply = self._reply
        if reply is not None and reply.silent_s(now_s) > silence_s_max:
            self._pool.broken()
            self._end(EngineTimeout(f"the engine sent nothing for {silence_s_max:g} s and was given up"))
            self.close()

    # asyncio
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._pool.opened(self)

    def data_received(self, data: bytes) -> None:
        reply = self._reply
        if reply is None:  # bytes that nobody asked for
            self.close()
            return
        if not reply.patient:
            reply.heard_s = self._now_s()
        relay = reply.relay
        if relay is not None and self._at_chunk and relay(data):
            return
        sink = reply.sink
        if sink is not None and not reply.status and reply.patient:
            known = self._pool.known
            body = known.body_in(data)
            if body is not None:
                reply.status = 200
                self._keep_alive = True
                sink.data(body)
                self._end(None)
                return
            if known.misses < _MISSES_MAX:
                known.learn(data)
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self._pool.broken()
            self._end(EngineError("the engine sent what is not HTTP"))
            self.close()
            return
        body = self._body
        if body:
            self._body = b""
            if self._more:
                body, self._more = b"".join([body, *self._more]), []
            self._at_chunk = data.endswith(b"\n\n\r\n") and body.endswith(b"\n\n")
            sink = reply.sink
            if sink is not None:
                sink.data(body)
            else:
                reply.keep(body)
        else:
            self._at_chunk = False
        if self._complete:
            self._end(None)

    def eof_received(self) -> None:
        """The transport closes."""

    def pause_writing(self) -> None:
        """A request is written whole, whatever its size: nothing of it could be held back."""

    def resume_writing(self) -> None:
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._pool.closed(self)
        reply = self._reply
        if reply is not None:
            self._reply = None
            stale = reply.status == 0
            if not reply.over and (self.fresh or not stale):
                self._pool.broken()
            refused = refusal_of(exc) if exc is not None and stale else None
            if refused is not None:
                reply.finish(refused)
            else:
                reply.finish(EngineError("the engine's connection broke off"), stale=stale)

    def _end(self, error: EngineError | None) -> None:
        reply, self._reply = self._reply, None
        keep = error is None and self._keep_alive and self.usable()
        if keep:
            self.resume_reading()
            self._pool.give_back(self)
        else:
            self.close()
        if reply is not None:
            reply.finish(error)

    # httptools
    def on_headers_complete(self) -> None:
        # asked here: once the message is complete the parser has forgotten how it was framed
        self._keep_alive = self._parser.should_keep_alive()
        if self._reply is not None:
            self._reply.begin(self._parser.get_status_code())

    def on_body(self, body: bytes) -> None:
        if self._body:
            self._more.append(body)
        else:
            self._body = body

    def on_message_complete(self) -> None:
        self._complete = True
