"""One request that reads an answer which others may read too: by its own view, to its own client, at its own pace."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Protocol

from inhouse.admission.notices import Standing
from inhouse.dispatch.recording import Recording
from inhouse.dispatch.watch import Watch
from inhouse.telemetry.entry import Entry
from inhouse.wire.call import View
from inhouse.wire.replay import Renaming, marked

_NOTHING = Recording(0)


class Source(Protocol):
    """What can be told to wait while its reader is full."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Listener(Protocol):
    """The client of a follower."""

    def waits(self, standing: Standing) -> None: ...

    def begin(self) -> None: ...

    def write(self, data: bytes) -> None: ...

    def attach(self, source: Source) -> None: ...

    def detach(self, source: Source) -> None: ...


class Shared(Protocol):
    """The generation that a follower listens to."""

    entry: Entry
    payer: Follower | None

    def balance(self) -> None:
        """A follower has become full, or can take more."""

    def leave(self, follower: Follower) -> None: ...


class Follower:
    """See the module. It `join`s a recording, `read`s it to the end, and `leave`s; after a failure it may join another.

    `over`: nothing more is shown. `position`: the number of the block that it reads next.
    """

    __slots__ = (
        "_client",
        "_deadline_s",
        "_first",
        "_flight",
        "_joined_s",
        "_left",
        "_loop",
        "_recording",
        "_renaming",
        "_shown",
        "_streams",
        "_view",
        "_waiter",
        "_watch",
        "_watched",
        "entry",
        "error",
        "index",
        "over",
        "paused",
        "position",
    )

    def __init__(self, index: int, view: View, client: Listener, entry: Entry, watch: Watch) -> None:
        self.index = index
        self.entry = entry
        self._view = view
        self._client = client
        self._watch = watch
        self._watched = False
        self._loop = asyncio.get_running_loop()
        self._deadline_s: float | None = None
        self._recording = _NOTHING
        self._flight: Shared | None = None
        self._streams = True
        self._first = False
        self._joined_s = 0.0
        self._renaming: Renaming | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._shown = 0
        self._left = True
        self.position = 0
        self.paused = False
        self.over = False
        self.error: Exception | None = None

    def wait_at_most(self, now_s: float, patience_s: Callable[[], float]) -> None:
        """From the first time on, however often it joins."""
        if self._deadline_s is None:
            self._deadline_s = now_s + patience_s()

    def join(self, recording: Recording, flight: Shared | None, *, streams: bool, first: bool) -> None:
        """`flight` is None for an answer that was kept; `first` is whom the answer's own id and time are for."""
        self._recording = recording
        self._flight = flight
        self._streams = streams
        self._first = first
        self._renaming = None
        if streams and not first:
            self._renaming = Renaming(f"chatcmpl-{secrets.token_hex(12)}", int(time.time()))
        self._joined_s = self._loop.time()
        self._waiter = None
        self._left = self.over = False
        self.error = None
        self.position = 0
        self._client.attach(self)
        if flight is not None:
            flight.balance()

    @property
    def reuses(self) -> bool:
        """Whether somebody else bears what is generated."""
        return self._flight is None or self._flight.payer is not self

    @property
    def at_end(self) -> bool:
        return self._recording.done and self.position >= self._recording.end

    async def read(self) -> None:
        """Returns once everything was shown. Raises what the generation, or the view, raised."""
        self.pump()
        if not self.over:
            self._waiter = self._loop.create_future()
            await self._waiter
        if self.error is not None:
            raise self.error
        self._view.finished(self.index)

    def leave(self) -> None:
        """The request is over, in whatever way, or tries again. A second time changes nothing."""
        if self._left:
            return
        self._left = True
        self._client.detach(self)
        flight = self._flight
        if flight is not None:
            self._note_wait(flight)
            flight.leave(self)
        if self.reuses:
            whole = self.at_end and self._recording.error is None
            self.entry.reused_tokens += self._recording.completion_tokens if whole else self._shown
        if flight is not None and self._first:
            self._tell_of(flight)

    # the recording's side
    def pump(self) -> None:
        """Shows what there is, as long as the client takes it."""
        recording = self._recording
        while not self.paused and not self.over and self.position < recording.end:
            self.position += 1
            self._show(recording.block(self.position - 1))
        if self.at_end:
            self.end(recording.error)

    def end(self, error: Exception | None) -> None:
        """No more is shown; `read` returns or raises. A second time changes nothing."""
        if self.over:
            return
        self.over = True
        self.error = error
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def waits(self, standing: Standing) -> None:
        """The generation still waits for its slot."""
        if self._view.streams:
            self._client.waits(standing)

    def comment(self, data: bytes) -> None:
        """A comment of the engine, which keeps the line open."""
        if self._view.streams and not self.paused and not self.over:
            self._client.begin()
            self._client.write(data)

    def engine_was_asked(self, asked_s: float) -> None:
        """The generation has its slot: from now on the request's limits for tokens hold. Told again and again."""
        if not self._watched and self._streams:
            self._watched = True
            self._watch.reply = self
            self._watch.asked(max(asked_s, self._joined_s), _no_doubt)

    def waits_too_long(self, now_s: float) -> bool:
        """Whether the generation should have had its slot by now."""
        return self._deadline_s is not None and now_s > self._deadline_s

    # the client's side
    def pause(self) -> None:
        self.paused = True
        if self._flight is not None:
            self._flight.balance()

    def resume(self) -> None:
        self.paused = False
        self.pump()
        if self._flight is not None:
            self._flight.balance()

    def _show(self, block: bytes) -> None:
        view, flight = self._view, self._flight
        if self.position == 1 and flight is not None:
            self._note_wait(flight)
        try:
            if self._renaming is not None:
                block = self._renaming.events(block)
            if flight is not None and self.reuses:  # what was kept is marked already
                block = marked(block, whole=not self._streams)
            before = view.events_seen
            shown = view.events(self.index, block)
            self._shown += view.events_seen - before
        except Exception as error:  # noqa: BLE001 - handed to the reader: a callback has nobody to raise it to
            self.end(error)
            return
        self._watch.moved = True
        if self._streams and self.entry.first_token_s is None:
            self.entry.first_token_s = self._loop.time()
        if view.streams:
            self._client.begin()
        if shown:
            self._client.write(shown)

    def _tell_of(self, flight: Shared) -> None:
        """Who began it can say which engines were asked."""
        for step in flight.entry.steps:
            self.entry.step(step)
        if flight.entry.retries:
            self.entry.retries += flight.entry.retries
            self.entry.note("retries", self.entry.retries)
        if flight.entry.failovers:
            self.entry.failovers += flight.entry.failovers
            self.entry.note("failovers", self.entry.failovers)

    def _note_wait(self, flight: Shared) -> None:
        """What the generation waited since this request joined it."""
        entry = self.entry
        entry.waited_s = max(entry.waited_s, flight.entry.waited_s - (self._joined_s - flight.entry.arrived_s))
        entry.place = max(entry.place, flight.entry.place)


def _no_doubt() -> None:
    """The generation itself has the engine looked at."""
