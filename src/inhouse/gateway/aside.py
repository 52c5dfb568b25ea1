"""A request that is answered on no connection of its own: a line of a batch, a frame on a socket, an answer that is
fetched later. To the pipeline it is a request like any other; what comes back goes to a `Sink`.

Theory of operation. The caller is known already (`identity`), so nothing is proven a second time; all else holds as for
a request at the door: rights, limits, context fit, queue, routing, failover, booking. `answered` runs it to its end;
cancelling that task is the hang-up, `stop` ends it with an error that the sink is told.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import Protocol

from inhouse.admission.notices import Standing
from inhouse.core import Identity
from inhouse.dispatch.follower import Source
from inhouse.dispatch.lane import Share
from inhouse.dispatch.watch import TimeLimits
from inhouse.errors import ApiError
from inhouse.gateway.apis import Api, parsed
from inhouse.parts import Parts, Shares
from inhouse.pipeline import answer, never_begun
from inhouse.telemetry.entry import Entry
from inhouse.wire.call import Call, View
from inhouse.wire.lenient import ignored_header


class Sink(Protocol):
    """Where an answer goes. One of `document`, `closed` and `refused` is the last call."""

    def waits(self, standing: Standing) -> None:
        """It stands in the queue; told now and then."""

    def events(self, data: bytes) -> None:
        """Whole events of the stream, as they would go to a client."""

    def closed(self, data: bytes) -> None:
        """The last events; of a stream that broke, its terminal event."""

    def document(self, body: bytes) -> None:
        """The whole answer of a request that does not stream."""

    def refused(self, status: int, body: bytes, error: ApiError) -> None:
        """A refusal, in the API's own shape. Nothing has been sent before."""


class Aside:
    """See the module. Made in the event loop; it is to be `answered` once."""

    # what the pipeline reads and sets
    limit_lines = b""
    demanded = ""
    prefer_wait_s = 0.0
    credentials = (None, None)
    framed = None

    def __init__(
        self,
        parts: Parts,
        api: Api,
        body: bytes,
        sink: Sink,
        identity: Identity,
        *,
        share: Share | None = None,
        request_id: str | None = None,
        session: str = "",
        wait_s: float | None = None,
    ) -> None:
        """`share` in place of the tenant's own; `wait_s`: how long it may wait for a slot, in place of the queue's."""
        self.id_hex = parts.request_ids.new()
        self.entry = Entry(request_id or self.id_hex, api.name, time.monotonic())
        self.notes: list[tuple[bytes, bytes]] = []
        self.session = session
        self._parts, self._api, self._body, self._sink = parts, api, body, sink
        self._identity, self._share, self._wait_s = identity, share, wait_s
        self._sources: list[Source] = []
        self._task: asyncio.Task[None] | None = None
        self._stopped_by: ApiError | None = None
        self._streaming = self._paused = False

    def start(self) -> asyncio.Task[None]:
        """The task that answers it. It never fails; cancelled before it ran, the request is booked all the same."""
        task = self._task = asyncio.get_running_loop().create_task(self._answered(), name=f"aside {self.entry.api}")
        task.add_done_callback(self._gone)
        return task

    def stop(self, reason: ApiError) -> None:
        """Ends it; the sink is told why."""
        if self._task is not None and self._stopped_by is None and not self._task.done():
            self._stopped_by = reason
            self._task.cancel()

    def pause(self) -> None:
        """The engine's answer is not read until `resume`."""
        self._paused = True
        for source in tuple(self._sources):
            source.pause()

    def resume(self) -> None:
        self._paused = False
        for source in tuple(self._sources):
            source.resume()

    async def _answered(self) -> None:
        known = self._identity
        parts = dataclasses.replace(self._parts, identify=lambda authorization, x_api_key: known)
        if self._share is not None:
            parts.shares = Shares(parts.stack, everybody=self._share)
        await answer(parts, self)

    def _gone(self, task: asyncio.Task[None]) -> None:
        if not self.entry.begun:
            never_begun(self._parts, self.entry)

    # the pipeline calls these
    async def call(self) -> Call:
        body, self._body = self._body, b""
        call, ignored = parsed(self._api, body, self._parts.stack.requests, self.id_hex, time.time())
        if ignored:
            self.notes.append(ignored_header(ignored))
        return call

    def stopped_by(self) -> ApiError | None:
        return self._stopped_by

    def attach(self, source: Source) -> None:
        self._sources.append(source)
        if self._paused:
            source.pause()

    def detach(self, source: Source) -> None:
        self._sources.remove(source)

    def time_limits(self, lane: TimeLimits, *, kept_alive: bool) -> TimeLimits:
        return lane if self._wait_s is None else dataclasses.replace(lane, wait_s=self._wait_s)

    def waits(self, standing: Standing) -> None:
        self._sink.waits(standing)

    def begin(self) -> None:
        self._streaming = True

    def write(self, data: bytes) -> None:
        self._streaming = True
        self._sink.events(data)

    def finish(self, view: View, closing: bytes) -> None:
        if view.streams:
            self._sink.closed(closing)
        else:
            self._sink.document(closing)

    def fail(self, view: View | None, error: ApiError) -> None:
        if view is not None and self._streaming:
            self.entry.failed = True
            self.entry.status = 200
            self._sink.closed(view.fail(error))
        else:
            self._sink.refused(error.status, self._api.error_body(error, self.entry.request_id), error)
