"""A door in front of an engine: TLS, and only for those who show a certificate that is wanted.

Engines listen on their machine's loopback and speak plain HTTP; most of them cannot ask for a client's certificate.
The door stands beside such an engine, takes connections for it and hands bytes on, both ways and as they come. It
reads no HTTP: what the gateway asks for is the gateway's business, and an end of the connection on one side is one on
the other, so that a hang-up reaches the engine.

Beside it, on a port without TLS, pages that probes and scrapers ask for: by GET, only those that are named.

Theory of operation. A connection begins with a handshake of TLS, which is done here on the bytes themselves (an
`SSLObject` between two memory buffers), so that the reason of a refusal is known, and each connection has the context
that is of the files as they are now. Then the engine is connected to, and both sides relay until one of them ends. A
side that takes no more pauses the reading of the other. A stop closes the listening sockets, waits for open
connections, and cuts what is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from inhouse.engines.door_pages import Pages, plain
from inhouse.engines.http import Address
from inhouse.engines.tls import Kept
from inhouse.errors import StackError

_BACKLOG = 1024
_HANDSHAKE_S_MAX = 10.0
_CONNECT_S_MAX = 5.0
_READ_BYTES = 64 * 1024

Tell = Callable[[str], None]
"""Hears of each connection that was not let in and why, and of certificates that cannot be used."""


@dataclass(frozen=True, slots=True)
class Settings:
    host: str
    port: int
    engine: Address
    clients: frozenset[str]
    """Names of which a client's certificate must have one; empty: any certificate of the authority."""
    pages: frozenset[bytes] = frozenset()
    pages_port: int | None = None
    drain_s: float = 30.0


class Door:
    def __init__(self, settings: Settings, kept: Kept, tell: Tell) -> None:
        self.settings = settings
        self.port = 0
        self.pages_port: int | None = None
        self.open: set[_Front] = set()
        self._kept = kept
        self._tell = tell
        self._told = ""
        self._empty = asyncio.Event()
        self._empty.set()

    async def run(self, stop: asyncio.Future[Any], listening: Callable[[], None]) -> None:
        """Until `stop` is done. Raises StackError where a port cannot be had."""
        settings = self.settings
        async with contextlib.AsyncExitStack() as exits:
            listener = exits.enter_context(_listen(settings.host, settings.port, "--listen"))
            self.port = listener.getsockname()[1]
            if settings.pages_port is not None:
                open_ = exits.enter_context(_listen(settings.host, settings.pages_port, "--open-port"))
                self.pages_port = open_.getsockname()[1]
                served = await Pages(settings.engine, settings.pages).serve(open_.dup())
                exits.callback(served.close)
            server = await asyncio.get_running_loop().create_server(
                lambda: _Front(self), sock=listener.dup(), backlog=_BACKLOG
            )
            try:
                listening()
                await stop
            finally:
                server.close()
            await self._drained()
            for front in tuple(self.open):
                front.cut()

    async def _drained(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.drain_s):
                await self._empty.wait()

    def entered(self, front: _Front) -> None:
        self.open.add(front)
        self._empty.clear()

    def left(self, front: _Front) -> None:
        self.open.discard(front)
        if not self.open:
            self._empty.set()

    def begin(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """For one connection, with the certificates as they are now."""
        context = self._kept.context()
        if self._kept.trouble and self._kept.trouble != self._told:
            self._tell(self._kept.trouble)
        self._told = self._kept.trouble
        return context.wrap_bio(incoming, outgoing, server_side=True)

    def may_enter(self, certificate: Mapping[str, Any]) -> bool:
        """Whether a certificate of the right authority is that of somebody who is wanted."""
        names = {value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"}
        return not self.settings.clients or bool(names & self.settings.clients)

    def refuse(self, reason: str) -> None:
        self._tell(f"not let in: {reason}")


class _Side(asyncio.Protocol):
    """One of the two connections of a client, as the other one has it."""

    _transport: asyncio.Transport | None = None

    def cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def pause_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()


class _Front(_Side):
    """A connection from outside."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = door.begin(self._incoming, self._outgoing)
        self._shaken = False
        self._back: _Back | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._held: list[bytes] = []
        self._late: asyncio.TimerHandle | None = None

    # asyncio
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._door.entered(self)
        self._late = asyncio.get_running_loop().call_later(_HANDSHAKE_S_MAX, self.cut)

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        try:
            if not self._shaken:
                self._tls.do_handshake()
                self._enter()
            self._read()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError as error:
            self._flush()  # the alert that tells the other side why
            if not self._shaken:
                self._door.refuse(reason_of(error))
            self.finish()

    def eof_received(self) -> None:
        return None  # who sends no more listens no more: the transport is closed, and the engine hears of it

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._door.left(self)
        if self._late is not None:
            self._late.cancel()
        if self._back is not None:
            self._back.cut()

    def pause_writing(self) -> None:
        if self._back is not None:
            self._back.pause_reading()

    def resume_writing(self) -> None:
        if self._back is not None:
            self._back.resume_reading()

    # for the other side
    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._tls.write(data)
            self._flush()

    def finish(self) -> None:
        """The other side has ended: what it said goes out, then the connection closes."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._shaken:
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
        self._flush()
        self._transport.close()

    def _enter(self) -> None:
        """The handshake is done: the certificate is one of the authority's and of today."""
        self._shaken = True
        if self._late is not None:
            self._late.cancel()
        self._flush()
        if self._door.may_enter(self._tls.getpeercert() or {}):
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
        else:
            self._door.refuse("the certificate has none of the names that may enter")
            self.write(_NOT_WANTED)
            self.finish()

    def _read(self) -> None:
        """Hands on what has come; ends with ssl.SSLWantReadError, which says that this was all of it."""
        while self._transport is not None and not self._transport.is_closing():
            data = self._tls.read(_READ_BYTES)
            if not data:  # the other side says that it is done
                self.cut()
            elif self._back is not None:
                self._back.write(data)
            else:
                self._held.append(data)
                self.pause_reading()

    def _flush(self) -> None:
        if self._transport is not None and self._outgoing.pending:
            self._transport.write(self._outgoing.read())

    async def _connect(self) -> None:
        engine, loop = self._door.settings.engine, asyncio.get_running_loop()
        back = _Back(self)
        try:
            async with asyncio.timeout(_CONNECT_S_MAX):
                if engine.socket is not None:
                    await loop.create_unix_connection(lambda: back, engine.socket)
                else:
                    await loop.create_connection(lambda: back, engine.host, engine.port)
        except OSError:  # an engine that does not listen looks as it would without a door; a TimeoutError is one too
            self.cut()
            return
        if self._transport is None:
            back.cut()
            return
        self._back = back
        held, self._held = self._held, []
        for data in held:
            back.write(data)
        self.resume_reading()


class _Back(_Side):
    """The connection to the engine that belongs to a front."""

    def __init__(self, front: _Front) -> None:
        self._front = front

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._front.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._front.finish()

    def pause_writing(self) -> None:
        self._front.pause_reading()

    def resume_writing(self) -> None:
        self._front.resume_reading()

    # for the other side
    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


def reason_of(error: ssl.SSLError) -> str:
    """`certificate verify failed: certificate has expired`, less what tells of OpenSSL's insides."""
    verify = getattr(error, "verify_message", "")
    told = (error.reason or "TLS").replace("_", " ").lower()
    return f"{told}: {verify}" if verify else told


_NOT_WANTED = plain(b"403 Forbidden", b"this certificate has none of the names that may enter\n")


def _listen(host: str, port: int, where: str) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named, or TCP_NODELAY is not set
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise StackError(f"cannot listen on {host} port {port}: {error.strerror}", where=where) from None
    return listener
