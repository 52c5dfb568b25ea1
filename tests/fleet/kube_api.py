"""As much of a Kubernetes API server as a watch of EndpointSlices needs, with versions, bookmarks and 410."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "token-of-the-service-account"


class KubeApi:
    """Runs in a thread of its own; the test changes what it has from outside."""

    def __init__(self) -> None:
        self.slices: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.denied = False
        self._version = 100
        self._log: list[tuple[int, str, dict[str, Any]]] = []
        self._oldest = 0
        self._watchers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        started.wait(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def put(self, name: str, port: int, hosts: dict[str, bool | None], family: str = "IPv4") -> None:
        """A slice whose addresses are ready, not ready, or say nothing of it."""
        endpoints = [{"addresses": [host], "conditions": {"ready": ready}} for host, ready in hosts.items()]
        body = {"addressType": family, "endpoints": endpoints, "ports": [{"name": "http", "port": port}]}
        self._do(self._change, "MODIFIED" if name in self.slices else "ADDED", name, body)

    def remove(self, name: str) -> None:
        self._do(self._change, "DELETED", name, self.slices[name])

    def bookmark(self) -> None:
        self._do(self._bookmark)

    def forget(self) -> None:
        """Versions up to now are too old from now on; open watches are told so."""
        self._do(self._forget)

    def cut(self) -> None:
        """All connections of watches break off."""
        self._do(self._cut)

    def _do(self, work: Any, *arguments: Any) -> None:
        done = threading.Event()

        def act() -> None:
            work(*arguments)
            done.set()

        self._loop.call_soon_threadsafe(act)
        assert done.wait(10)

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        self._loop.run_forever()
        server.close()
        self._loop.run_until_complete(self._finish())
        self._loop.close()

    async def _finish(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            if task is not None:
                task.cancel()
        await asyncio.gather(*[task for task in tasks if task is not None], return_exceptions=True)
        for _ in range(5):  # transports close in callbacks
            await asyncio.sleep(0)

    def _change(self, kind: str, name: str, body: dict[str, Any]) -> None:
        self._version += 1
        slice_ = {**body, "metadata": {"name": name, "resourceVersion": str(self._version)}}
        if kind == "DELETED":
            del self.slices[name]
        else:
            self.slices[name] = slice_
        self._log.append((self._version, kind, slice_))
        self._tell({"type": kind, "object": slice_})

    def _bookmark(self) -> None:
        self._version += 1
        self._tell({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(self._version)}}})

    def _forget(self) -> None:
        self._version += 1
        self._oldest = self._version
        status = {"kind": "Status", "code": 410, "reason": "Expired", "metadata": {}}
        self._tell({"type": "ERROR", "object": status})
        self._cut()

    def _cut(self) -> None:
        for writer in self._watchers:
            writer.close()
        self._watchers.clear()

    def _tell(self, event: dict[str, Any]) -> None:
        for writer in self._watchers:
            writer.write(_chunk(json.dumps(event).encode() + b"\n"))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                target = head.split(" ")[1]
                self.asked.append(target)
                if f"authorization: bearer {TOKEN}" not in head.lower() or self.denied:
                    writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n{}")
                    continue
                query = parse_qs(urlsplit(target).query)
                assert query["labelSelector"] == ["kubernetes.io/service-name=engines"]
                if "watch" in query:
                    self._watch(writer, int(query["resourceVersion"][0]))
                else:
                    self._list(writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            self._watchers.discard(writer)
            writer.close()

    def _list(self, writer: asyncio.StreamWriter) -> None:
        found = {"metadata": {"resourceVersion": str(self._version)}, "items": list(self.slices.values())}
        body = json.dumps(found).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    def _watch(self, writer: asyncio.StreamWriter, version: int) -> None:
        if version < self._oldest:
            writer.write(b"HTTP/1.1 410 Gone\r\nContent-Length: 2\r\n\r\n{}")
            return
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for at, kind, slice_ in self._log:
            if at > version:
                writer.write(_chunk(json.dumps({"type": kind, "object": slice_}).encode() + b"\n"))
        self._watchers.add(writer)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
