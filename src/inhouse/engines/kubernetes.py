"""The pods behind a Service, as Kubernetes tells: a watch of its EndpointSlices.

Theory of operation. List, tell what is ready, watch from the list's version on, tell after each change. The API server
ends a watch after `_WATCH_S`; the next goes on where it ended. Bookmarks keep that version young. Where it is too old
(410), list again. What was known is kept while the API server cannot be reached: pods that run are not to be given up
because somebody else is down. The token is read for each connection, for it is renewed about once an hour.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from inhouse.engines.addresses import Name, numbered
from inhouse.engines.connection import Reply
from inhouse.engines.discovery import Found
from inhouse.engines.http import Address, Pool
from inhouse.engines.slices import LINE_BYTES_MAX, Slices, WatchExpired, WatchRefused
from inhouse.engines.tls import Files, Kept, trusting
from inhouse.errors import EngineError, StackError

_WATCH_S = 300
_SILENCE_S = _WATCH_S + 30.0
_LIST_S_MAX = 30.0
_LIST_BYTES_MAX = 32 * 1024 * 1024
_PAUSE_FIRST_S, _PAUSE_MAX_S = 0.2, 30.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """How the API server is reached."""

    address: Address
    token_file: Path


def cluster_of(environ: Mapping[str, str], api: str | None, token_file: Path, ca_file: Path) -> Cluster:
    """The cluster that this process runs in, or the one at `api`. Raises StackError outside of any."""
    if api is not None:
        secure = api.startswith("https://")
        host, _, port = api.partition("://")[2].rstrip("/").rpartition(":")
        context = _trust(ca_file) if secure else None
        return Cluster(Address(host=host.strip("[]"), port=int(port), tls=context), token_file)
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not port.isdigit():
        raise StackError(
            "an endpoint of the form k8s://namespace/service:port needs to run in Kubernetes, and this is no pod",
            where="kubernetes.api",
            hint="outside of a cluster, name its API server: `kubernetes: {api: https://host:6443, token_file: …}`",
        )
    return Cluster(Address(host=host, port=int(port), tls=_trust(ca_file)), token_file)


def _trust(ca_file: Path) -> Kept:
    return trusting(Files(ca=ca_file), "kubernetes.ca_file")


class EndpointSlices:
    """A source of endpoints, see the module. `name` has namespace, Service and port."""

    def __init__(self, cluster: Cluster, name: Name, tls: Kept | None, *, pause_s_max: float = _PAUSE_MAX_S) -> None:
        self.trouble = ""
        self._cluster = cluster
        self._name = name
        self._tls = tls
        self._pause_s_max = pause_s_max
        self._slices = Slices(name.port)
        self._pool: Pool | None = None
        self._path = f"/apis/discovery.k8s.io/v1/namespaces/{name.namespace}/endpointslices".encode()
        self._select = f"?labelSelector=kubernetes.io%2Fservice-name%3D{name.host}".encode()

    async def run(self, found: Found) -> None:
        """Follows the Service until it is cancelled."""
        pause_s = _PAUSE_FIRST_S
        while True:
            try:
                async for _ in self._changes():
                    self.trouble = ""
                    pause_s = _PAUSE_FIRST_S
                    ready = self._slices.ready()
                    found(dict(numbered(host, port, self._name, self._tls) for host, port in ready))
                continue  # the watch came to its end: the next one goes on from there
            except WatchExpired:
                self._slices.version = ""
                continue
            except (EngineError, WatchRefused, msgspec.DecodeError, OSError, TimeoutError) as error:
                self.trouble = f"the Kubernetes API: {_told(error)}"
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - many gateways are not to ask at once
            pause_s = min(2 * pause_s, self._pause_s_max)

    def sweep(self) -> None:
        if self._pool is not None:
            self._pool.sweep()

    async def _changes(self) -> AsyncIterator[None]:
        """Yields after everything that may have changed the addresses."""
        token = self._cluster.token_file.read_text().strip()
        pool = self._pool = Pool(self._cluster.address, silence_s_max=_SILENCE_S, key=token or None)
        try:
            if not self._slices.version:
                async with asyncio.timeout(_LIST_S_MAX):
                    reply = await pool.request(b"GET", self._path + self._select)
                    body = await reply.read(_LIST_BYTES_MAX)
                _check(reply)
                self._slices.replace(body)
                yield
            watch = b"&watch=1&allowWatchBookmarks=true&timeoutSeconds=%d&resourceVersion=%b" % (
                _WATCH_S,
                self._slices.version.encode(),
            )
            reply = await pool.request(b"GET", self._path + self._select + watch)
            if reply.status != 200:
                reply.abort()
                _check(reply)
            lines = _Lines()
            reply.pipe(lines)
            while (line := await lines.next()) is not None:
                if self._slices.apply(line):
                    yield
        finally:
            self._pool = None
            pool.close()


def _check(reply: Reply) -> None:
    if reply.status == 410:
        raise WatchExpired
    if reply.status != 200:
        hint = " (may this service account list and watch endpointslices?)" if reply.status in (401, 403) else ""
        raise WatchRefused(f"status {reply.status}{hint}")


def _told(error: Exception) -> str:
    if isinstance(error, EngineError):
        return error.message.replace("the engine", "it")
    return str(error) or type(error).__name__


class _Lines:
    """A sink that hands out lines, one at a time."""

    def __init__(self) -> None:
        self._lines: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self._rest = b""

    async def next(self) -> bytes | None:
        """The next line; None at a good end. Raises EngineError at a bad one."""
        line = await self._lines.get()
        if isinstance(line, Exception):
            raise line
        return line

    def data(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.strip():
                self._lines.put_nowait(line)
        if len(self._rest) > LINE_BYTES_MAX:
            self.done(EngineError("the API server sent a line without an end"))

    def done(self, error: Exception | None) -> None:
        self._lines.put_nowait(error)
