"""The other end of a queue in Redis: a worker beside an engine. It takes a job when it has a free slot, not before.

Theory of operation. Four loops, all of them connections that go out: `_pull` takes as many jobs as there are free slots
and waits for the bell where there are none; `_hear` is told what gateways want (cancel) and have read; `_publish`
writes what has come of all jobs since the last time, one script at a time, so that under load many pieces travel
together; `_beat` says that the worker is there, renews its leases, and finds those that are gone.

A job runs as in a gateway, through `dispatch/direct` and a lane of its own. Its engine's failure gives it back: it goes
on at another worker, from the pieces that are published, by the same rules as an answer whose replica dies
(`dispatch/failover.py`). What is refused for good goes to the client.

A worker that was away for longer than its lease has lost its jobs, whether it knows or not: Redis takes nothing of it
for an epoch that is over, and its next beat tells it to let go.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from inhouse.dispatch import direct
from inhouse.dispatch.announced import WHY_SILENT, About, dead_error
from inhouse.dispatch.contact import Contact
from inhouse.dispatch.failover import REASONS, Close, Stuck, onward
from inhouse.dispatch.lane import CONTEXT_UNKNOWN, Lane, Share
from inhouse.dispatch.prompts import count
from inhouse.dispatch.worker_job import RawView, Work
from inhouse.errors import ApiError, EngineError, InternalError, Unavailable
from inhouse.store.queue import Queue, Taken, plain
from inhouse.store.redis_calls import Commands, Run, run
from inhouse.telemetry.entry import Entry
from inhouse.wire.call import Call
from inhouse.wire.queued import parse_order, render_error
from inhouse.wire.sent import Sent

if TYPE_CHECKING:
    from inhouse.store.redis_link import Link
    from inhouse.store.sealing import Sealer

_BLOCK_S = 1.0
_LOOK_S = 0.25
_LAST_NOTES_S = 1.0
_STOPPING = "its worker stopped"
_SHARE = Share("queue")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job ended here, for the log: `done`, `refused`, `given up` or `lost`."""

    how: str
    attempts: int
    took_s: float
    events: int
    code: str = ""


class Worker:
    """See the module. `told` hears of each job that ended, `contact` why Redis is lost, and "" when it is back."""

    def __init__(
        self,
        lane: Lane,
        queue: Queue,
        link: Link,
        *,
        text_bytes_max: int,
        told: Callable[[Ended], None],
        contact: Callable[[str], None],
        fault: Callable[[BaseException], None],
        sealer: Sealer,
    ) -> None:
        self.id = f"{socket.gethostname()[:32]}-{os.urandom(4).hex()}"
        self.draining = False
        self.contact = Contact(contact, fault)
        self._lane = lane
        self._queue = queue
        self._link = link
        self._text_bytes_max = text_bytes_max
        self._told = told
        self._fault = fault
        self._sealer = sealer
        self._client: Commands = plain(link.connect())
        self._work: dict[str, Work] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self.ended: Counter[str] = Counter()
        """Jobs, by how they ended here."""

    @property
    def running(self) -> int:
        return len(self._work)

    @property
    def free(self) -> int:
        """Slots without a job."""
        if self.draining:
            return 0
        return self._lane.turns.queue.capacity - sum(1 for work in self._work.values() if work.busy)

    async def run(self) -> None:
        """Until it is cancelled; what it still has then goes back to the queue."""
        loops = (self._beat, self._pull, self._hear, self._publish)
        try:
            async with asyncio.TaskGroup() as group:
                for loop in loops:
                    group.create_task(self.contact.steadily(loop), name=f"worker-{self._lane.model}{loop.__name__}")
        finally:
            await self._hand_back()
            await self._client.aclose()

    async def drain(self, grace_s: float) -> None:
        """Takes nothing more; returns when all that it has is over, or after `grace_s`."""
        self.draining = True
        waiting = [work.over for work in self._work.values()]
        if waiting:
            await asyncio.wait(waiting, timeout=grace_s)

    # the loops
    async def _pull(self) -> None:
        free = self.free
        if free <= 0:
            self._room.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._room.wait()
            return
        taken = self._queue.taken((await run(self._client, [self._queue.take(self.id, free)]))[0])
        for one in taken:
            self._start(one)
        if not taken:
            await self._queue.bell(self._client, _BLOCK_S)

    async def _hear(self) -> None:
        told = await self._queue.told(self._client, self.id, _BLOCK_S)
        work = None if told is None else self._work.get(told[1])
        if told is None or work is None:
            return
        match told[0]:
            case "cancel":
                work.lose()
            case "read":
                work.read(told[2])

    async def _publish(self) -> None:
        found = [(work, piece) for work in self._work.values() if (piece := work.piece()) is not None]
        back = [work for work in self._work.values() if work.given_up and work.piece() is None and not work.lost]
        if not found and not back:
            self._news.clear()
            await self._news.wait()
            return
        runs = [self._back(work) for work in back]
        if found:
            runs.append(self._queue.publish([piece for _, piece in found]))
        answers = await run(self._client, runs)
        for work in back:
            work.lose()
        for (work, _), ours in zip(found, answers[-1] if found else (), strict=True):
            if ours:
                work.published()
            else:
                work.lose()

    async def _beat(self) -> None:
        jobs = [(work.id, work.epoch) for work in self._work.values() if not work.lost]
        lost = (await run(self._client, [self._queue.renew(self.id, self._about(), jobs)]))[0]
        self.contact.heard()
        for id in lost:
            if work := self._work.get(id.decode()):
                work.lose()
        if self.contact.there_s() > self._queue.limits.lease_s:
            error = dead_error(self._lane.model, self._queue.limits.attempts_max)
            await run(self._client, [self._queue.sweep(WHY_SILENT, error)])
        await asyncio.sleep(self._queue.limits.beat_s)

    # one job
    def _start(self, taken: Taken) -> None:
        work = self._work[taken.id] = Work(
            taken, window_bytes=self._queue.limits.window_bytes, seal=self._sealer.seal, news=self._news.set
        )
        work.task = task = asyncio.create_task(self._run(work, taken), name=f"job-{taken.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, work: Work, taken: Taken) -> None:
        began_s = time.monotonic()
        view = RawView()
        how, code = "done", ""
        try:
            try:
                view = await self._answer(work, taken, began_s)
            except asyncio.CancelledError:
                if work.lost or work.stopped_by is None:
                    raise
                how, code = "refused", work.stopped_by.code
                work.fail(render_error(work.stopped_by))
            except _CannotGoOn as error:
                how, code = "refused", error.code
                work.fail(render_error(error))
            except (EngineError, Unavailable) as error:
                how, code = "given up", error.code
                work.give_up(error.code, counted=True)
            except ApiError as error:
                how, code = "refused", error.code
                work.fail(render_error(error))
            except Exception as error:  # noqa: BLE001 - a fault of ours must not hang the client
                how, code = "refused", InternalError.code
                self._fault(error)
                work.fail(render_error(InternalError("an internal error; the log of the worker says more")))
            self._room.set()
            await work.over
        finally:
            how = "lost" if work.lost and how == "done" else how
            del self._work[work.id]
            self._room.set()
            self.ended[how] += 1
            self._told(Ended(how, work.attempts, time.monotonic() - began_s, view.events_seen, code))

    async def _answer(self, work: Work, taken: Taken, began_s: float) -> RawView:
        job = parse_order(self._sealer.open(taken.payload), whole=taken.seq > 0)
        view = RawView(streamed=job.streams)
        if taken.seq:
            sent = Sent(self._text_bytes_max)
            for data in await self._queue.answer(self._client, taken.id):
                sent.keep(self._sealer.open(data))
            step = onward(job, sent, self._lane.engine, self._lane.tokens_guess(len(job.body)))
            if isinstance(step, Close) and step.guessed and (counted := await count(self._lane, job)) is not None:
                step = onward(job, sent, self._lane.engine, counted)
            if taken.trimmed:
                step = Stuck("too long")
            if isinstance(step, Stuck):
                raise _CannotGoOn(f"the worker of this answer was lost, and it could not go on: {REASONS[step.reason]}")
            if isinstance(step, Close):
                work.end(step.events)
                return view
            job, view = step.job, RawView(step.splice)
        call = Call(self._lane.model, (job,), view)
        entry = Entry(taken.id, "queue", began_s)
        entry.model = self._lane.model
        await direct.answer(call, self._lane, _SHARE, work, entry)
        work.end(view.document)
        return view

    # the rest
    def _back(self, work: Work) -> Run:
        why, counted = work.given_up or (_STOPPING, False)
        error = dead_error(self._lane.model, self._queue.limits.attempts_max)
        return self._queue.give_up(work.id, work.epoch, why, error, counted=counted, avoid=self.id)

    async def _hand_back(self) -> None:
        """What is still here goes on elsewhere, and nobody looks for this worker any more."""
        left = [work for work in self._work.values() if not work.over.done()]
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        pieces = [piece for work in left if (piece := work.piece()) is not None]
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_LAST_NOTES_S):
                if pieces:
                    await run(self._client, [self._queue.publish(pieces)])
                if left:
                    await run(self._client, [self._back(work) for work in left])
                await self._queue.forget_worker(self._client, self.id)

    def _about(self) -> bytes:
        lane = self._lane
        context = lane.context_tokens
        return msgspec.json.encode(
            About(
                slots=0 if self.draining else lane.turns.queue.capacity,
                busy=sum(1 for work in self._work.values() if work.busy),
                context_tokens=context if context < CONTEXT_UNKNOWN else None,
                engine=lane.engine.name,
                host=socket.gethostname(),
            )
        )


class _CannotGoOn(EngineError):
    """Its beginning is with the client, and no engine can be asked for the rest."""
