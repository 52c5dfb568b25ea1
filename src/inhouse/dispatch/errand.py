"""One job's way through a lane: its turn at a slot, a place at a replica, the engine, and on where one fails.

An engine is asked for a stream, whatever the client wants, as a hang-up is noticed at once only on one; for a whole
answer only where its kind gives those safely (`documents`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from inhouse.admission.notices import Standing
from inhouse.admission.turns import Ask, Turn
from inhouse.dispatch.failover import REASONS, Close, GoOn, Reason, Rescue
from inhouse.dispatch.follower import Source
from inhouse.dispatch.lane import Lane, Share
from inhouse.dispatch.picked import picked
from inhouse.dispatch.places import Place
from inhouse.dispatch.prompts import count
from inhouse.dispatch.refusal import refusal
from inhouse.dispatch.sink import ViewSink
from inhouse.dispatch.upstream import renamed
from inhouse.dispatch.watch import TimeLimits, Watch
from inhouse.engines.http import Pool
from inhouse.errors import (
    ApiError,
    EngineError,
    Unavailable,
    WaitedTooLong,
)
from inhouse.routing.router import RouteAsk
from inhouse.telemetry.entry import Entry
from inhouse.telemetry.story import Asked, CutOff, Failed, WentOn
from inhouse.wire import sse
from inhouse.wire.call import Job, View
from inhouse.wire.openai_chat import whole
from inhouse.wire.views import DocumentView

_REFUSAL_BYTES_MAX = 256 * 1024


class Client(Protocol):
    """The far end of an answer."""

    @property
    def prefer_wait_s(self) -> float:
        """How long the client offers to wait for a model that loads (`Prefer: wait=…`)."""

    @property
    def session(self) -> str:
        """What the requests of one conversation have in common (`x-inhouse-session`), "" where nothing."""

    def time_limits(self, lane: TimeLimits, *, kept_alive: bool) -> TimeLimits:
        """Those of the lane, lowered where the client wants that. `kept_alive`: it hears something while it waits."""

    def waits(self, standing: Standing) -> None:
        """Still no slot."""

    def stop(self, reason: ApiError) -> None:
        """Ends the request from outside; the client is told why."""

    def begin(self) -> None:
        """The stream is open at the engine: from here on refusals are events."""

    def write(self, data: bytes) -> None: ...

    @property
    def framed(self) -> Callable[[bytes], None] | None:
        """As `sink.Writable` says."""

    def attach(self, source: Source) -> None:
        """While the client reads too slowly, `source` is paused."""

    def detach(self, source: Source) -> None: ...


def arrive(entry: Entry, lane: Lane, place: Place, index: int) -> None:
    """The story of a request goes on at `place`."""
    if place.pick is not None and lane.router is not None and len(lane.places.members) > 1:
        entry.step(picked(place, place.pick, lane.router.settings.policy))
    entry.step(Asked(place.began_s, place.member.id, index))


class Errand:
    """See the module. `run` it once."""

    __slots__ = ("_client", "_entry", "_index", "_job", "_lane", "_rescue", "_share", "_view", "watch")

    def __init__(
        self, index: int, job: Job, view: View, lane: Lane, share: Share, client: Client, entry: Entry
    ) -> None:
        self._index = index
        self._job = job
        self._view = view
        self._lane = lane
        self._share = share
        self._client = client
        self._entry = entry
        self._rescue: Rescue | None = None
        limits = client.time_limits(lane.limits, kept_alive=view.streams and lane.turns.notices.every_s > 0)
        self.watch = Watch(lane.model, lane.limits, limits, entry.arrived_s, client.stop)

    async def run(self) -> None:
        """Returns when the answer is whole. Raises ApiError."""
        lane, watch, job = self._lane, self.watch, self._job
        lane.watches.add(watch)
        try:
            ask = lane.ask(job, self._share)
            if job.streams:
                await self._in_turn(ask)
            else:
                async with lane.turn_alone(self._client.prefer_wait_s, watch.limits.wait_s, ask):
                    await self._in_turn(ask)
        except WaitedTooLong as error:
            raise lane.late(error, watch.limits.wait_s) from None
        finally:
            lane.watches.discard(watch)

    async def go_on(self, turn: Turn, place: Place, fault: ApiError | None) -> None:
        """From a place that was taken, and asked, already: `fault` is what came of that; None: it is to be asked anew.

        Raises ApiError.
        """
        lane, watch = self._lane, self.watch
        lane.watches.add(watch)
        try:
            await self._at_a_place(place, fault)
        except WaitedTooLong as error:
            raise lane.late(error, watch.limits.wait_s) from None
        finally:
            turn.leave(self._view.tokens_of(self._index))
            lane.watches.discard(watch)

    def sink(self, place: Place) -> ViewSink:
        """Where the stream goes that was asked for at `place`."""
        return ViewSink(
            self._index, self._view, self._client, self._entry, self.watch, place, self._lane.shown_model, self._rescue
        )

    async def _in_turn(self, ask: Ask) -> None:
        client, view, entry = self._client, self._view, self._entry
        tell = client.waits if view.streams else None
        turn = self._lane.turn(client.prefer_wait_s, self.watch.limits.wait_s, ask, tell)
        if not turn.enter():
            try:
                await turn.wait()
            finally:
                entry.waited_s = max(entry.waited_s, turn.waited_s)  # the answer's head tells it
                entry.place = max(entry.place, turn.place)
        try:
            if self._lane.queued is None:
                await self._at_a_place()
            else:
                await self._lane.queued.serve(self._index, self._job, ask, view, client, entry, self.watch)
        finally:
            turn.leave(view.tokens_of(self._index))

    def may_be_rescued(self) -> None:
        """What the client is shown is remembered from here on, where the answer may go on elsewhere."""
        lane, job = self._lane, self._job
        if lane.failover is not None and job.streams and len(lane.places.members) > 1 and not self._in_one_piece:
            self._rescue = Rescue(job, lane.failover.bytes_max)

    async def _at_a_place(self, begun: Place | None = None, fault: ApiError | None = None) -> None:
        """At one replica after the other: until one has begun to answer, and where that one fails, on to the next."""
        lane, entry, job, index = self._lane, self._entry, self._job, self._index
        places, session = lane.places, self._client.session
        ask = RouteAsk(job.body, f"{entry.tenant}:{session}" if session else "")
        if begun is None:
            self.may_be_rescued()
        rescue = self._rescue
        place = begun or places.take(ask) or await places.rest(ask, self.watch.limits.wait_s)
        while True:
            if place is not begun:
                arrive(entry, lane, place, index)
            try:
                if fault is not None:
                    met, fault = fault, None
                    raise met
                await self._ask_engine(place)
            except (EngineError, Unavailable) as error:
                entry.step(Failed(time.monotonic(), place.member.id, error.code, index))
                places.leave(place, "failed")
                if rescue is not None and rescue.began:
                    found = await self._elsewhere(rescue, error, place, ask)
                    if found is None:
                        return
                    place = found
                    continue
                if not places.may_retry(place, ask):
                    raise
                entry.retries += 1
                entry.note("retries", entry.retries)
                place = places.take(ask) or await places.rest(ask, self.watch.limits.wait_s)
            except ApiError:
                places.leave(place, "ok")
                if rescue is not None and rescue.error is not None:
                    raise self._cut_off("refused", rescue.error) from None
                raise
            except BaseException:
                places.leave(place, "neutral")
                raise
            else:
                # the tokens of this place alone
                places.leave(place, "ok", self._view.events_seen - (0 if rescue is None else rescue.tokens))
                return

    async def _elsewhere(self, rescue: Rescue, error: ApiError, place: Place, ask: RouteAsk) -> Place | None:
        """Where an answer goes on that broke off with `error`; None where only its end was missing. Raises `error`."""
        lane, view, entry, client, index = self._lane, self._view, self._entry, self._client, self._index
        settings, places = lane.failover, lane.places
        if settings is None:
            raise error
        step = rescue.onward(error, lane.engine, lane.tokens_guess(len(self._job.body)), settings.per_answer_max)
        if isinstance(step, Close) and step.guessed and (counted := await count(lane, self._job)) is not None:
            step = rescue.onward(error, lane.engine, counted, settings.per_answer_max)
        first = rescue.error or error
        if isinstance(step, Close):
            shown = view.events(index, step.events)
            if shown:
                client.write(shown)
            view.finished(index)
            return None
        if not isinstance(step, GoOn):
            raise self._cut_off(step.reason, first)
        if not places.may_go_on(place, ask):
            raise self._cut_off("nowhere to go", first)
        try:
            found = places.take(ask) or await places.rest(ask, settings.wait_s)
        except ApiError:
            raise self._cut_off("nowhere to go", first) from None
        entry.failovers += 1
        entry.note("failovers", entry.failovers)
        entry.step(WentOn(found.began_s, rescue.tokens, index))
        if view.streams:
            client.write(sse.went_on(entry.failovers))
        return found

    def _cut_off(self, reason: Reason, error: ApiError) -> ApiError:
        self._entry.step(CutOff(time.monotonic(), REASONS[reason], self._index))
        return error

    async def _ask_engine(self, place: Place) -> None:
        lane, view, rescue, index = self._lane, self._view, self._rescue, self._index
        job = self._job if rescue is None else rescue.job
        pool = place.member.pool
        if pool is None:
            raise lane.lost()
        body = job.body if lane.body_start is None else renamed(job.body, lane.body_start)
        if type(view) is DocumentView and lane.engine.documents:
            await self._ask_document(pool, job, whole(body), view)
            return
        if job.streams:
            self.watch.asked(place.began_s, pool.broken)
        reply = await pool.request(b"POST", job.path, body)
        if reply.status != 200:
            raise refusal(reply.status, pool.without_key(await reply.read(_REFUSAL_BYTES_MAX)), job, lane)
        if not job.streams:
            answer = await reply.read()
            place.begun()
            view.events(index, answer)
            view.finished(index)
            return
        client = self._client
        if view.streams:
            client.begin()
        sink = self.sink(place)
        self.watch.reply = reply
        client.attach(reply)
        sink.relay(reply)
        try:
            reply.pipe(sink)
            await sink.whole()
        finally:
            client.detach(reply)
            reply.abort()
        view.finished(index)

    @property
    def _in_one_piece(self) -> bool:
        return self._lane.engine.documents and type(self._view) is DocumentView

    async def _ask_document(self, pool: Pool, job: Job, body: bytes, view: DocumentView) -> None:
        """In one piece. Nothing is heard until it is there: of the limits of time only the total one holds."""
        lane = self._lane
        reply = await pool.request(b"POST", job.path, body, patient=True)
        answer = reply.whole or await reply.read()
        if reply.status != 200:
            raise refusal(reply.status, pool.without_key(answer[:_REFUSAL_BYTES_MAX]), job, lane)
        view.document(answer if lane.shown_model is None else answer.replace(*lane.shown_model))
