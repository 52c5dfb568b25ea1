"""A streaming HTTP/1.1 client for engines: asyncio protocols, httptools, a LIFO pool of kept-alive connections.

It is small because it does one thing: POST (or GET) to one engine and hand the body on as it arrives, by callback, so
that a token costs no wake-up of a task. What it deliberately is not: a general client (no redirects, cookies, proxies,
compression).

Theory of operation. A `Connection` is idle in its pool, or busy with one `Reply`. `Pool.request` returns when the
head of the response has come. The body is then pushed to the sink given to `Reply.pipe`, or collected by
`Reply.read`. `Reply.abort` closes the connection, which is how an engine learns that nobody listens any more.
An engine may close an idle connection just when it is used again; as long as no byte of the response has come, the
request is sent once more on a fresh one.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

import httptools

from inhouse.errors import EngineError, EngineTimeout

BODY_BYTES_MAX = 64 * 1024 * 1024
BUFFER_BYTES_MAX = 256 * 1024


class Sink(Protocol):
    """Where the body of a response goes. `done` is called exactly once, last."""

    def data(self, data: bytes) -> None: ...

    def done(self, error: EngineError | None) -> None: ...


@dataclass(frozen=True, slots=True)
class Address:
    """Where an engine listens: a unix socket, or a host and port; with `tls`, by https."""

    socket: str | None = None
    host: str = "127.0.0.1"
    port: int = 0
    prefix: bytes = b""
    """What stands before every path, as in `/engines/a`."""
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    """Whom its certificate names, where that is not `host`."""

    @property
    def host_header(self) -> str:
        if self.socket:
            return "engine"
        host = self.server_name or (f"[{self.host}]" if ":" in self.host else self.host)
        return host if self.port == (80 if self.tls is None else 443) else f"{host}:{self.port}"


class Pool:
    """Connections to one engine.

    `idle_s_max`: llama-server closes idle connections after 5 s, so ours are not used again after less.
    `silence_s_max`: an engine that sends nothing for so long in the middle of a response is treated as dead.
    `broken`: called when a response breaks off, the engine falls silent or cannot be reached, always before the request
    in question learns of it, so that its slot is not given to the next one that would fail likewise.
    `key`: sent as a bearer token with every request.
    """

    def __init__(
        self,
        address: Address,
        *,
        silence_s_max: float,
        connect_s_max: float = 5.0,
        idle_s_max: float = 3.5,
        broken: Callable[[], None] = lambda: None,
        key: str | None = None,
    ) -> None:
        self.address = address
        self._key = b"" if key is None else b"authorization: Bearer %b\r\n" % key.encode("latin-1")
        self.silence_s_max = silence_s_max
        self.broken = broken
        self._connect_s_max = connect_s_max
        self._idle_s_max = idle_s_max
        self._loop = asyncio.get_running_loop()
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._heads: dict[tuple[bytes, bytes], bytes] = {}

    @property
    def open_connections(self) -> int:
        return len(self._all)

    async def request(self, method: bytes, path: bytes, body: bytes = b"", *, patient: bool = False) -> Reply:
        """Sends one request; returns when status and headers are there. Raises EngineError.

        `patient`: nothing is to be heard until all of the answer is there, so silence says nothing.
        """
        message = self._message(method, path, body)
        connection = self._take_idle()
        if connection is not None:
            reply = connection.send(message, patient=patient)
            try:
                return await reply.head
            except StaleConnectionError:
                pass  # the engine had closed it: nothing of the response had come
            except asyncio.CancelledError:
                reply.abort()
                raise
        return await self._request_anew(message, patient=patient)

    async def _request_anew(self, message: bytes, *, patient: bool) -> Reply:
        connection = await self._connect()
        reply = connection.send(message, patient=patient)
        try:
            return await reply.head
        except asyncio.CancelledError:
            reply.abort()
            raise
        except StaleConnectionError:
            raise EngineError("the engine closed the connection without an answer") from None

    def sweep(self) -> None:
        """Called about every second: closes idle connections in time and gives silent responses up."""
        now = self._loop.time()
        for connection in tuple(self._all):
            connection.check(now, self.silence_s_max)
        while self._idle and now - self._idle[0].idle_since > self._idle_s_max:
            self._idle.pop(0).close()

    def close(self) -> None:
        """Closes all connections; responses in flight end with an error."""
        for connection in tuple(self._all):
            connection.close()
        self._idle.clear()

    def _message(self, method: bytes, path: bytes, body: bytes) -> bytes:
        head = self._heads.get((method, path))
        if head is None:
            host = self.address.host_header.encode()
            head = b"%b %b%b HTTP/1.1\r\nhost: %b\r\n%bcontent-type: application/json\r\ncontent-length: " % (
                method,
                self.address.prefix,
                path,
                host,
                self._key,
            )
            if len(self._heads) < 64:
                self._heads[(method, path)] = head
        return b"%s%d\r\n\r\n%s" % (head, len(body), body)

    def _take_idle(self) -> Connection | None:
        now = self._loop.time()
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and now - connection.idle_since <= self._idle_s_max:
                return connection
            connection.close()
        return None

    async def _connect(self) -> Connection:
        connection = Connection(self, self._loop)
        make: Callable[[], asyncio.Protocol] = lambda: connection  # noqa: E731
        address = self.address
        try:
            async with asyncio.timeout(self._connect_s_max):
                if address.socket is not None:
                    await self._loop.create_unix_connection(make, address.socket)
                else:
                    await self._loop.create_connection(
                        make, address.host, address.port, ssl=address.tls, server_hostname=address.server_name
                    )
        except TimeoutError:
            self._forget(connection)
            self.broken()
            raise EngineTimeout(f"the engine did not accept a connection within {self._connect_s_max:g} s") from None
        except OSError as error:
            self.broken()
            raise EngineError(f"the engine cannot be reached: {error.strerror or type(error).__name__}") from None
        except asyncio.CancelledError:
            self._forget(connection)
            raise
        return connection

    def _forget(self, connection: Connection) -> None:
        """It was given up. Between its beginning and our waking up uvloop closes it without telling it."""
        connection.close()
        self.closed(connection)

    # for Connection
    def opened(self, connection: Connection) -> None:
        self._all.add(connection)

    def closed(self, connection: Connection) -> None:
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def give_back(self, connection: Connection) -> None:
        connection.idle_since = self._loop.time()
        connection.fresh = False
        self._idle.append(connection)


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
        "_patient",
        "_paused",
        "_sink",
        "head",
        "heard_s",
        "status",
    )

    def __init__(self, connection: Connection, loop: asyncio.AbstractEventLoop, *, patient: bool) -> None:
        self.status = 0
        self._patient = patient
        self.heard_s = loop.time()
        self._loop = loop
        self._connection: Connection | None = connection
        self.head: asyncio.Future[Reply] = loop.create_future()
        """Done when status and headers are there."""
        self._sink: Sink | None = None
        self._buffer: list[bytes] = []
        self._finished = False
        self._error: EngineError | None = None
        self._paused = False

    def pipe(self, sink: Sink) -> None:
        """From now on the body is pushed to `sink`, what has come already at once."""
        self._sink = sink
        buffered, self._buffer = self._buffer, []
        if self._connection is not None and not self._paused:
            self._connection.resume_reading()
        if buffered:
            sink.data(b"".join(buffered))
        if self._finished:
            sink.done(self._error)

    async def read(self, bytes_max: int = BODY_BYTES_MAX) -> bytes:
        """The whole body. Raises EngineError if it breaks off or is longer than `bytes_max`."""
        if self._finished and self._error is None and self._connection is None:  # all of it came with the head
            whole = b"".join(self._buffer)
            if len(whole) <= bytes_max:
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
        self._sink = None
        connection, self._connection = self._connection, None
        if connection is not None:
            self._finished = True
            connection.close()

    # for Connection
    def begin(self, status: int) -> None:
        self.status = status
        if not self.head.done():
            self.head.set_result(self)

    def body(self, data: bytes) -> None:
        if self._sink is not None:
            self._sink.data(data)
            return
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
        if not self.head.done():
            self.head.set_exception(StaleConnectionError() if stale else error or EngineError("no answer"))
        elif self._sink is not None:
            sink, self._sink = self._sink, None
            sink.done(error)

    @property
    def over(self) -> bool:
        """Whole, broken off, or aborted."""
        return self._finished

    @property
    def paused(self) -> bool:
        return self._paused

    def silent_s(self, now_s: float) -> float:
        """Seconds since the engine was last heard; 0 while it is we who do not read, or silence says nothing."""
        return 0.0 if self._paused or self._patient else now_s - self.heard_s


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

    def done(self, error: EngineError | None) -> None:
        if self.whole.done():
            return
        if error is not None:
            self.whole.set_exception(error)
        else:
            self.whole.set_result(b"".join(self._parts))


class Connection(asyncio.Protocol):
    """One connection to an engine; the parser's callbacks fill the current reply once per read."""

    __slots__ = (
        "_complete",
        "_keep_alive",
        "_loop",
        "_parser",
        "_parts",
        "_pool",
        "_reading",
        "_reply",
        "_transport",
        "fresh",
        "idle_since",
    )

    def __init__(self, pool: Pool, loop: asyncio.AbstractEventLoop) -> None:
        self._pool = pool
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser: Any = httptools.HttpResponseParser(self)
        self._reply: Reply | None = None
        self._parts: list[bytes] = []
        self._complete = False
        self._keep_alive = False
        self._reading = True
        self.idle_since = 0.0
        self.fresh = True

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, message: bytes, *, patient: bool = False) -> Reply:
        if self._transport is None:
            raise EngineError("the connection to the engine is closed")
        reply = self._reply = Reply(self, self._loop, patient=patient)
        self._complete = False
        self._transport.write(message)
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
        reply.heard_s = self._loop.time()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._pool.broken()
            self._end(EngineError("the engine sent what is not HTTP"))
            self.close()
            return
        if self._parts:
            parts = self._parts
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            self._parts = []
            reply.body(body)
        if self._complete:
            self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._pool.closed(self)
        reply = self._reply
        if reply is not None:
            self._reply = None
            stale = reply.status == 0
            if not reply.over and (self.fresh or not stale):
                self._pool.broken()
            reply.finish(EngineError("the engine's connection broke off"), stale=stale)

    def _end(self, error: EngineError | None) -> None:
        reply, self._reply = self._reply, None
        keep = error is None and self._keep_alive and self.usable
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
        self._parts.append(body)

    def on_message_complete(self) -> None:
        self._complete = True
