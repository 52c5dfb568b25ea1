"""Runs the gateway: socket, event loop, signals, and a clean end.

SIGTERM drains: open answers go on for up to `gateway.drain`. Ctrl-C (SIGINT) ends them at once, with an event that
says so. A second signal of either kind ends the process immediately; engines end with it in any case.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any, cast

import uvloop
from starlette.requests import ClientDisconnect

from inhouse.config import GatewaySpec, Stack
from inhouse.core import GatewayReport, Report
from inhouse.errors import ShuttingDown, StackError
from inhouse.gateway import app, heap
from inhouse.gateway.batching import Batching, batching
from inhouse.gateway.late_websocket import LateWebSocket
from inhouse.gateway.lean import Config, Server
from inhouse.gateway.liveness import liveness
from inhouse.gateway.protocol import GatewayProtocol
from inhouse.gateway.sockets import Sockets
from inhouse.parts import Parts, book_all
from inhouse.runtime import running
from inhouse.telemetry.log import Log, place_of

_BACKLOG = 2048
_GC_THRESHOLDS = 5_000, 20, 20
"""A request makes some hundred objects and hardly a cycle: with Python's own 700 each is looked at several times."""
_RESTS = 5
_CLOSE_S = 1.5
_LAST_LINES_S = 0.5


def serve(stack: Stack, *, environ: Mapping[str, str], report: Callable[[Report], None]) -> int:
    """Serves until told to stop; returns the exit code. Blocking. Raises InhouseError if it cannot begin."""
    began_s = time.monotonic()
    heap.prepare()
    listener = _listen(stack.gateway)
    try:
        return uvloop.run(_serve(stack, environ, report, listener, began_s))
    finally:
        listener.close()


async def _serve(
    stack: Stack,
    environ: Mapping[str, str],
    report: Callable[[Report], None],
    listener: socket.socket,
    began_s: float,
) -> int:
    async with running(stack, environ, report) as parts, batching(parts) as work:
        sockets = Sockets(parts)
        server = _Server(_config(stack.gateway, parts, work, sockets), parts, report, sockets)
        parts.sweepers.append(server.sweep)
        parts.connections = lambda: len(server.server_state.connections)
        url = _url(stack.gateway, listener)
        server.on_started = lambda: report(
            GatewayReport("listening", url=url, start_s=round(time.monotonic() - began_s, 3))
        )
        health = stack.gateway.health_port
        alive = contextlib.nullcontext() if health is None else liveness(parts, stack.gateway.host, health)
        with server.signals(), _faults_logged(parts.log), alive:
            await server.serve(sockets=[listener])
    report(GatewayReport("stopped"))
    return 0


class _Server(Server):
    """uvicorn's server with two speeds of stopping.

    While it drains it still listens: /health says so, and who asks for an answer is told 503 and when to come back.
    """

    def __init__(self, config: Config, parts: Parts, report: Callable[[Report], None], sockets: Sockets) -> None:
        super().__init__(config)
        self._sockets = sockets
        self._rested = _RESTS
        self.on_started: Callable[[], None] = lambda: None
        self._parts = parts
        self._report = report

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        gc.collect()
        heap.give_back()
        gc.freeze()  # what start-up made lives as long as the process: no need to look at it again
        gc.set_threshold(*_GC_THRESHOLDS)
        self.on_started()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether it is time to stop listening."""
        over = await super().on_tick(counter)
        return over or (self._parts.draining and not self._answering)

    @property
    def _answering(self) -> bool:
        """Whether an answer is under way. A socket's own task, which waits for frames, is none."""
        sockets = sum(isinstance(one, LateWebSocket) for one in self.server_state.connections)
        return len(self.server_state.tasks) > sockets or self._sockets.busy or self._parts.going_on()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """uvicorn's own handling is replaced by `signals`."""
        yield

    @contextlib.contextmanager
    def signals(self) -> Generator[None, None, None]:
        loop = asyncio.get_running_loop()
        graces = {signal.SIGINT: 0.0, signal.SIGTERM: self._parts.stack.gateway.drain}
        for number, grace_s in graces.items():
            loop.add_signal_handler(number, self._stop, number, grace_s)
        try:
            yield
        finally:
            for number in graces:
                loop.remove_signal_handler(number)

    def sweep(self) -> None:
        now_s = asyncio.get_running_loop().time()
        self._rest()
        for connection in self._http:
            connection.check(now_s)

    def _rest(self) -> None:
        """In the first seconds in which nothing is under way, what the last requests left behind is given back."""
        self._rested = 0 if self._answering else self._rested + 1
        if 0 < self._rested <= _RESTS:
            gc.collect()
            heap.give_back()

    @property
    def _http(self) -> list[GatewayProtocol]:
        return [one for one in self.server_state.connections if isinstance(one, GatewayProtocol)]

    def _stop(self, number: int, grace_s: float) -> None:
        if self._parts.draining:
            book_all(self._parts)
            last_lines = threading.Thread(target=self._last_lines, daemon=True)
            last_lines.start()
            last_lines.join(_LAST_LINES_S)  # whoever reads standard error may have stopped to
            os._exit(128 + number)  # engines hang on a pipe of ours, which closes now
        self._parts.draining = True
        self.should_exit = not grace_s
        self._report(GatewayReport("draining", open_requests=len(self.server_state.tasks)))
        asyncio.get_running_loop().call_later(grace_s, self._end_answers)

    def _last_lines(self) -> None:
        self._parts.audit.close()
        self._parts.log.close()

    def _end_answers(self) -> None:
        self.should_exit = True
        reason = ShuttingDown("this server is shutting down; retry in 5 s", retry_after_s=5.0)
        self._sockets.stop(reason)
        self._parts.stop_aside(reason)
        for connection in self._http:
            connection.stop(reason)
        asyncio.get_running_loop().call_later(_CLOSE_S, self._give_up)

    def _give_up(self) -> None:
        for connection in tuple(self.server_state.connections):
            cast(GatewayProtocol | LateWebSocket, connection).hang_up()
        self.force_exit = True


def _config(spec: GatewaySpec, parts: Parts, work: Batching | None, sockets: Sockets) -> Config:
    protocol: Any = functools.partial(GatewayProtocol, parts=parts)
    config = Config(
        app.build(parts, work, sockets),
        http=protocol,
        ws="none",  # `GatewayProtocol` hands those over that it lets in
        ws_max_size=spec.request_bytes_max,
        ws_ping_interval=parts.stack.sockets.ping,
        ws_ping_timeout=parts.stack.sockets.ping,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=math.ceil(spec.keep_alive),
        backlog=_BACKLOG,
        ssl_certfile=spec.tls_cert,
        ssl_keyfile=spec.tls_key,
    )
    try:
        config.load()
    except OSError as error:  # ssl.SSLError is one
        raise StackError(
            f"the certificate {spec.tls_cert} with the key {spec.tls_key} cannot be used: {error.strerror or error}",
            where="gateway.tls_cert",
            hint="both are files in PEM format; the key belongs to the certificate and has no passphrase",
        ) from None
    return config


class _Faults(logging.Handler):
    """What uvicorn and asyncio complain about, as lines of our log: the kind and place of a fault, never its text."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, ClientDisconnect):
            return  # a client that left while it sent its body is no fault
        self._log.event(
            "error" if record.levelno >= logging.ERROR else "warning",
            str(record.msg).partition("\n")[0],
            source=record.name,
            fault=None if error is None else place_of(error),
        )


@contextlib.contextmanager
def _faults_logged(log: Log) -> Generator[None, None, None]:
    handler = _Faults(log)
    loggers = [logging.getLogger(name) for name in ("uvicorn", "asyncio")]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
            logger.propagate = True


def _listen(spec: GatewaySpec) -> socket.socket:
    """A listening socket. IPPROTO_TCP is named, or accepted sockets would not get TCP_NODELAY. Raises StackError."""
    try:
        found = socket.getaddrinfo(spec.host, spec.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise StackError(f"cannot listen on {spec.host}: {error.strerror}", where="gateway.host") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise StackError(
            f"cannot listen on {spec.host} port {spec.port}: {error.strerror}",
            where="gateway.port",
            hint=f"another program may use it; choose another with --port {spec.port + 1}, or 0 for any free one",
        ) from None
    return listener


def _url(spec: GatewaySpec, listener: socket.socket) -> str:
    scheme = "https" if spec.tls_cert else "http"
    host = f"[{spec.host}]" if ":" in spec.host else spec.host
    shown = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 - shown, not bound
    return f"{scheme}://{shown}:{listener.getsockname()[1]}"
