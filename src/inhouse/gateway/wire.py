"""The connection to a client, as its requests see it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from inhouse.gateway.head import Again
from inhouse.gateway.lean import ServerState
from inhouse.outbox import outbox_of


class Wire:
    """`answered` is called with a request whose response is written whole.

    It also holds where the connection stands, for `GatewayProtocol`: attributes of a class that extends uvicorn's are
    looked up by name, those of this one are not, once it is compiled.
    """

    in_head: bool = True
    head_bytes: int = 0
    ahead_bytes: int = 0
    """What came while requests wait for those before them."""
    silent: bool = True
    """Nothing ever came."""
    closing: bool = False
    """What still comes is read past."""
    idle_since_s: float | None = None
    again: Again | None = None
    """The head of the last request, by which the next one may be known."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        state: ServerState,
        answered: Callable[[Any], None],
        *,
        body_bytes_max: int,
    ) -> None:
        self.answered = answered
        self.body_bytes_max = body_bytes_max
        self._transport: asyncio.Transport | None = None
        self._outbox = outbox_of(loop)
        self._state = state
        self._tasks: set[Any] = state.tasks
        """What the end of the server waits for."""
        self._header_lines = b""
        self._headers_seen: object = None
        self.exchanges: list[Any] = []
        """Those that are not answered yet, the running one first."""

    def open(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def lost(self) -> None:
        """What it pointed to is free at once, not when the collector comes by."""
        self._transport = None
        self.answered = _forgotten

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._outbox.write(self._transport, data)

    def flush(self) -> None:
        """To be called before the connection is closed."""
        self._outbox.flush()

    def default_headers(self) -> bytes:
        """`date` and what else belongs to every response, as header lines."""
        headers = self._state.default_headers
        if headers is not self._headers_seen:  # uvicorn makes new ones every second
            self._headers_seen = headers
            self._header_lines = b"".join([b"%b: %b\r\n" % header for header in headers])
        return self._header_lines

    def under_way(self, work: object) -> None:
        """The end of the server waits for it, until it is `over`."""
        self._tasks.add(work)
        self._outbox.busy = len(self._tasks)

    def carries(self, task: asyncio.Task[None]) -> None:
        """It is under way by itself from here on, and opening until it is over or `opened` is called."""
        self.under_way(task)
        self._outbox.opening.add(task)
        task.add_done_callback(self.over)

    def opened(self, task: object) -> None:
        """The engine answers it."""
        self._outbox.opening.discard(task)

    def over(self, work: object) -> None:
        self._tasks.discard(work)
        self._outbox.busy = len(self._tasks)
        self._outbox.opening.discard(work)


def _forgotten(request: object) -> None:
    """Nobody is there any more to be told."""
