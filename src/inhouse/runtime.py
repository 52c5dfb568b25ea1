"""Builds and closes the parts of one serving process. The only place where they are wired together."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from inhouse.config import Stack
from inhouse.core import ANONYMOUS, Endpoint, Identity, ReplicaReport, Report
from inhouse.dispatch.holdings import watch_process
from inhouse.dispatch.lane import Lane
from inhouse.dispatch.ways import Ways
from inhouse.engines.table import ENGINES
from inhouse.errors import InhouseError, ShuttingDown
from inhouse.parts import Parts, Shares, book_all
from inhouse.runtime_audit import auditing
from inhouse.runtime_auth import authenticator
from inhouse.runtime_fleet import fleet_of
from inhouse.runtime_lanes import lane_of, tell_of_outliers
from inhouse.runtime_sockets import socket_folder
from inhouse.runtime_stores import StoreWatch, share_answers, share_hints, troubles_of
from inhouse.store.stores import Stores
from inhouse.telemetry.alarm import Alarm
from inhouse.telemetry.collectors import LaneReading
from inhouse.telemetry.log import Log, place_of
from inhouse.telemetry.metrics import Metrics
from inhouse.telemetry.recent import Recent
from inhouse.tenancy.quotas import Quotas
from inhouse.threads import in_thread

if TYPE_CHECKING:
    from inhouse.runtime_residence import Keeper

TICK_S = 0.25
_CHECKPOINT_S = 1.0
_TICKS_PER_SWEEP = 4


@contextlib.asynccontextmanager
async def running(stack: Stack, environ: Mapping[str, str], report: Callable[[Report], None]) -> AsyncIterator[Parts]:
    """The parts, alive until the block ends: keys open, engines starting, clock ticking. Raises InhouseError."""
    _look_for_files(stack)
    async with contextlib.AsyncExitStack() as exits:
        log = Log(level=stack.log.level, form=stack.log.format)
        exits.callback(log.close)
        stores = Stores.of(stack, environ)
        audit = exits.enter_context(auditing(stack, stores, log))
        opened = exits.enter_context(contextlib.closing(stores.gateway()))
        alarm = Alarm(log)
        auth = authenticator(stack, environ, opened.keys, log, alarm, audit, report)
        quotas = Quotas(stack, opened.ledger, clock=opened.ledger.now, tell=alarm.state)
        exits.callback(quotas.close)
        lanes = {name: lane_of(name, spec) for name, spec in stack.models.items()}
        metrics = Metrics(functools.partial(_readings, lanes))
        clock = asyncio.get_running_loop().time
        ways = Ways(stack, lanes, log, metrics, audit, opened.routes, clock, seed=secrets.randbits(32))
        metrics.canaries = ways.readings
        metrics.watch_endpoints(functools.partial(_endpoints, lanes))
        metrics.watch_audit(audit.reading)
        identify = auth.identify if stack.auth.enabled else _anyone
        recent = Recent(requests_max=stack.explain.requests_max, bytes_max=stack.explain.bytes_max)
        parts = Parts(
            stack,
            identify,
            lanes,
            ways,
            Shares(stack),
            quotas,
            log,
            metrics,
            recent,
            alarm,
            stores,
            auth.refresh,
            audit,
        )
        exits.callback(book_all, parts)
        parts.recognise = auth.again if stack.auth.enabled else lambda proof: ANONYMOUS
        watch_process(metrics, lanes, quotas, connections=lambda: parts.connections(), straight=lambda: parts.straight)
        tell_of_ejections = functools.partial(tell_of_outliers, lanes, log, metrics)
        hints = stores.hints()
        if hints is not None:
            exits.callback(hints.close)
            tell_of_ejections = functools.partial(tell_of_outliers, lanes, log, metrics, hints.tell)
        shared = list(share_answers(stack, lanes, environ))
        for answers in shared:
            exits.push_async_callback(answers.close)
        parts.troubles = functools.partial(troubles_of, opened, shared, parts.concerns)
        parts.sweepers.append(StoreWatch(opened, parts.troubles, quotas, log, metrics).sweep)
        if opened.known is not None:
            loop = asyncio.get_running_loop()
            opened.known.on_change = lambda: loop.call_soon_threadsafe(auth.refresh)
            parts.catch_up = opened.known.look
        parts.sweepers += [auth.refresh, quotas.flush, ways.steering.sweep, tell_of_ejections]
        sockets = exits.enter_context(socket_folder())
        tasks = [
            asyncio.create_task(_tick(parts), name="tick"),
        ]
        if hints is not None:
            tasks.append(asyncio.create_task(share_hints(hints, stack, lanes), name="hints"))
        if opened.checkpoint is not None:
            tasks.append(asyncio.create_task(_checkpoint(opened.checkpoint), name="checkpoint"))
        for index, (name, spec) in enumerate(stack.models.items()):
            own = sockets / str(index)
            own.mkdir(mode=0o700)
            told = functools.partial(_told, parts, report)
            fault = functools.partial(_fault, parts, name)
            if spec.queued:
                from inhouse.runtime_queue import queued_of

                lanes[name].queued = queued = queued_of(stack, lanes[name], environ, told, fault)
                coroutine = queued.run()
            elif spec.source is None:
                trouble = functools.partial(_trouble, parts, name)
                fleet = fleet_of(stack, lanes[name], spec, environ, told, fault, trouble)
                parts.sweepers.append(fleet.sweep)
                coroutine = fleet.run()
            else:
                from inhouse.runtime_models import serve_model

                if parts.keeper is None:
                    parts.keeper = _keeper(stack, log, metrics)
                coroutine = serve_model(
                    lanes[name],
                    spec,
                    stack.weights,
                    spec.source,
                    own,
                    parts.keeper,
                    sweepers=parts.sweepers,
                    report=report,
                    tell=told,
                    fault=fault,
                )
            tasks.append(asyncio.create_task(coroutine, name=f"model-{name}"))
        exits.push_async_callback(_cancel, tasks)
        for lane in lanes.values():
            if lane.flights is not None:
                parts.sweepers.append(lane.flights.sweep)
                exits.push_async_callback(lane.flights.close)
        exits.push_async_callback(_close_door, parts)
        yield parts


def _anyone(authorization: bytes | None, x_api_key: bytes | None) -> Identity:
    return ANONYMOUS


def _endpoints(lanes: Mapping[str, Lane]) -> Iterator[tuple[str, Endpoint]]:
    for lane in lanes.values():
        for endpoint in lane.places.endpoints():
            yield lane.model, endpoint


def _readings(lanes: Mapping[str, Lane]) -> Iterator[LaneReading]:
    for lane in lanes.values():
        queue = lane.turns.queue
        kept = None if lane.flights is None else lane.flights.cache
        cached = (None, None) if kept is None else (len(kept), kept.bytes_kept)
        yield LaneReading(lane.model, lane.ready, lane.places.open_slots, queue.serving, queue.waiting, *cached)


def _told(parts: Parts, report: Callable[[Report], None], what: ReplicaReport) -> None:
    """A replica's state has changed."""
    report(what)
    flights = parts.lanes[what.model].flights
    if flights is not None and what.state not in ("ready", "stopped"):
        flights.forget()  # when it is back, its weights may be others
    if what.state == "restarting":
        parts.metrics.restarted(what.model)
    elif what.state == "failed" and parts.lanes[what.model].state == "failed":
        parts.lanes[what.model].dismiss()
    if parts.keeper is not None:
        parts.keeper.soon()
    parts.log.event(
        "info" if what.reason is None else "error",
        f"engine {what.state}",
        model=what.model,
        endpoint=what.endpoint or None,
        reason=what.reason,
        load_s=what.load_s,
    )


def _trouble(parts: Parts, model: str, reason: str) -> None:
    """Where the endpoints of a model are cannot be found out, or, without a reason, can be again."""
    parts.log.event("warning" if reason else "info", "endpoints looked up", model=model, reason=reason or None)


def _fault(parts: Parts, model: str, error: BaseException) -> None:
    parts.log.event("error", "internal error", model=model, fault=place_of(error))


def _keeper(stack: Stack, log: Log, metrics: Metrics) -> Keeper:
    from inhouse.runtime_residence import keeper_of
    from inhouse.telemetry.residence import ResidenceGauges

    keeper = keeper_of(stack, log)
    metrics.registry.register(ResidenceGauges(keeper.budgets, keeper.readings))
    return keeper


def _look_for_files(stack: Stack) -> None:
    """A file that is not there is a mistake to be told before all else. Raises WeightsError."""
    here = [spec for spec in stack.models.values() if spec.source is not None and not spec.queued]
    if not here:
        return
    from inhouse.weights.sources import is_here, obtain
    from inhouse.weights.wanted import silent, wanted_of

    for spec in here:
        if spec.source is not None and is_here(spec.source):
            wanted = wanted_of(spec, stack.weights, ENGINES[spec.engine].formats, silent)
            obtain(spec.source, replace(wanted, sha256=None))  # hashing takes its time: not before the door is open


async def _tick(parts: Parts) -> None:
    """The one clock: deadlines, sweeps, batches. An error in one of them stops neither it nor the others."""
    ticks = 0
    while True:
        parts.heartbeat_s = time.monotonic()
        work: list[Callable[[], object]] = [lane.tick for lane in parts.lanes.values()]
        if ticks % _TICKS_PER_SWEEP == 0:
            work += parts.sweepers
        if parts.keeper is not None:
            work.append(parts.keeper.look)
        work += [functools.partial(book_all, parts), parts.metrics.flush, parts.audit.flush]
        for one in work:
            try:
                one()
            except InhouseError as error:
                parts.alarm.state(error.message)
            except Exception as error:  # noqa: BLE001 - without its clock the gateway would seem to live and not do so
                parts.alarm.tell("internal error", fault=place_of(error))
        parts.log.flush()
        ticks += 1
        await asyncio.sleep(TICK_S)


async def _checkpoint(checkpoint: Callable[[], None]) -> None:
    """Keeps the copying of the database's log out of the requests. What cannot be written, `_tick` reports."""
    while True:
        await asyncio.sleep(_CHECKPOINT_S)
        with contextlib.suppress(InhouseError):
            await in_thread(checkpoint)


async def _close_door(parts: Parts) -> None:
    parts.stop_aside(ShuttingDown("this server is shutting down; retry in 5 s", retry_after_s=5.0))
    for close in parts.closers:
        await close()


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
