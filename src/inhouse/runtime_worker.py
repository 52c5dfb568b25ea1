"""Builds and closes the parts of a worker's process: lanes with engines as in a gateway, and no door but its queue."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inhouse.config import ModelSpec, Stack
from inhouse.core import ReplicaReport, Report
from inhouse.dispatch.lane import Lane
from inhouse.dispatch.worker import Ended, Worker
from inhouse.errors import InhouseError, StackError
from inhouse.runtime_fleet import fleet_of
from inhouse.runtime_lanes import lane_of
from inhouse.runtime_models import serve_model
from inhouse.runtime_queue import worker_of
from inhouse.runtime_residence import Keeper, keeper_of
from inhouse.runtime_sockets import socket_folder
from inhouse.telemetry.log import Log, place_of

_TICK_S = 0.25
_TICKS_PER_SWEEP = 4
_ENDLESS = 1 << 40


@dataclass(slots=True)
class WorkerParts:
    """What one worker's process is made of."""

    stack: Stack
    log: Log
    lanes: Mapping[str, Lane]
    workers: Mapping[str, Worker]
    keeper: Keeper
    sweepers: list[Callable[[], None]] = field(default_factory=list)
    draining: bool = False
    heartbeat_s: float = 0.0
    """time.monotonic() of the last tick: how long ago the event loop was last seen alive."""

    @property
    def ready(self) -> bool:
        """Whether it takes jobs: some engine is ready, and its queue within reach."""
        return not self.draining and any(
            lane.ready and self.workers[name].contact.there_since_s is not None for name, lane in self.lanes.items()
        )

    async def drain(self, grace_s: float) -> None:
        """Takes no more jobs; returns when those that it has are over, or after `grace_s`."""
        self.draining = True
        await asyncio.gather(*(worker.drain(grace_s) for worker in self.workers.values()))


@contextlib.asynccontextmanager
async def working(
    stack: Stack, environ: Mapping[str, str], report: Callable[[Report], None], only: frozenset[str] = frozenset()
) -> AsyncIterator[WorkerParts]:
    """The parts, alive until the block ends: engines starting, jobs taken as soon as one is ready.

    `only`: of the queued models these; empty is all. Raises InhouseError.
    """
    queued = {name: spec for name, spec in stack.models.items() if spec.queued and (not only or name in only)}
    specs = {name: _alone(spec) for name, spec in queued.items()}
    for name, spec in specs.items():
        if spec.source is None and not spec.endpoints:
            raise StackError(
                f"`models.{name}` says nothing of an engine for this worker",
                where=f"models.{name}",
                hint="give it a `source`, or `endpoints` of engines that run already",
            )
    async with contextlib.AsyncExitStack() as exits:
        log = Log(level=stack.log.level, form=stack.log.format)
        exits.callback(log.close)
        lanes = {name: lane_of(name, spec) for name, spec in specs.items()}
        workers: dict[str, Worker] = {}
        parts = WorkerParts(stack, log, lanes, workers, keeper_of(stack, log))
        for name, lane in lanes.items():
            workers[name] = worker_of(
                stack,
                lane,
                environ,
                told=functools.partial(_ended, log, name),
                contact=functools.partial(_contact, log, name),
                fault=functools.partial(_fault, log, name),
            )
        sockets = exits.enter_context(socket_folder())
        tasks = [asyncio.create_task(_tick(parts), name="tick")]
        for index, (name, spec) in enumerate(specs.items()):
            (sockets / str(index)).mkdir(mode=0o700)
            coroutine = _engines(parts, name, spec, sockets / str(index), environ, report)
            tasks.append(asyncio.create_task(coroutine, name=f"model-{name}"))
        exits.push_async_callback(_cancel, tasks)
        pulling = [asyncio.create_task(worker.run(), name=f"worker-{name}") for name, worker in workers.items()]
        exits.push_async_callback(_cancel, pulling)  # first of all: what they have is handed back
        yield parts


def _alone(spec: ModelSpec) -> ModelSpec:
    """The model as a worker runs it: nothing queues here, and an answer that breaks off goes on through the queue.

    A worker takes jobs of models that are ready: one that slept would never be asked for.
    """
    failover = spec.failover.model_copy(update={"enabled": False})
    cache = spec.cache.model_copy(update={"enabled": False})
    changes: dict[str, Any] = {"queued": False, "prefill_long": _ENDLESS, "failover": failover, "cache": cache}
    changes |= {"load": "at_start", "sleep_after": None}
    return spec.model_copy(update=changes)


async def _engines(
    parts: WorkerParts,
    name: str,
    spec: ModelSpec,
    folder: Path,
    environ: Mapping[str, str],
    report: Callable[[Report], None],
) -> None:
    lane = parts.lanes[name]
    tell = functools.partial(_told, parts.log, report)
    fault = functools.partial(_fault, parts.log, name)
    if spec.source is None:
        fleet = fleet_of(parts.stack, lane, spec, environ, tell, fault, functools.partial(_trouble, parts.log, name))
        parts.sweepers.append(fleet.sweep)
        await fleet.run()
        return
    weights = parts.stack.weights
    await serve_model(
        lane,
        spec,
        weights,
        spec.source,
        folder,
        parts.keeper,
        sweepers=parts.sweepers,
        report=report,
        tell=tell,
        fault=fault,
    )


async def _tick(parts: WorkerParts) -> None:
    """The one clock: what has taken too long, silent engines, the log."""
    ticks = 0
    while True:
        parts.heartbeat_s = time.monotonic()
        work = [lane.tick for lane in parts.lanes.values()]
        if ticks % _TICKS_PER_SWEEP == 0:
            work += parts.sweepers
        for one in [*work, parts.keeper.look]:
            try:
                one()
            except InhouseError as error:
                parts.log.event("error", error.message)
            except Exception as error:  # noqa: BLE001 - without its clock the worker would seem to live and not do so
                parts.log.event("error", "internal error", fault=place_of(error))
        parts.log.flush()
        ticks += 1
        await asyncio.sleep(_TICK_S)


def _told(log: Log, report: Callable[[Report], None], what: ReplicaReport) -> None:
    report(what)
    log.event(
        "info" if what.reason is None else "error",
        f"engine {what.state}",
        model=what.model,
        endpoint=what.endpoint or None,
        reason=what.reason,
        load_s=what.load_s,
    )


def _ended(log: Log, model: str, ended: Ended) -> None:
    log.event(
        "info" if ended.how == "done" else "warning",
        f"job {ended.how}",
        model=model,
        attempts=ended.attempts,
        took_s=round(ended.took_s, 3),
        events=ended.events,
        code=ended.code or None,
    )


def _contact(log: Log, model: str, reason: str) -> None:
    log.event(
        "warning" if reason else "info",
        "the queue is away" if reason else "the queue is there again",
        model=model,
        reason=reason or None,
    )


def _trouble(log: Log, model: str, reason: str) -> None:
    log.event("warning" if reason else "info", "endpoints looked up", model=model, reason=reason or None)


def _fault(log: Log, model: str, error: BaseException) -> None:
    log.event("error", "internal error", model=model, fault=place_of(error))


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
