"""Where an engine's answer goes: through the view to the client, and what was shown is remembered for a failover."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from inhouse.dispatch.failover import Rescue
from inhouse.dispatch.places import Place
from inhouse.dispatch.watch import Watch
from inhouse.engines.connection import Reply
from inhouse.telemetry.entry import Entry
from inhouse.wire.call import View
from inhouse.wire.sent import Sent
from inhouse.wire.sse import EventCutter
from inhouse.wire.views import RelayView, fault_in

_OPENINGS = tuple(b'"delta":{"role":"assistant"%b}' % rest for rest in (b"", b',"content":""', b',"content":null'))


class Writable(Protocol):
    def write(self, data: bytes) -> None: ...

    @property
    def framed(self) -> Callable[[bytes], None] | None:
        """Takes chunks with their HTTP framing, from the second write on; None where it has no use for it."""


class ViewSink:
    """The engine's bytes through the view to the client. Runs in callbacks: no task wakes up for a token."""

    __slots__ = (
        "_begun",
        "_client",
        "_cutter",
        "_entry",
        "_error",
        "_held",
        "_index",
        "_model",
        "_over",
        "_place",
        "_reply",
        "_rescue",
        "_told",
        "_undecided",
        "_view",
        "_waiter",
        "_watch",
    )

    def __init__(
        self,
        index: int,
        view: View,
        client: Writable,
        entry: Entry,
        watch: Watch,
        place: Place,
        model: tuple[bytes, bytes] | None,
        rescue: Rescue | None,
    ) -> None:
        self._index = index
        self._view = view
        self._client = client
        self._entry = entry
        self._watch = watch
        self._place = place
        self._model = model
        self._rescue = rescue
        self._held = b""
        self._begun = False
        self._cutter = EventCutter()
        self._over = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._told: Callable[[Exception | None], None] | None = None
        self._reply: Reply | None = None
        self._undecided = False
        """Whether its chunks may be relayed."""

    def relay(self, reply: Reply) -> None:
        """Of this reply, which comes here, chunks may go on with their framing as soon as there is no reason left why
        not."""
        if type(self._view) is RelayView and self._model is None:
            self._reply, self._undecided = reply, True

    def tell(self, over: Callable[[Exception | None], None]) -> None:
        """In place of `whole`: it is called once the reply is over, with what broke it off."""
        self._told = over

    async def whole(self) -> None:
        """Returns when the reply is over. Raises what broke it off."""
        if not self._over:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._error is not None:
            raise self._error

    def data(self, data: bytes) -> None:
        if self._over:  # it was given up, and its end is still on its way
            return
        try:
            cutter = self._cutter
            if cutter.rest or not data.endswith(b"\n\n"):
                data = cutter.feed(data)
                if not data:
                    return
            if data.startswith(b":") and b"data:" not in data:  # comments only: they keep the line open
                if self._view.streams:
                    self._client.write(data)
                return
            rescue = self._rescue
            if rescue is not None and b'"error":' in data:
                self._up_to_fault(data, rescue)
                return
            self._show(data)
        except Exception as error:  # noqa: BLE001 - handed to the waiter: a callback has nobody to raise it to
            self.done(error)

    def done(self, error: Exception | None) -> None:
        if self._over:
            return
        self._over = True
        self._error = error
        if self._reply is not None:
            self._reply.relay = None
        if self._told is not None:
            self._told(error)
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _show(self, events: bytes) -> None:
        if not self._begun:
            if self._place.first_s is None:
                if _only_opens(events):
                    self._held += events
                    return
                events = self._held + events
                first_s = self._place.begun()
                if self._entry.first_token_s is None:
                    self._entry.first_token_s = first_s
            self._begun = True
        self._watch.moved = True
        if self._model is not None:
            events = events.replace(*self._model)
        rescue = self._rescue
        if rescue is not None:
            if rescue.splice is not None:
                events = rescue.splice.events(events)
                if not events:
                    return
            shown = self._view.events(self._index, events)
            rescue.sent.keep(events)
        else:
            shown = self._view.events(self._index, events)
        if shown:
            self._client.write(shown)
        if self._undecided:
            self._decide()

    def _decide(self) -> None:
        view, rescue, write = self._view, self._rescue, self._client.framed
        if type(view) is RelayView and view.role_seen and write is not None:
            self._undecided = False
            if self._reply is not None and (rescue is None or rescue.splice is None):
                self._reply.relay = Relay(view, self._watch, None if rescue is None else rescue.sent, write).takes

    def _up_to_fault(self, events: bytes, rescue: Rescue) -> None:
        """What came before the engine said that it failed is part of the answer that may go on elsewhere."""
        for event in events.split(b"\n\n")[:-1]:
            fault = fault_in(event)
            if fault is not None:
                self.done(fault)
                return
            self._show(event + b"\n\n")


class Relay:
    """One chunk of whole events, of which nothing has to be looked at, is handed on with its framing: the usual read of
    a stream at the speed of a model. What it means otherwise is the same as in `ViewSink.data`.
    """

    __slots__ = ("_sent", "_view", "_watch", "_write")

    def __init__(self, view: RelayView, watch: Watch, sent: Sent | None, write: Callable[[bytes], None]) -> None:
        self._view = view
        self._watch = watch
        self._sent = sent
        self._write = write

    def takes(self, data: bytes) -> bool:
        """`data` is a read that begins with a chunk. Whether it was handed on."""
        end = data.find(b"\r", 1, 9)
        if (
            end < 0
            or not data.endswith(b"\n\n\r\n")
            or not data.startswith(b"\r\ndata: ", end)
            or data[:end] != b"%x" % (len(data) - end - 4)
            or not self._view.passes(data)
        ):
            return False
        self._watch.moved = True
        if self._sent is not None:
            self._sent.keep(data[end + 2 : -2])
        self._write(data)
        return True


def _only_opens(events: bytes) -> bool:
    """Whether this is the one event by which some engines say, ahead of the first token, who is going to speak.

    It is held back until there is a token: an engine may still fail, and the request go on at another.
    """
    return events.count(b"\n\n") == 1 and any(opening in events for opening in _OPENINGS)
