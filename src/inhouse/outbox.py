"""What is written in one turn of the event loop, written together at its end where much is under way.

Theory of operation. A process that sleeps until something comes is woken by the first write, which costs the writer a
third of what the write itself does. Written as it comes, with a request's work between one write and the next, each
finds the other side asleep again. So while many requests are under way, writes are held until all that the turn had
read has been worked on; while few are, they go out at once.

What is held for a connection goes out before anything else is written there, since then everything is held. Who closes
one calls `flush` first.
"""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

_MANY = 6
"""Requests under way."""


class Outbox:
    """That of an event loop (`outbox_of`). `busy`: how many requests are under way; the door says."""

    def __init__(self) -> None:
        self.busy = 0
        self._held: list[tuple[asyncio.Transport, bytes]] = []

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        held = self._held
        if held:
            held.append((transport, data))
        elif self.busy < _MANY:
            transport.write(data)
        else:
            held.append((transport, data))
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """What is held goes out, but to connections that were closed meanwhile."""
        held, self._held = self._held, []
        for transport, data in held:
            if transport.is_closing():
                continue
            try:
                transport.write(data)
            except Exception:  # noqa: BLE001 - what is held for the others goes out all the same
                transport.abort()


_outboxes: WeakKeyDictionary[asyncio.AbstractEventLoop, Outbox] = WeakKeyDictionary()


def outbox_of(loop: asyncio.AbstractEventLoop) -> Outbox:
    found = _outboxes.get(loop)
    if found is None:
        found = _outboxes[loop] = Outbox()
    return found
