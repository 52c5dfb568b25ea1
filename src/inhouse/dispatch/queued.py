"""The gateway's end of a queue in Redis: jobs that hold a turn go there, workers answer, pieces come back.

Theory of operation. The lane's own queue stays the one that decides who is next; its capacity is what the workers have
announced (credits): this gateway's jobs that a worker has, and the slots that nobody uses, plus `ahead`, so that no
slot waits for its next job. So Redis holds few jobs however many wait, and what waits there was let in by fairness
already; among the jobs of several gateways Redis picks by class and tenant likewise (`store/lua/queue_take.lua`).

Four loops: `_send` hands on what was posted, in order, many at once; `_listen` reads this gateway's inbox; `_beat`
says that it is there and hears how things stand; `_sweep` finds those that are gone. A request only waits for the first
piece of its answer and for the last: it never waits for Redis itself, and leaving it sends nothing but a note.

Redis away: what was posted is sent when it is back, answers wait up to `away_max`, new requests are refused after one
lease. Where Redis comes back without a job that had not begun, it is handed over once more.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from inhouse.admission import notices
from inhouse.admission.turns import Ask
from inhouse.core import ReplicaReport
from inhouse.dispatch.announced import WHY_SILENT, About, Waiting, dead_error, told
from inhouse.dispatch.contact import Contact
from inhouse.dispatch.elsewhere import SHARES_MAX, Elsewhere
from inhouse.dispatch.handed import LOOK_COUNT, Handed
from inhouse.dispatch.places import Place
from inhouse.dispatch.sink import ViewSink
from inhouse.dispatch.watch import Watch
from inhouse.engines.member import Member
from inhouse.errors import EngineError, Unavailable, WaitedTooLong
from inhouse.store.queue import Queue, Standing, plain
from inhouse.store.redis_calls import Commands, Run, run
from inhouse.telemetry.entry import Entry
from inhouse.telemetry.story import Asked, WentOn
from inhouse.wire import sse
from inhouse.wire.backlog import QueueBacklog
from inhouse.wire.call import Job, View
from inhouse.wire.queued import render_order

if TYPE_CHECKING:
    from inhouse.dispatch.errand import Client
    from inhouse.dispatch.lane import Lane
    from inhouse.store.redis_link import Link
    from inhouse.store.sealing import Sealer

_SENT_AT_ONCE = 256
_BLOCK_S = 1.0
_LIFE_MARGIN_S = 120.0
_LAST_NOTES_S = 1.0
_ANSWER_TOKENS_FIRST_GUESS = 256.0
_SMOOTHING = 0.1


@dataclass(frozen=True, slots=True)
class QueuedSettings:
    """`ahead`: jobs beyond the free slots. `away_s_max`: how long answers wait for a Redis that is away."""

    ahead: int
    away_s_max: float


class Queued:
    """See the module. `tell` hears of the state of the workers together, as of one replica."""

    def __init__(
        self,
        lane: Lane,
        queue: Queue,
        link: Link,
        settings: QueuedSettings,
        *,
        tell: Callable[[ReplicaReport], None],
        fault: Callable[[BaseException], None],
        sealer: Sealer,
    ) -> None:
        self.id = os.urandom(8).hex()
        self.member = Member(f"{lane.model}-workers", lane.engine, 0)
        self.backlog = QueueBacklog()
        self.workers: dict[str, About] = {}
        self._lane = lane
        self._queue = queue
        self._link = link
        self._settings = settings
        self._tell = tell
        self._sealer = sealer
        self._client: Commands = plain(link.connect())
        self._contact = Contact(self._contact_changed, fault)
        self._handed: dict[str, Handed] = {}
        self._elsewhere = Elsewhere()
        self._running = 0
        """Of ours, that a worker has."""
        self._running_elsewhere = 0
        self._outbox: deque[tuple[Run, Callable[[Any], None] | None]] = deque()
        self._posted = asyncio.Event()
        self._inbox_after = b"0-0"
        self._answer_tokens = _ANSWER_TOKENS_FIRST_GUESS
        self._reported = ""

    @property
    def away(self) -> bool:
        """Whether Redis has not been within reach for longer than a lease."""
        return self.member.said == "unreachable"

    @property
    def lack(self) -> str:
        """Why nothing can be had of it now."""
        if self.away:
            return "the queue between gateway and workers is away; retry in 2 s"
        return f"no worker of '{self._lane.model}' is there now; start one (`inhouse worker`), or retry in 2 s"

    # a request's way
    async def serve(
        self, index: int, job: Job, ask: Ask, view: View, client: Client, entry: Entry, watch: Watch
    ) -> None:
        """The answer to one job that holds a turn, from whichever worker. Raises ApiError."""
        place = Place(self.member, None, time.monotonic())

        def taken(worker: str) -> None:
            now_s = time.monotonic()
            first = not asked
            asked.append(worker)
            entry.step(Asked(now_s, worker, index))
            if first:
                place.began_s = now_s
                entry.waited_s = max(entry.waited_s, now_s - entry.arrived_s)
                self._running += 1
                self._elsewhere.gave(share, cost / ask.weight)
                self._resize()
            else:
                self._went_on(handed, index, view, client, entry)
            if job.streams:
                watch.asked(now_s, _nobody)
                watch.reply = handed if handed.seq else None

        asked: list[str] = []
        cost = ask.prompt_tokens + int(min(self._answer_tokens, max(0, ask.tokens_max - ask.prompt_tokens)))
        share = f"{ask.priority} {ask.tenant}"
        handed = Handed(
            os.urandom(12).hex(),
            until_s=entry.arrived_s + watch.limits.wait_s,
            tokens_max=ask.tokens_max,
            window_bytes=self._queue.limits.window_bytes,
            waits=client.waits if view.streams else None,
            open=self._sealer.open,
            fetch=self._fetch,
            read=self._read,
            taken=taken,
        )
        self._hand_over(handed, job, ask, cost)
        tokens: int | None = None
        try:
            await handed.begun
            if job.streams:
                sink = ViewSink(index, view, client, entry, watch, place, None, None)
                await self._stream(handed, sink, view, client, watch)
            else:
                view.events(index, await handed.whole())
            view.finished(index)
            tokens = max(ask.prompt_tokens, view.tokens_of(index))
        finally:
            if tokens is not None:
                self._elsewhere.gave(share, (tokens - cost) / ask.weight)
            self._take_back(handed, ask, tokens)

    async def _stream(self, handed: Handed, sink: ViewSink, view: View, client: Client, watch: Watch) -> None:
        if view.streams:
            client.begin()
        watch.reply = handed
        client.attach(handed)
        try:
            handed.pipe(sink)
            await sink.whole()
        finally:
            client.detach(handed)

    def _went_on(self, handed: Handed, index: int, view: View, client: Client, entry: Entry) -> None:
        """Another worker has it."""
        if not handed.seq:
            entry.retries += 1
            entry.note("retries", entry.retries)
            return
        entry.failovers += 1
        entry.note("failovers", entry.failovers)
        entry.step(WentOn(time.monotonic(), view.events_seen, index))
        if view.streams and handed.piped:
            client.write(sse.went_on(entry.failovers))

    def _hand_over(self, handed: Handed, job: Job, ask: Ask, cost: int) -> None:
        handed.put = put = self._queue.put(
            handed.id,
            priority=ask.priority,
            tenant=ask.tenant,
            weight=ask.weight,
            cost=cost,
            gateway=self.id,
            payload=self._sealer.seal(render_order(job)),
            life_s=self._lane.limits.total_s + _LIFE_MARGIN_S,
        )
        self._handed[handed.id] = handed
        self.member.in_flight += 1
        self._post(put, handed.arrived)

    def _take_back(self, handed: Handed, ask: Ask, tokens: int | None) -> None:
        del self._handed[handed.id]
        self.member.in_flight -= 1
        self._running -= bool(handed.worker)
        if tokens is not None:
            self._answer_tokens += _SMOOTHING * (tokens - ask.prompt_tokens - self._answer_tokens)
        handed.drop()
        self._post(self._queue.leave(handed.id, tokens))
        self._resize()

    # the loops
    async def run(self) -> None:
        """Until it is cancelled; then this gateway is forgotten, and with it what only it waited for."""
        self._lane.places.join(self.member)
        self._report("loading", "")
        loops = (self._beat, self._send, self._listen, self._sweep)
        try:
            async with asyncio.TaskGroup() as group:
                for loop in loops:
                    group.create_task(self._contact.steadily(loop), name=f"queue-{self._lane.model}{loop.__name__}")
        finally:
            self.member.enter("stopped")
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_LAST_NOTES_S):
                    if self._outbox:
                        await run(self._client, [one for one, _ in self._outbox])
                    await self._queue.forget_gateway(self._client, self.id)
            await self._client.aclose()

    async def _send(self) -> None:
        if not self._outbox:
            self._posted.clear()
            await self._posted.wait()
        batch = [self._outbox[at] for at in range(min(_SENT_AT_ONCE, len(self._outbox)))]
        answers = await run(self._client, [one for one, _ in batch])  # where this fails it is done again
        for answer in answers:
            _, then = self._outbox.popleft()
            if then is not None:
                then(answer)

    async def _listen(self) -> None:
        after, news = await self._queue.inbox(self._client, self.id, self._inbox_after, _BLOCK_S)
        self._inbox_after = after
        for one in news:
            handed = self._handed.get(one.id)
            if handed is not None:
                handed.hear(one)

    async def _beat(self) -> None:
        """Says that it is there, hears how things stand, sees to jobs that wait too long."""
        ids = [id for id, handed in self._handed.items() if handed.there]
        seqs = [self._handed[id].seq for id in ids]
        shares = self._lane.turns.queue.waiting_shares()[:SHARES_MAX]
        names = [f"{priority} {tenant}" for priority, tenant in shares]
        try:
            answer = (await run(self._client, [self._queue.beat(self.id, self._shown(), ids, names)]))[0]
            self._contact.heard()
            standing = self._queue.standing(answer)
            self._heard(standing)
            charges = self._elsewhere.charges(names, standing.served)
            for (priority, tenant), name in zip(shares, names, strict=True):
                self._lane.turns.queue.charge(priority, tenant, charges.get(name, 0.0))
            for id, before, now in zip(ids, seqs, standing.seqs, strict=True):
                self._check(id, before, now)
            await self._queue.trim_inbox(self._client, self.id, self._inbox_after)
        finally:
            self._look_at_clock()
        await asyncio.sleep(self._queue.limits.beat_s)

    async def _sweep(self) -> None:
        """Not before everybody had a lease's time to be heard again, where Redis was away."""
        if self._contact.there_s() > self._queue.limits.lease_s:
            error = dead_error(self._lane.model, self._queue.limits.attempts_max)
            await run(self._client, [self._queue.sweep(WHY_SILENT, error)])
        await asyncio.sleep(self._queue.limits.beat_s)

    # what they do
    def _post(self, one: Run, then: Callable[[Any], None] | None = None) -> None:
        self._outbox.append((one, then))
        self._posted.set()

    def _fetch(self, handed: Handed) -> None:
        def caught_up(answer: Any) -> None:
            handed.catch_up(self._queue.missed(answer))

        self._post(self._queue.look(handed.id, handed.seq, LOOK_COUNT), caught_up)

    def _read(self, handed: Handed) -> None:
        self._post(self._queue.read(handed.id, handed.seq))

    def _heard(self, standing: Standing) -> None:
        self.workers = {worker: told(About, text) for worker, text in standing.workers.items()}
        gateways = [told(Waiting, text) for text in standing.gateways.values()]
        slots = sum(about.slots for about in self.workers.values())
        self.backlog = QueueBacklog(
            requests=sum(one.requests + one.handed for one in gateways),
            tokens=sum(one.tokens + one.handed_tokens for one in gateways),
            pending=standing.pending,
            running=standing.running,
            workers=len(self.workers),
            slots=slots,
            gateways=len(gateways),
        )
        contexts = [about.context_tokens for about in self.workers.values() if about.context_tokens]
        member = self.member
        context_tokens = min(contexts, default=member.context_tokens or 0) or None
        if member.context_tokens != context_tokens:
            member.context_tokens = context_tokens
            member.touch()
        self._running_elsewhere = max(0, standing.running - self._running)
        if slots and (member.said != "ready" or member.doubted):
            member.enter("ready")
        elif not slots and member.said != "loading":
            member.enter("loading", "no worker is there")
        self._resize()
        self._report("ready" if slots else "loading", "")

    def _resize(self) -> None:
        member = self.member
        slots = max(self._running, self.backlog.slots - self._running_elsewhere)
        ahead = self._settings.ahead if self.backlog.slots else 0
        if (member.slots, member.ahead) != (slots, ahead):
            member.slots, member.ahead = slots, ahead
            member.touch()

    def _check(self, id: str, before: int, now: int) -> None:
        """A job of ours as Redis has it; `before` is what had come when it was asked."""
        handed = self._handed.get(id)
        if handed is None or handed.over:
            return
        if now < 0:
            if handed.seq:
                handed.fail(EngineError("the queue has lost this request; it can be sent again"))
            elif handed.put is not None:
                handed.there = False
                self._post(handed.put, handed.arrived)
        elif handed.seq != before or handed.paused:
            return
        elif now > before:
            handed.fall_behind()
        elif handed.seq:  # nothing new: its worker may wait for word of what was read, which a connection has lost
            self._read(handed)

    def _look_at_clock(self) -> None:
        now_s = time.monotonic()
        away_s = self._contact.away_s()
        if away_s > self._queue.limits.lease_s and self.member.said != "unreachable":
            self.member.enter("unreachable", f"Redis is away: {self._contact.reason}")
            self._report("unreachable", f"{self._link.shown} is away: {self._contact.reason}")
        every_s = self._lane.turns.notices.every_s
        for handed in tuple(self._handed.values()):
            if away_s > self._settings.away_s_max:
                handed.fail(Unavailable("the queue between gateway and workers is away; retry later", retry_after_s=5))
            elif not handed.worker and now_s > handed.until_s:
                why = f"no worker of '{self._lane.model}' took the request in time; retry later"
                handed.fail(WaitedTooLong(why, retry_after_s=5))
            elif not handed.worker and every_s and handed.waits is not None and now_s - handed.noted_s > every_s:
                handed.noted_s = now_s
                handed.waits(notices.Standing())

    def _shown(self) -> bytes:
        room = self._lane.turns.queue.snapshot()
        tokens = sum(handed.tokens_max for handed in self._handed.values())
        return msgspec.json.encode(Waiting(room.waiting, room.waiting_tokens, len(self._handed), tokens))

    def _contact_changed(self, reason: str) -> None:
        if reason and self.member.state == "ready":
            self.member.doubt()

    def _report(self, state: Any, reason: str) -> None:
        if state == self._reported:
            return
        self._reported = state
        self._tell(
            ReplicaReport(
                model=self._lane.model,
                engine=self._lane.engine.name,
                state=state,
                endpoint=self.member.id,
                slots=self.member.slots,
                context_tokens=self.member.context_tokens,
                reason=reason or None,
            )
        )


def _nobody() -> None:
    return None
