"""From a call straight to the engines of its lane: its jobs, each an errand, and what is kept or shared of them.

A job holds one slot while it runs. Calls of several jobs (choices, prompts, embeddings) run as many at once as there
are slots, never more, so that nothing queues inside an engine, where a hang-up would not be noticed.

Embeddings of one model go one at a time: llama.cpp b11549 cuts texts of unequal length that share a batch into pieces
and pools only the last piece of each, so two clients would change each other's vectors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from inhouse.dispatch.errand import Client, Errand
from inhouse.dispatch.flights import Flight, Flights
from inhouse.dispatch.follower import Follower
from inhouse.dispatch.lane import Lane, Share
from inhouse.dispatch.watch import Watch
from inhouse.errors import ApiError, WaitedTooLong
from inhouse.telemetry.entry import Entry
from inhouse.wire.call import Call, Job, View

__all__ = ["Client", "answer", "first_of"]


async def answer(call: Call, lane: Lane, share: Share, client: Client, entry: Entry) -> bytes:
    """Runs the jobs of a call; returns the closing bytes of its answer. Raises ApiError."""
    entry.cache = ""  # an earlier lane of its route may have said something
    jobs, view = call.jobs, call.view
    if len(jobs) == 1:
        job = jobs[0]
        await _run(0, job, view, lane, share, client, entry)
        lane.learn(len(job.body), view.usage.prompt_tokens)
    else:
        await _run_all(call, lane, share, client, entry)
    return view.end()


async def _run_all(call: Call, lane: Lane, share: Share, client: Client, entry: Entry) -> None:
    pending = iter(enumerate(call.jobs))

    async def work() -> None:
        for index, job in pending:
            await _run(index, job, call.view, lane, share, client, entry)

    alone = not call.jobs[0].streams and lane.engine.llama
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


def _run(
    index: int, job: Job, view: View, lane: Lane, share: Share, client: Client, entry: Entry
) -> Coroutine[Any, Any, None]:
    if lane.flights is None or not job.deterministic:
        return Errand(index, job, view, lane, share, client, entry).run()
    return _follow(lane.flights, index, job, view, lane, share, client, entry)


async def _follow(
    flights: Flights, index: int, job: Job, view: View, lane: Lane, share: Share, client: Client, entry: Entry
) -> None:
    """Takes the answer from wherever it comes: kept, being made for others, or made now."""
    limits = client.time_limits(lane.limits, kept_alive=view.streams and lane.turns.notices.every_s > 0)
    watch = Watch(lane.model, lane.limits, limits, entry.arrived_s, client.stop)

    async def generate(flight: Flight) -> None:
        await Errand(0, job, flight.recorder, lane, share, flight, flight.entry).run()

    def patience_s() -> float:
        return lane.patience_s(client.prefer_wait_s, limits.wait_s)

    lane.watches.add(watch)
    try:
        await flights.follow(Follower(index, view, client, entry, watch), job, share.tenant, patience_s, generate)
    except WaitedTooLong as error:
        raise lane.late(error, limits.wait_s) from None
    finally:
        lane.watches.discard(watch)
