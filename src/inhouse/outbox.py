"""What is written in one turn of the event loop, written together at its end where much is under way.

Theory of operation. A process that sleeps until something comes is woken by the first write, which costs the writer a
third of what the write itself does. Written as it comes, with a request's work between one write and the next, each
finds the other side asleep again. So while many requests are under way, writes are held until all that the turn had
read has been worked on; while few are, they go out at once.

Where a crowd of slow streams is under way, a chunk comes every 100 us, just late enough to find this process asleep as
well: waking up and looking what there is then costs as much as the chunk. So after a turn whose writes were few this
process rests for a moment, and the next turn finds several at once, as network cards do it with their interrupts.

What is held for a connection goes out before anything else is written there, since then everything is held. Who closes
one calls `flush` first.
"""

from __future__ import annotations

import asyncio
import time
from weakref import WeakKeyDictionary

_MANY = 6
"""Requests under way."""
_CROWD = 128
"""Requests under way."""
_REST_S = 0.000_5
"""Each chunk of a crowd comes later by up to so much: a hundredth of what lies between two at 20 tokens/s."""


class Outbox:
    """That of an event loop (`outbox_of`). The door says how many requests are under way, `busy`, and which of them are
    `opening`: a rest would hold them up at every one of the turns that they need."""

    def __init__(self) -> None:
        self.busy = 0
        self.opening: set[object] = set()
        self._held: list[tuple[asyncio.Transport, bytes]] = []
        self._since_s = 0.0
        """When this turn's first write was held."""

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        held = self._held
        if held:
            held.append((transport, data))
        elif self.busy < _MANY:
            transport.write(data)
        else:
            held.append((transport, data))
            self._since_s = time.monotonic()
            asyncio.get_running_loop().call_soon(self._turn_over)

    def _turn_over(self) -> None:
        self.flush()
        if self.busy >= _CROWD and not self.opening and time.monotonic() - self._since_s < _REST_S:
            time.sleep(_REST_S)

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
