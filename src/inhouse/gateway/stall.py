"""Clients that have stopped reading."""

from __future__ import annotations

import asyncio

from inhouse.gateway.kernel import queued_bytes


class Stall:
    """Since when nothing of what waits to be sent on one connection has gone out."""

    __slots__ = ("_moved_s", "_unsent_bytes")

    def __init__(self, now_s: float) -> None:
        self._moved_s = now_s
        self._unsent_bytes = 0

    def lasts_s(self, transport: asyncio.Transport, now_s: float, *, paused: bool) -> float:
        """0 while something moves, or nothing waits. `paused`: the transport asked for no more."""
        unsent_bytes = transport.get_write_buffer_size()
        waits = paused or (unsent_bytes > 0 and transport.is_closing())
        if waits:
            unsent_bytes += queued_bytes(transport)
        if not waits or unsent_bytes < self._unsent_bytes:
            self._moved_s = now_s
        self._unsent_bytes = unsent_bytes
        return now_s - self._moved_s
