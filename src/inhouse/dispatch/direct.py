"""From a call straight to an engine of its lane: slot, request, stream, and everything given back in reverse.

A job holds one slot while it runs. Calls of several jobs (choices, prompts, embeddings) run as many at once as there
are slots, never more, so that nothing queues inside an engine, where a hang-up would not be noticed.

Embeddings of one model go one at a time: llama.cpp b11549 cuts texts of unequal length that share a batch into pieces
and pools only the last piece of each, so two clients would change each other's vectors.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Protocol, TypeGuard

import msgspec

from inhouse.admission.notices import Standing
from inhouse.admission.turns import Ask
from inhouse.dispatch.failover import REASONS, Close, GoOn, Reason, Rescue
from inhouse.dispatch.flights import Flight, Flights
from inhouse.dispatch.follower import Follower, Source
from inhouse.dispatch.lane import Lane, Share
from inhouse.dispatch.picked import picked
from inhouse.dispatch.places import Place
from inhouse.dispatch.sink import ViewSink
from inhouse.dispatch.upstream import renamed
from inhouse.dispatch.watch import TimeLimits, Watch
from inhouse.engines.http import Pool
from inhouse.errors import (
    ApiError,
    BadRequest,
    ContextTooLong,
    EngineError,
    ModelLoading,
    Unavailable,
    WaitedTooLong,
)
from inhouse.routing.router import RouteAsk
from inhouse.telemetry.entry import Entry
from inhouse.telemetry.story import Asked, CutOff, Failed, WentOn
from inhouse.wire import sse
from inhouse.wire.call import Call, Job, View
from inhouse.wire.openai_chat import whole
from inhouse.wire.views import DocumentView

_REFUSAL_BYTES_MAX = 256 * 1024
_MISCONFIGURED = (401, 403, 404, 405, 407, 408)
"""What an engine says to a gateway that asks in the wrong place or with the wrong key: no client can mend that."""


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

    def attach(self, source: Source) -> None:
        """While the client reads too slowly, `source` is paused."""

    def detach(self, source: Source) -> None: ...


async def answer(call: Call, lane: Lane, share: Share, client: Client, entry: Entry) -> bytes:
    """Runs the jobs of a call; returns the closing bytes of its answer. Raises ApiError."""
    entry.cache = ""  # an earlier lane of its route may have said something
    jobs, view = call.jobs, call.view
    if len(jobs) == 1:
        await _run(0, jobs[0], view, lane, share, client, entry)
        lane.learn(len(jobs[0].body), view.usage.prompt_tokens)
    else:
        await _run_all(call, lane, share, client, entry)
    return view.end()


async def _run_all(call: Call, lane: Lane, share: Share, client: Client, entry: Entry) -> None:
    pending = iter(enumerate(call.jobs))

    async def work() -> None:
        for index, job in pending:
            await _run(index, job, call.view, lane, share, client, entry)

    alone = not call.jobs[0].streams
    workers = 1 if alone else min(len(call.jobs), max(1, lane.turns.queue.capacity))
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(work())
    except* ApiError as failures:
        raise first_of(failures) from None


def first_of(failures: BaseExceptionGroup[ApiError]) -> ApiError:
    """The first error of a group, however deep."""
    error: BaseException = failures
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if not isinstance(error, ApiError):
        raise error
    return error


async def _run(index: int, job: Job, view: View, lane: Lane, share: Share, client: Client, entry: Entry) -> None:
    if lane.flights is None or not job.deterministic:
        await _generate(index, job, view, lane, share, client, entry)
    else:
        await _follow(lane.flights, index, job, view, lane, share, client, entry)


async def _follow(
    flights: Flights, index: int, job: Job, view: View, lane: Lane, share: Share, client: Client, entry: Entry
) -> None:
    """Takes the answer from wherever it comes: kept, being made for others, or made now."""
    limits = client.time_limits(lane.limits, kept_alive=view.streams and lane.turns.notices.every_s > 0)
    watch = Watch(lane.model, lane.limits, limits, entry.arrived_s, client.stop)

    async def generate(flight: Flight) -> None:
        await _generate(0, job, flight.recorder, lane, share, flight, flight.entry)

    def patience_s() -> float:
        return lane.patience_s(client.prefer_wait_s, limits.wait_s)

    lane.watches.add(watch)
    try:
        await flights.follow(Follower(index, view, client, entry, watch), job, share.tenant, patience_s, generate)
    except WaitedTooLong as error:
        raise lane.late(error, limits.wait_s) from None
    finally:
        lane.watches.discard(watch)


async def _generate(index: int, job: Job, view: View, lane: Lane, share: Share, client: Client, entry: Entry) -> None:
    limits = client.time_limits(lane.limits, kept_alive=view.streams and lane.turns.notices.every_s > 0)
    watch = Watch(lane.model, lane.limits, limits, entry.arrived_s, client.stop)
    ask = lane.ask(job, share)
    lane.watches.add(watch)
    try:
        if job.streams:
            await _in_turn(index, job, ask, view, lane, client, entry, watch)
        else:
            async with lane.turn_alone(client.prefer_wait_s, limits.wait_s, ask):
                await _in_turn(index, job, ask, view, lane, client, entry, watch)
    except WaitedTooLong as error:
        raise lane.late(error, limits.wait_s) from None
    finally:
        lane.watches.discard(watch)


async def _in_turn(
    index: int, job: Job, ask: Ask, view: View, lane: Lane, client: Client, entry: Entry, watch: Watch
) -> None:
    tell = client.waits if view.streams else None
    turn = lane.turn(client.prefer_wait_s, watch.limits.wait_s, ask, tell)
    try:
        async with turn:
            if turn.waited_s > entry.waited_s:
                entry.waited_s = turn.waited_s  # the answer's head tells it
            try:
                await _at_a_place(index, job, view, lane, client, entry, watch)
            finally:
                turn.tokens_used = view.tokens_of(index)
    finally:
        if turn.place:  # it had to wait
            entry.waited_s = max(entry.waited_s, turn.waited_s)
            entry.place = max(entry.place, turn.place)


async def _at_a_place(index: int, job: Job, view: View, lane: Lane, client: Client, entry: Entry, watch: Watch) -> None:
    """At one replica after the other: until one has begun to answer, and where that one fails, on to the next."""
    places = lane.places
    ask = RouteAsk(job.body, f"{entry.tenant}:{client.session}" if client.session else "")
    rescue = None
    if job.streams and lane.failover is not None and len(places.members) > 1 and not _in_one_piece(view, lane):
        rescue = Rescue(job, lane.failover.bytes_max)
    place = places.take(ask) or await places.rest(ask, watch.limits.wait_s)
    while True:
        if place.pick is not None and lane.router is not None and len(places.members) > 1:
            entry.step(picked(place, place.pick, lane.router.settings.policy))
        entry.step(Asked(place.began_s, place.member.id, index))
        try:
            await _ask_engine(index, job, view, lane, client, entry, watch, place, rescue)
        except (EngineError, Unavailable) as error:
            entry.step(Failed(time.monotonic(), place.member.id, error.code, index))
            places.leave(place, "failed")
            if rescue is not None and rescue.began:
                found = await _elsewhere(index, rescue, error, place, ask, view, lane, client, entry)
                if found is None:
                    return
                place = found
                continue
            if not places.may_retry(place, ask):
                raise
            entry.retries += 1
            entry.note("retries", entry.retries)
            place = places.take(ask) or await places.rest(ask, watch.limits.wait_s)
        except ApiError:
            places.leave(place, "ok")
            if rescue is not None and rescue.error is not None:
                raise _cut_off(entry, index, "refused", rescue.error) from None
            raise
        except BaseException:
            places.leave(place, "neutral")
            raise
        else:
            places.leave(place, "ok", view.events_seen - (0 if rescue is None else rescue.tokens))  # its own
            return


async def _elsewhere(
    index: int,
    rescue: Rescue,
    error: ApiError,
    place: Place,
    ask: RouteAsk,
    view: View,
    lane: Lane,
    client: Client,
    entry: Entry,
) -> Place | None:
    """Where an answer goes on that broke off with `error`; None where only its end was missing. Raises `error`."""
    settings, places = lane.failover, lane.places
    if settings is None:
        raise error
    step = rescue.onward(error, lane.engine, lane.tokens_guess(len(rescue.job.body)), settings.per_answer_max)
    first = rescue.error or error
    if isinstance(step, Close):
        shown = view.events(index, step.events)
        if shown:
            client.write(shown)
        view.finished(index)
        return None
    if not isinstance(step, GoOn):
        raise _cut_off(entry, index, step.reason, first)
    if not places.may_go_on(place, ask):
        raise _cut_off(entry, index, "nowhere to go", first)
    try:
        found = places.take(ask) or await places.rest(ask, settings.wait_s)
    except ApiError:
        raise _cut_off(entry, index, "nowhere to go", first) from None
    entry.failovers += 1
    entry.note("failovers", entry.failovers)
    entry.step(WentOn(found.began_s, rescue.tokens, index))
    if view.streams:
        client.write(sse.went_on(entry.failovers))
    return found


def _cut_off(entry: Entry, index: int, reason: Reason, error: ApiError) -> ApiError:
    entry.step(CutOff(time.monotonic(), REASONS[reason], index))
    return error


async def _ask_engine(
    index: int,
    job: Job,
    view: View,
    lane: Lane,
    client: Client,
    entry: Entry,
    watch: Watch,
    place: Place,
    rescue: Rescue | None,
) -> None:
    if rescue is not None:
        job = rescue.job
    pool = place.member.pool
    if pool is None:
        raise lane.lost()
    body = job.body if lane.body_start is None else renamed(job.body, lane.body_start)
    if _in_one_piece(view, lane):
        await _ask_document(pool, job, whole(body), view, lane)
        return
    if job.streams:
        watch.asked(place.began_s, pool.broken)
    reply = await pool.request(b"POST", job.path, body)
    if reply.status != 200:
        raise _refusal(reply.status, pool.without_key(await reply.read(_REFUSAL_BYTES_MAX)), job, lane)
    if not job.streams:
        answer = await reply.read()
        place.first_s = time.monotonic()
        view.events(index, answer)
        view.finished(index)
        return
    if view.streams:
        client.begin()
    sink = ViewSink(index, view, client, entry, watch, place, lane.shown_model, rescue)
    watch.reply = reply
    client.attach(reply)
    try:
        reply.pipe(sink)
        await sink.whole()
    finally:
        client.detach(reply)
        reply.abort()
    view.finished(index)


def _in_one_piece(view: View, lane: Lane) -> TypeGuard[DocumentView]:
    return lane.engine.documents and type(view) is DocumentView


async def _ask_document(pool: Pool, job: Job, body: bytes, view: DocumentView, lane: Lane) -> None:
    """The answer in one piece. Nothing is heard until it is there: of the limits of time only the total one holds."""
    reply = await pool.request(b"POST", job.path, body, patient=True)
    answer = await reply.read()
    if reply.status != 200:
        raise _refusal(reply.status, pool.without_key(answer[:_REFUSAL_BYTES_MAX]), job, lane)
    view.document(answer if lane.shown_model is None else answer.replace(*lane.shown_model))


# "input (612 tokens) is too large to process. increase the physical batch size (current batch size: 512)"
_ONE_PASS = re.compile(r"\((\d+) tokens\) is too large to process\D*(\d+)")


class _EngineRefusal(msgspec.Struct):
    message: str = ""
    type: str = ""
    n_prompt_tokens: int | None = None
    n_ctx: int | None = None


class _EngineRefusalBody(msgspec.Struct):
    error: _EngineRefusal


def _refusal(status: int, body: bytes, job: Job, lane: Lane) -> ApiError:
    """An engine's refusal as an error of ours: the client's fault where the engine says so."""
    try:
        told = msgspec.json.decode(body, type=_EngineRefusalBody).error
    except msgspec.DecodeError:
        if status in (429, 503):
            return Unavailable(f"the engines of '{lane.model}' have no room now; retry in 2 s", retry_after_s=2.0)
        return EngineError(f"the engine of '{lane.model}' answered with status {status}")
    if told.n_prompt_tokens is not None and told.n_ctx is not None:
        return ContextTooLong(told.n_prompt_tokens, told.n_ctx, param=job.prompt_param)
    if status == 503 and lane.engine.llama:
        return ModelLoading(f"the model '{lane.model}' is still loading; retry in 2 s", retry_after_s=2.0)
    if status in (429, 503):
        return Unavailable(f"the engines of '{lane.model}' have no room now; retry in 2 s", retry_after_s=2.0)
    if status in _MISCONFIGURED and lane.body_start is not None:
        return EngineError(
            f"an engine of '{lane.model}' refused the gateway itself with status {status}: its `endpoints`, `api_key` "
            "or `upstream_model` in inhouse.yaml may be wrong"
        )
    if one_pass := _ONE_PASS.search(told.message):
        return BadRequest(
            f"the input has {one_pass[1]} tokens, one embedding takes {one_pass[2]}; shorten it, or give the model "
            f"`engine_args: [--ubatch-size, '{one_pass[1]}']` in inhouse.yaml",
            param=job.prompt_param,
        )
    if 400 <= status < 500 or status == 501:
        return BadRequest(told.message or f"the engine refused the request with status {status}")
    return EngineError(f"the engine of '{lane.model}' failed: {told.message or f'status {status}'}")
