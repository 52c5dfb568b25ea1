"""Works at batches: claims them one by one, sends their lines as requests of class `batch`, keeps what comes back.

Theory of operation. One task looks for batches that nobody works at and gives each a task of its own. A line is sent
only while its model has a slot free and nobody waits for one: batches live in the gaps. Each result is kept before its
line counts as done; a gateway that dies loses only what was under way, and whoever claims the batch when its lease has
run out goes on with the rest. Results become files once all lines have one, or the time is over, or it was cancelled.

    validating → in_progress → finalizing → completed
         ↓            ↓ ↘ (time over)  →  → → expired
       failed     cancelling  →  →  →  →  →  cancelled
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from inhouse.config.batches import BatchesSpec
from inhouse.core import Identity
from inhouse.core_batch import BatchObject, Counts, LineProblem, Problems, Status
from inhouse.dispatch.batch import Todo
from inhouse.dispatch.lane import Share
from inhouse.errors import ApiError, InhouseError
from inhouse.gateway.apis import APIS
from inhouse.gateway.aside import Aside
from inhouse.gateway.batch_files import write_results
from inhouse.parts import Parts
from inhouse.store.batches import Batches, BatchRecord
from inhouse.store.blobs import Blobs
from inhouse.telemetry.log import place_of
from inhouse.threads import in_thread
from inhouse.wire import batches as wire
from inhouse.wire.batches import Line

_T = TypeVar("_T")
_LOOK_S = 1.0
_GAP_S = 0.05
_PAGE_LINES = 200
_PROBLEMS_MAX = 100


@dataclass(slots=True)
class _Answer:
    """A `Sink` of one line."""

    status: int = 0
    body: bytes = b""
    error: ApiError | None = None

    def waits(self, standing: object) -> None:
        return None

    def events(self, data: bytes) -> None:
        return None

    def closed(self, data: bytes) -> None:
        return None

    def document(self, body: bytes) -> None:
        self.status, self.body = 200, body

    def refused(self, status: int, body: bytes, error: ApiError) -> None:
        self.status, self.body, self.error = status, body, error


class BatchRunner:
    """See the module. `run` until it is cancelled."""

    def __init__(self, parts: Parts, spec: BatchesSpec, batches: Batches, blobs: Blobs) -> None:
        self._parts, self._spec, self._batches, self._blobs = parts, spec, batches, blobs
        self._owner = parts.request_ids.new()
        self._room = asyncio.Semaphore(spec.requests_max)
        self._news = asyncio.Event()
        self._at_work: dict[str, asyncio.Task[None]] = {}
        self._works: set[_Work] = set()
        self.sent: Counter[str] = Counter()
        """Lines under way, of all batches here, by model: a slot is taken only some time after one was sent."""

    def look(self) -> None:
        """There is a new batch, or one was cancelled."""
        self._news.set()
        for work in self._works:
            work.news.set()

    async def run(self) -> None:
        try:
            while True:
                self._news.clear()
                with self._told():
                    while record := await self._claimed():
                        self._begin(record)
                    await in_thread(self._tidy)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_S):
                        await self._news.wait()
        finally:
            tasks = dict(self._at_work)
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)
            with contextlib.suppress(InhouseError):
                for id in tasks:
                    self._batches.release(id, self._owner)

    async def _claimed(self) -> BatchRecord | None:
        lease_s = self._spec.lease
        return await in_thread(lambda: self._batches.claim(self._owner, time.time(), lease_s))

    def _begin(self, record: BatchRecord) -> None:
        id = record.state.id
        task = self._at_work[id] = asyncio.create_task(self._work(record), name=f"batch {id}")
        task.add_done_callback(lambda done: self._at_work.pop(id, None))

    async def _work(self, record: BatchRecord) -> None:
        work = _Work(self, record)
        self._works.add(work)
        try:
            with self._told():
                await work.run()
        finally:
            self._works.discard(work)

    def _tidy(self) -> None:
        """Files whose time is over, and batches that ended long ago."""
        now = int(time.time())
        for id in self._batches.outdated_files(now):
            self._blobs.remove(id)
            self._batches.remove_file(id)
        self._batches.forget_before(now - int(self._spec.files_kept))

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What cannot be read or written is told, and tried again later; so is a fault of ours."""
        try:
            yield
        except InhouseError as error:
            self._parts.alarm.state(error.message)
        except Exception as error:  # noqa: BLE001 - one batch that fails in a new way must not end all others
            self._parts.alarm.tell("internal error", fault=place_of(error))


class _Work:
    """One batch, while it is ours."""

    def __init__(self, runner: BatchRunner, record: BatchRecord) -> None:
        self._parts, self._spec = runner._parts, runner._spec
        self._batches, self._blobs = runner._batches, runner._blobs
        self._owner, self._room, self._sent = runner._owner, runner._room, runner.sent
        self._record, self._state = record, record.state
        caller = record.caller
        self._identity = Identity(
            caller.key_id, caller.tenant, frozenset(caller.roles), tuple(caller.models), tuple(caller.limits)
        )
        weight = self._parts.shares.of(caller.tenant).weight
        self._share = Share(caller.tenant, weight, "batch")
        self._results: list[tuple[int, bool, bytes]] = []
        self._lines: dict[int, bytes] = {}
        self._under_way: set[asyncio.Task[None]] = set()
        self._lost = False
        self.news = asyncio.Event()

    async def run(self) -> None:
        if self._state.status == "validating" and not await self._validate():
            return
        beating = asyncio.create_task(self._beat())
        try:
            if self._state.status == "in_progress":
                await self._go_through()
            if not self._lost:
                await self._finalize()
        finally:
            beating.cancel()
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(beating, *self._under_way, return_exceptions=True)

    # validating
    async def _validate(self) -> bool:
        """Whether it can be begun; else it has failed, and says with which lines."""
        problems: list[LineProblem] = []
        names: set[str] = set()
        total = 0
        async for number, text in self._each_line():
            if len(problems) >= _PROBLEMS_MAX:
                break
            if not text.strip():
                problems.append(LineProblem(code="empty_line", message="the line is empty", line=number + 1))
                continue
            total += 1
            try:
                one = wire.line(text, self._state.endpoint)
            except ValueError as error:
                problems.append(LineProblem(code="invalid_request", message=str(error), line=number + 1))
                continue
            if one.custom_id in names:
                told = "its `custom_id` is that of an earlier line"
                problems.append(LineProblem(code="duplicate_custom_id", message=told, line=number + 1))
            names.add(one.custom_id)
            if total > self._spec.lines_max:
                told = f"a batch has at most {self._spec.lines_max} requests; send the rest as another one"
                problems.append(LineProblem(code="too_many_requests", message=told))
                break
        if not total and not problems:
            problems.append(LineProblem(code="empty_file", message="the file has no line"))

        def begin(state: BatchObject) -> BatchObject:
            if state.status != "validating":
                return state
            now = int(time.time())
            if problems:
                state.status, state.failed_at, state.errors = "failed", now, Problems(data=problems[:_PROBLEMS_MAX])
            else:
                state.status, state.in_progress_at, state.request_counts = "in_progress", now, Counts(total)
            return state

        await self._change(begin)
        return not self._lost and self._state.status != "failed"

    # in progress
    async def _go_through(self) -> None:
        done = await in_thread(lambda: self._batches.done(self._state.id))
        todo = Todo(self._state.request_counts.total, done, self._spec.attempts_max)
        lines = self._each_line()
        read = -1
        while self._goes_on:
            number = todo.take(time.monotonic())
            if number is None:
                if todo.over:
                    break
                await asyncio.sleep(_GAP_S)
                continue
            while read < number:  # lines come in their order; those that are tried again are kept
                read, text = await anext(lines)
                if read == number:
                    self._lines[read] = text
            model = wire.model_of(wire.line(self._lines[number], self._state.endpoint))
            await self._gap(model)
            await self._room.acquire()
            self._sent[model] += 1
            task = asyncio.create_task(self._send(number, self._lines[number], model, todo))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        while self._under_way and self._goes_on:
            await asyncio.wait(self._under_way, timeout=_LOOK_S)
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._keep()
        if self._parts.draining:
            self._lost = True  # whoever claims it next goes on
        if not self._lost and not todo.over:
            await self._give_back(todo)

    async def _gap(self, model: str) -> None:
        """Waits until the model has a slot that nobody waits for."""
        lane = self._parts.lanes.get(model)
        if lane is None:
            return  # a route's name: its lanes are known only once it is asked for
        queue = lane.turns.queue
        while self._goes_on:
            free = max(1, queue.capacity - self._spec.spare_slots)
            if lane.ready and not queue.waiting and max(queue.serving, self._sent[model]) < free:
                return
            if not lane.ready and (lane.admits or lane.failure):
                return  # it comes when it is asked for, or will never come
            await asyncio.sleep(_GAP_S)

    async def _send(self, number: int, text: bytes, model: str, todo: Todo) -> None:
        try:
            line = wire.line(text, self._state.endpoint)
            answer = _Answer()
            api = APIS[line.url.encode()]
            aside = Aside(self._parts, api, bytes(line.body), answer, self._identity, share=self._share)
            task = aside.start()
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                raise
            await self._answered(number, line, answer, aside.entry.request_id, todo)
        finally:
            self._sent[model] -= 1
            self._room.release()

    async def _answered(self, number: int, line: Line, answer: _Answer, request_id: str, todo: Todo) -> None:
        error = answer.error
        if error is not None:
            after_s = getattr(error, "retry_after_s", None)
            if todo.failed(number, answer.status, after_s, time.monotonic()) == "later":
                return
        result = wire.answered(f"batch_req_{request_id}", line.custom_id, answer.status, request_id, answer.body)
        self._results.append((number, error is None, result))
        await self._keep()
        self._lines.pop(number, None)
        todo.ended(number)

    async def _give_back(self, todo: Todo) -> None:
        """Lines that were not done: the time is over, or the batch was cancelled."""
        cancelled = self._state.status == "cancelling"
        code = "batch_cancelled" if cancelled else "batch_expired"
        told = "the batch was cancelled" if cancelled else "the request was not done within the batch's window"
        left = set(todo.left)
        async for number, text in self._each_line():
            if number in left:
                custom_id = wire.line(text, self._state.endpoint).custom_id
                id = f"batch_req_{self._state.id.removeprefix('batch_')}{number}"
                self._results.append((number, False, wire.undone(id, custom_id, code, told)))
            if len(self._results) >= _PAGE_LINES:
                await self._keep()
        await self._keep()

    async def _keep(self) -> None:
        """What has come is kept; those who come together are kept together."""
        rows, self._results = self._results, []
        if rows and not await in_thread(lambda: self._batches.keep(self._state.id, self._owner, rows)):
            self._lost = True

    # the end
    async def _finalize(self) -> None:
        late = self._late()
        now = int(time.time())
        await self._change(lambda state: _finalizing(state, now))
        if self._lost:
            return
        cancelled = self._state.status == "cancelling"
        ending: Status = "cancelled" if cancelled else "expired" if late else "completed"
        record, spec = self._record, self._spec
        made = await in_thread(lambda: write_results(self._batches, self._blobs, record, self._state.id, spec))

        def end(state: BatchObject) -> BatchObject:
            state.status, state.request_counts = ending, Counts(state.request_counts.total, made.good, made.bad)
            state.output_file_id, state.error_file_id = made.output_file_id, made.error_file_id
            setattr(state, f"{ending}_at", int(time.time()))
            return state

        await self._change(end)
        if not self._lost:
            await in_thread(lambda: self._batches.forget_results(self._state.id))

    # what all of it needs
    async def _beat(self) -> None:
        """Keeps the batch ours, and hears when it was cancelled."""
        id, owner, lease_s = self._state.id, self._owner, self._spec.lease
        while not self._lost:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(_LOOK_S, lease_s / 3)):
                    await self.news.wait()
            self.news.clear()
            try:
                state = await in_thread(lambda: self._batches.renew(id, owner, time.time(), lease_s))
            except InhouseError as error:
                self._parts.alarm.state(error.message)
                continue
            if state is None:
                self._lost = True
            elif state.status == "cancelling":
                self._state = state

    async def _change(self, change: Callable[[BatchObject], BatchObject]) -> None:
        tenant, id = self._record.tenant, self._state.id
        state = await in_thread(lambda: self._batches.change(tenant, id, change, owner=self._owner))
        if state is None:
            self._lost = True
        else:
            self._state = state

    @property
    def _goes_on(self) -> bool:
        ours = not self._lost and not self._parts.draining
        return ours and self._state.status == "in_progress" and not self._late()

    def _late(self) -> bool:
        return self._state.expires_at is not None and time.time() > self._state.expires_at

    async def _each_line(self) -> AsyncIterator[tuple[int, bytes]]:
        lines = enumerate(self._blobs.lines(self._state.input_file_id))
        while page := await in_thread(lambda: list(itertools.islice(lines, _PAGE_LINES))):
            for number, text in page:
                yield number, text


def _finalizing(state: BatchObject, now: int) -> BatchObject:
    if state.status == "in_progress":
        state.status, state.finalizing_at = "finalizing", now
    return state
