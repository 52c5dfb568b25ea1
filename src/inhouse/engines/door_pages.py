"""What a door shows without TLS: single pages of the engine behind it, for probes and for those who read metrics."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from inhouse.engines.http import Address

_HEAD_BYTES_MAX = 16 * 1024
_PAGE_S_MAX = 10.0


class Pages:
    """What may be asked for without a certificate: pages of the engine that are named, by GET."""

    def __init__(self, engine: Address, paths: frozenset[bytes]) -> None:
        self._engine = engine
        self._paths = paths

    async def serve(self, listener: socket.socket) -> asyncio.Server:
        return await asyncio.start_server(self.answer, sock=listener, limit=_HEAD_BYTES_MAX)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request of one connection."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(_PAGE_S_MAX):
                head = await reader.readuntil(b"\r\n\r\n")
                method, _, rest = head.partition(b" ")
                path = rest.partition(b" ")[0].partition(b"?")[0]
                if method != b"GET" or path not in self._paths:
                    writer.write(_NOT_FOUND)
                else:
                    await self._relay(path, writer)
                await writer.drain()
        writer.close()

    async def _relay(self, path: bytes, writer: asyncio.StreamWriter) -> None:
        engine = self._engine
        try:
            if engine.socket is not None:
                source, asking = await asyncio.open_unix_connection(engine.socket)
            else:
                source, asking = await asyncio.open_connection(engine.host, engine.port)
        except OSError:
            writer.write(_NOT_THERE)
            return
        try:
            asking.write(b"GET %b HTTP/1.1\r\nhost: engine\r\nconnection: close\r\n\r\n" % path)
            while data := await source.read(65536):
                writer.write(data)
                await writer.drain()
        finally:
            asking.close()


def plain(status: bytes, text: bytes) -> bytes:
    """A whole response that ends its connection."""
    head = b"HTTP/1.1 %b\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
    return head % (status, len(text), text)


_NOT_FOUND = plain(b"404 Not Found", b"this port has no such page\n")
_NOT_THERE = plain(b"503 Service Unavailable", b"the engine does not listen yet\n")
