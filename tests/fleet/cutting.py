"""A proxy in front of an engine that breaks off its streams: after so many events, as somebody says."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path


class Cutting:
    """Relays from one unix socket to another. While `events` is a number, the next stream ends behind so many."""

    def __init__(self, path: Path, engine: Path) -> None:
        self.path = path
        self.events: int | None = None
        self.cuts = 0
        self._engine = engine
        self._loop = asyncio.new_event_loop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            from_engine, to_engine = await asyncio.open_unix_connection(str(self._engine))
            asking = asyncio.create_task(self._ask(reader, to_engine))
            try:
                seen = 0
                while data := await from_engine.read(1 << 16):
                    for line in data.splitlines(keepends=True):
                        if self.events is not None and line.startswith(b"data: {"):
                            if seen >= self.events:
                                self.events = None
                                self.cuts += 1
                                return
                            seen += 1
                        writer.write(line)
                    await writer.drain()
            finally:
                asking.cancel()
                to_engine.close()
        writer.close()

    async def _ask(self, reader: asyncio.StreamReader, to_engine: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                to_engine.write(data)
                await to_engine.drain()
            to_engine.close()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(reader, writer)
        finally:
            writer.close()

    def run(self, ready: threading.Event) -> None:
        async def main() -> None:
            server = await asyncio.start_unix_server(self._handle, str(self.path))
            async with server:
                ready.set()
                await server.serve_forever()

        asyncio.set_event_loop(self._loop)
        self._task = self._loop.create_task(main())
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)
        rest = asyncio.all_tasks(self._loop)
        for task in rest:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
        self._loop.close()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)


@contextlib.contextmanager
def cutting(path: Path, engine: Path) -> Iterator[Cutting]:
    """The proxy, on a thread of its own."""
    proxy, ready = Cutting(path, engine), threading.Event()
    thread = threading.Thread(target=proxy.run, args=(ready,), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield proxy
    finally:
        proxy.stop()
        thread.join(10)
