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
from typing import cast

from inhouse.engines.connection import Connection, Reply, Sink, StaleConnectionError
from inhouse.engines.known_head import KnownHead
from inhouse.engines.tls import Kept, refusal_of
from inhouse.errors import EngineError, EngineTimeout
from inhouse.outbox import outbox_of


@dataclass(frozen=True, slots=True)
class Address:
    """Where an engine listens: a unix socket, or a host and port; with `tls`, by https."""

    socket: str | None = None
    host: str = "127.0.0.1"
    port: int = 0
    prefix: bytes = b""
    """What stands before every path, as in `/engines/a`."""
    tls: Kept | None = None
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
        self._secret = b"" if key is None else key.encode("latin-1")
        self._key = b"" if key is None else b"authorization: Bearer %b\r\n" % self._secret
        self.silence_s_max = silence_s_max
        self.broken = broken
        self._connect_s_max = connect_s_max
        self._idle_s_max = idle_s_max
        self._loop = asyncio.get_running_loop()
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._heads: dict[bytes, bytes] = {}
        """Of those that are asked often, by path."""
        self.known = KnownHead()
        self.outbox = outbox_of(self._loop)

    @property
    def open_connections(self) -> int:
        return len(self._all)

    async def request(self, method: bytes, path: bytes, body: bytes = b"", *, patient: bool = False) -> Reply:
        """Sends one request; returns when status and headers are there. Raises EngineError.

        `patient`: nothing is to be heard until all of the answer is there, so silence says nothing.
        """
        message = self._message(method, path, body)
        connection = self.take_idle()
        if connection is not None:
            reply = connection.send(message, patient=patient)
            try:
                return await _head(reply)
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
            return await _head(reply)
        except asyncio.CancelledError:
            reply.abort()
            raise
        except StaleConnectionError:
            raise EngineError("the engine closed the connection without an answer") from None

    def put_back(self, connection: Connection) -> None:
        """It was taken and not used."""
        self._idle.append(connection)

    def ask(self, connection: Connection, path: bytes, body: bytes, sink: Sink, *, patient: bool) -> Reply:
        """Posts on a connection that was idle; `sink` gets the body of the reply, whatever its status.

        Where the engine had closed the connection meanwhile, `done` gets a StaleConnectionError.
        """
        head = self._heads.get(path)
        if head is None:
            head = self._heads[path] = self._head(b"POST", path)
        return connection.send(b"%b%d\r\n\r\n%b" % (head, len(body), body), patient=patient, sink=sink)

    def without_key(self, told: bytes) -> bytes:
        """What an engine said, less the key that it was sent: some show it in their refusals."""
        return told.replace(self._secret, b"...") if self._secret else told

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
        return b"%b%d\r\n\r\n%b" % (self._head(method, path), len(body), body)

    def _head(self, method: bytes, path: bytes) -> bytes:
        """Up to the length of the body."""
        return b"%b %b%b HTTP/1.1\r\nhost: %b\r\n%bcontent-type: application/json\r\ncontent-length: " % (
            method,
            self.address.prefix,
            path,
            self.address.host_header.encode(),
            self._key,
        )

    def take_idle(self) -> Connection | None:
        """One that can be used at once; use it, or `put_back`."""
        idle = self._idle
        if not idle:
            return None
        oldest_s = self._loop.time() - self._idle_s_max
        while idle:
            connection = idle.pop()
            if connection.idle_since >= oldest_s and connection.usable():
                return connection
            connection.close()
        return None

    async def _connect(self) -> Connection:
        connection = Connection(self, self._loop)
        make: Callable[[], asyncio.Protocol] = lambda: cast(asyncio.Protocol, connection)  # noqa: E731
        address = self.address
        try:
            async with asyncio.timeout(self._connect_s_max):
                if address.socket is not None:
                    await self._loop.create_unix_connection(make, address.socket)
                else:
                    context = None if address.tls is None else address.tls.context()
                    await self._loop.create_connection(
                        make, address.host, address.port, ssl=context, server_hostname=address.server_name
                    )
        except TimeoutError:
            self._forget(connection)
            self.broken()
            raise EngineTimeout(f"the engine did not accept a connection within {self._connect_s_max:g} s") from None
        except ssl.SSLCertVerificationError as error:
            self.broken()
            raise EngineError(
                f"the engine's certificate is not accepted: {error.verify_message.rstrip('.')}; the model's `ca_file` "
                "in inhouse.yaml names authorities of your own, and the address must be one that the certificate is for"
            ) from None
        except ssl.SSLError as error:
            self.broken()
            refused = refusal_of(error)
            told = (error.reason or "TLS").replace("_", " ").lower()
            raise refused or EngineError(f"the engine cannot be reached by TLS: {told}") from None
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


async def _head(reply: Reply) -> Reply:
    assert reply.head is not None  # noqa: S101 - no sink was given
    return await reply.head
