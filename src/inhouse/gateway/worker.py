"""Runs a worker: event loop, signals, a port for probes where wanted, and a clean end.

SIGTERM drains: jobs go on for up to `gateway.drain`, then the rest goes back to the queue. Ctrl-C (SIGINT) hands them
back at once. A second signal of either kind ends the process immediately; its lease says the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping

import msgspec
import uvloop

from inhouse.config import Stack
from inhouse.core import Report, WorkerReport
from inhouse.gateway import heap
from inhouse.gateway.liveness import Page, liveness
from inhouse.runtime_worker import WorkerParts, working
from inhouse.store.redis_link import link_of
from inhouse.telemetry.metrics import CONTENT_TYPE
from inhouse.telemetry.worker import WorkerMetrics, WorkerReading


def work(
    stack: Stack,
    *,
    environ: Mapping[str, str],
    report: Callable[[Report], None],
    only: frozenset[str] = frozenset(),
    health: tuple[str, int] | None = None,
) -> int:
    """Works until told to stop; returns the exit code. Blocking. Raises InhouseError if it cannot begin."""
    heap.prepare()
    return uvloop.run(_work(stack, environ, report, only, health))


async def _work(
    stack: Stack,
    environ: Mapping[str, str],
    report: Callable[[Report], None],
    only: frozenset[str],
    health: tuple[str, int] | None,
) -> int:
    shown = link_of(stack.queue, environ, "queue").shown
    async with contextlib.AsyncExitStack() as exits:
        parts = await exits.enter_async_context(working(stack, environ, report, only))
        url = ""
        if health is not None:
            host, port = health
            port = exits.enter_context(liveness(parts, host, port, where="--health-port", pages=_pages(parts)))
            url = f"http://{host}:{port}"
        stop = exits.enter_context(_signals())
        report(WorkerReport("working", queue=shown, models=tuple(parts.lanes), health_url=url))
        number = await stop
        running = sum(worker.running for worker in parts.workers.values())
        report(WorkerReport("draining", queue=shown, running=running))
        await parts.drain(stack.gateway.drain if number == signal.SIGTERM else 0.0)
    report(WorkerReport("stopped", queue=shown))
    return 0


@contextlib.contextmanager
def _signals():  # type: ignore[no-untyped-def]
    """A future of the first signal; the second one ends the process."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[int] = loop.create_future()

    def stop(number: int) -> None:
        if told.done():
            os._exit(128 + number)
        told.set_result(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, stop, number)
    try:
        yield told
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _pages(parts: WorkerParts) -> dict[str, Page]:
    metrics = WorkerMetrics(lambda: [_reading(parts, name) for name in parts.lanes])

    def ready() -> tuple[int, str, bytes]:
        body = {
            "status": "ok" if parts.ready else "draining" if parts.draining else "not ready",
            "models": {name: lane.state for name, lane in parts.lanes.items()},
            "queue": {name: worker.contact.reason or "ok" for name, worker in parts.workers.items()},
        }
        return 200 if parts.ready else 503, "application/json", msgspec.json.encode(body)

    return {"/health/ready": ready, "/metrics": lambda: (200, CONTENT_TYPE, metrics.text())}


def _reading(parts: WorkerParts, name: str) -> WorkerReading:
    worker = parts.workers[name]
    slots = parts.lanes[name].turns.queue.capacity
    return WorkerReading(name, slots, worker.running, worker.contact.there_since_s is not None, worker.ended)
