"""The fake engine at work: the batch on the event loop's clock, and what its tokens become on the connections.

One timer for all streams, on a grid of `tick_s`: tokens that fall due within a tick go out together, so that thousands
of paced streams cost a write each and no task.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from inhouse.fake.batch import Batch, Sequence
from inhouse.fake.dialects import DIALECTS, Dialect
from inhouse.fake.faults import Faults
from inhouse.fake.metrics import Figures
from inhouse.fake.settings import Settings, changed
from inhouse.fake.text import Vocabulary
from inhouse.fake.wire import Answer, Plan, Refused

_KILLED = 137


class Out(Protocol):
    """The connection that a job answers on."""

    def begin_stream(self) -> None: ...

    def stream(self, data: bytes) -> None: ...

    def end_stream(self) -> None: ...

    def respond(self, status: int, body: bytes, media: str = "application/json") -> None: ...

    def break_off(self) -> None:
        """The connection ends in the middle, without an error."""


class Job:
    """One request that takes a slot. `render` makes the whole answer where it is no text."""

    __slots__ = ("answer", "cut", "gone", "out", "plan", "render", "sent", "sequence")

    def __init__(self, sequence: Sequence, out: Out) -> None:
        self.sequence = sequence
        self.out = out
        self.plan: Plan | None = None
        self.answer: Answer | None = None
        self.render: Callable[[], bytes] = bytes
        self.sent = 0
        self.cut: int | None = None
        self.gone = False


class Engine:
    """One process's engine. `relisten` is told whether connections are to be taken at all."""

    def __init__(self, settings: Settings, model: str, relisten: Callable[[bool], None] = lambda listen: None) -> None:
        self.settings = settings
        self.model = model
        self.vocabulary = Vocabulary()
        self.faults = Faults(settings)
        self.figures = Figures()
        self.known: list[str] = []
        """Models, where they are made known and loaded one by one."""
        self.loaded: list[str] = []
        self.hang_ups = 0
        self.failed: dict[str, int] = {}
        self._relisten = relisten
        self._loop = asyncio.get_running_loop()
        self.began_s = self._loop.time()
        self.batch = Batch(settings, self.began_s)
        self._jobs: dict[Sequence, Job] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = math.inf
        self._crash: asyncio.TimerHandle | None = None
        self._numbers = 0
        self._plan_crash()

    @property
    def dialect(self) -> Dialect:
        return DIALECTS[self.settings.speaks]

    @property
    def loading(self) -> bool:
        return self._loop.time() - self.began_s < self.settings.load_s

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Other settings from now on. Raises WrongSetting; then nothing has changed."""
        settings = changed(self.settings, changes)
        self.settings = settings
        self.batch.configure(settings, self._loop.time())
        self.faults.configure(settings)
        self._plan_crash()
        self._relisten(settings.refuse_rate < 1)
        self._work()

    def generate(self, plan: Plan, out: Out, fault: str) -> Job:
        """Takes a request for a text. Raises Refused where the queue is full."""
        self._check_room()
        drip_s = self.settings.drip_s if fault == "drip" else None
        stall = self.settings.stall_after_tokens if fault == "stall" else None
        sequence = Sequence(
            plan.prompt, plan.answer_tokens, key=plan.key, start=plan.start, drip_s=drip_s, stall_after=stall
        )
        job = Job(sequence, out)
        self._numbers += 1
        job.plan, job.answer = plan, Answer(plan, self._numbers, self.model, self.dialect)
        if fault == "truncate":
            job.cut = self.faults.cut(plan.answer_tokens)
        if plan.stream:
            out.begin_stream()
            out.stream(job.answer.opening())
        return self._add(job)

    def embed(self, prompt: list[str], render: Callable[[], bytes], out: Out) -> Job:
        """Takes a request that is answered once its prompt is computed. Raises Refused where the queue is full."""
        self._check_room()
        job = Job(Sequence(prompt, 0), out)
        job.render = render
        return self._add(job)

    def left(self, job: Job) -> None:
        """Its client hung up."""
        if job.gone:
            return
        job.gone = True
        self.hang_ups += 1
        if not self.settings.deaf:
            self._jobs.pop(job.sequence, None)
            self.batch.cancel(job.sequence, self._loop.time())
            self._plan()

    def refused(self, fault: str) -> None:
        self.failed[fault] = self.failed.get(fault, 0) + 1

    def slots(self) -> list[dict[str, Any]]:
        """As llama-server's /slots."""
        taken = {sequence.slot for sequence in self.batch.running}
        context = self.settings.context_tokens
        return [{"id": slot, "n_ctx": context, "is_processing": slot in taken} for slot in range(self.settings.slots)]

    def read_figures(self) -> Figures:
        """The figures as they are now."""
        figures = self.figures
        figures.running, figures.waiting = len(self.batch.running), len(self.batch.waiting)
        figures.running_max = self.batch.running_max
        held = sum(len(sequence.prompt) + sequence.tokens for sequence in self.batch.running)
        figures.kv_used = min(1.0, held / (self.settings.slots * self.settings.context_tokens))
        return figures

    # the rest is ours
    def _check_room(self) -> None:
        if self.batch.full:
            self.figures.refused += 1
            raise Refused(self.settings.full_status, "unavailable_error", "too many requests wait in this engine")

    def _add(self, job: Job) -> Job:
        self._jobs[job.sequence] = job
        self.batch.add(job.sequence, self._loop.time())
        self._work()
        return job

    def _work(self) -> None:
        """Lets time pass in the batch, sends what came of it, and plans the next time."""
        for sequence in self.batch.advance(self._loop.time()):
            job = self._jobs.get(sequence)
            if job is not None:
                self._send(job)
        self._plan()

    def _plan(self) -> None:
        due_s = self.batch.next_s()
        if self._timer is not None:
            if self._timer_s <= due_s:
                return
            self._timer.cancel()
            self._timer = None
        if due_s < math.inf:
            tick_s = self.settings.tick_s
            self._timer_s = math.ceil(due_s / tick_s) * tick_s
            self._timer = self._loop.call_at(self._timer_s, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self._work()

    def _send(self, job: Job) -> None:
        sequence, out = job.sequence, job.out
        over = sequence.state == "over"
        if over:
            del self._jobs[sequence]
        self._count(sequence, sequence.tokens - job.sent, over=over)
        first, job.sent = job.sent, sequence.tokens
        if job.gone:
            return
        if job.cut is not None and sequence.tokens >= job.cut:
            self._break_off(job, first)
        elif job.plan is None or job.answer is None:
            if over:
                job.gone = True
                out.respond(200, job.render())
        elif not job.plan.stream:
            if over:
                job.gone = True
                out.respond(200, job.answer.whole(sequence))
        else:
            data = job.answer.tokens(first, sequence.tokens - first)
            out.stream(data + job.answer.closing(sequence) if over else data)
            if over:
                job.gone = True
                out.end_stream()

    def _break_off(self, job: Job, first: int) -> None:
        if job.plan is not None and job.answer is not None and job.plan.stream and job.cut is not None:
            job.out.stream(job.answer.tokens(first, max(0, job.cut - first)))
        job.gone = True
        self._jobs.pop(job.sequence, None)
        self.batch.cancel(job.sequence, self._loop.time())
        job.out.break_off()

    def _count(self, sequence: Sequence, tokens: int, *, over: bool) -> None:
        figures = self.figures
        figures.answer_tokens += tokens
        if over:
            figures.requests += 1
            figures.prompt_tokens += len(sequence.prompt)
            figures.cached_tokens += sequence.cached
            figures.queue_s += sequence.begun_s - sequence.arrived_s
            figures.prefill_s += sequence.first_s - sequence.begun_s
            figures.ttft_s += sequence.first_s - sequence.arrived_s
            figures.ttft_count += 1
            figures.decode_s += sequence.over_s - sequence.first_s
            figures.decode_count += max(0, sequence.tokens - 1)
        limit = self.settings.crash_after_tokens
        if limit and figures.answer_tokens >= limit:
            self._end_process()

    def _plan_crash(self) -> None:
        if self._crash is not None:
            self._crash.cancel()
            self._crash = None
        if self.settings.crash_after_s:
            self._crash = self._loop.call_at(self.began_s + self.settings.crash_after_s, self._end_process)

    def _end_process(self) -> None:
        if self.settings.crash_status == _KILLED:
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(self.settings.crash_status)
