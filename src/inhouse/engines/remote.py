"""A replica that runs elsewhere: asked for its health and its metrics from time to time.

Theory of operation. `run` looks at the endpoint, waits, looks again. A look asks for its health: 200 is ready, 503 is
loading, anything else or nothing is a failure. `failures` of them in a row make it unreachable; from then on it is
asked at the same pace, and one good answer makes it ready. A connection that breaks or a response that falls silent
shuts it at once and brings the next look forward. When an endpoint becomes ready, it is asked once for what does not
change: slots and context.

An endpoint that was unreachable for as long as an answer may be silent is given up: what it still had of ours ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from inhouse.core import ReplicaReport, ReplicaState
from inhouse.engines import figures
from inhouse.engines.about import BYTES_MAX, PATHS, about
from inhouse.engines.http import Address, Pool
from inhouse.engines.member import Member
from inhouse.errors import EngineError

PAGE_BYTES_MAX = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Watch:
    """How an endpoint is watched; seconds."""

    interval_s: float
    timeout_s: float
    failures: int
    connect_s_max: float
    silence_s_max: float
    figures_s_max: float
    """Figures older than this are unknown."""


class Remote:
    """Watches one endpoint for one model and writes its `member`."""

    def __init__(
        self,
        model: str,
        member: Member,
        address: Address,
        watch: Watch,
        *,
        report: Callable[[ReplicaReport], None],
        key: Callable[[], str | None] = lambda: None,
        slots_given: bool = False,
        upstream_model: str | None = None,
    ) -> None:
        self.member = member
        self._model = model
        self._address = address
        self._watch = watch
        self._report = report
        self._key = key
        self._slots_given = slots_given
        self._upstream_model = upstream_model or model
        self._look_now = asyncio.Event()
        self._page = figures.NOTHING
        self._failed = 0
        self._ready_before = False

    async def run(self) -> None:
        """Watches until it is cancelled; then its connections are closed, whatever goes on in them."""
        loop = asyncio.get_running_loop()
        watch, member = self._watch, self.member
        member.pool = Pool(
            self._address,
            silence_s_max=watch.silence_s_max,
            connect_s_max=watch.connect_s_max,
            broken=self._doubt,
            key=self._key(),
        )
        unreachable_s: float | None = None
        try:
            while True:
                self._look_now.clear()
                await self._look(member.pool)
                self._forget_old(loop.time())
                if member.state != "unreachable":
                    unreachable_s = None
                elif unreachable_s is None:
                    unreachable_s = loop.time()
                elif loop.time() - unreachable_s > watch.silence_s_max:
                    member.pool.close()
                await self._pause()
        finally:
            member.pool.close()
            member.pool = None
            member.enter("stopped")

    def sweep(self) -> None:
        """About once a second: gives up on silent responses and closes idle connections."""
        if self.member.pool is not None:
            self.member.pool.sweep()

    async def _pause(self) -> None:
        """Until it is time for the next look; a broken connection brings that forward, once per failed look."""
        interval_s = self._watch.interval_s
        if self.member.doubted and self._failed:
            interval_s = min(interval_s, 0.1)
        try:
            async with asyncio.timeout(interval_s):
                await self._look_now.wait()
        except TimeoutError:
            pass

    def _doubt(self) -> None:
        if self.member.state == "ready" and not self.member.doubted:
            self.member.doubt()
            self._look_now.set()

    async def _look(self, pool: Pool) -> None:
        try:
            async with asyncio.timeout(self._watch.timeout_s):
                reply = await pool.request(b"GET", self.member.engine.health)
                await reply.read(BYTES_MAX)
        except TimeoutError:
            self._fail(f"no answer to {self.member.engine.health.decode()} within {self._watch.timeout_s:g} s")
            return
        except EngineError as error:
            self._fail(error.message)
            return
        if reply.status == 200:
            await self._is_well(pool)
        elif reply.status == 503:
            self._failed = 0
            self._enter("loading", "it says that it is not ready yet")
        else:
            self._fail(f"{self.member.engine.health.decode()} answers with status {reply.status}")

    async def _is_well(self, pool: Pool) -> None:
        member = self.member
        self._failed = 0
        new = member.state != "ready"
        if new:
            member.generation += self._ready_before
            await self._within(self._learn(pool))
        await self._within(self._scrape(pool))
        if new or member.doubted:
            self._ready_before = True
            self._enter("ready")

    async def _within(self, asking: object) -> None:
        """What it says of itself is good to have, and no reason to doubt it where it does not say it."""
        try:
            async with asyncio.timeout(self._watch.timeout_s):
                await asking  # type: ignore[misc]
        except (TimeoutError, EngineError):
            pass

    def _fail(self, reason: str) -> None:
        self._failed += 1
        member = self.member
        if member.state == "unreachable":
            member.reason = reason
        elif self._failed >= self._watch.failures or member.state != "ready":
            self._page = figures.stale(self._page)
            member.report(self._page.figures)
            self._enter("unreachable", reason)

    async def _learn(self, pool: Pool) -> None:
        """Slots and context, where the engine tells them."""
        member = self.member
        path = PATHS.get(member.engine.reads)
        if path is None:
            return
        reply = await pool.request(b"GET", path)
        body = await reply.read(BYTES_MAX)
        if reply.status != 200:
            return
        found = about(member.engine, body, self._upstream_model)
        member.context_tokens = found.context_tokens
        if found.slots is not None and not self._slots_given:
            member.slots = found.slots

    async def _scrape(self, pool: Pool) -> None:
        engine = self.member.engine
        for path in engine.metrics:
            reply = await pool.request(b"GET", path)
            body = await reply.read(PAGE_BYTES_MAX)
            if reply.status != 200:
                continue
            page = figures.look(body, engine.names, self._page, asyncio.get_running_loop().time())
            if page is None:
                continue
            if page.restarted:
                self.member.generation += 1
            self._page = page
            self.member.report(page.figures)
            return

    def _forget_old(self, now_s: float) -> None:
        """An endpoint may be well and its metrics not: what they said last does not hold for ever."""
        observed_s = self._page.figures.observed_s
        if observed_s is not None and now_s - observed_s > self._watch.figures_s_max:
            self._page = figures.stale(self._page)
            self.member.report(self._page.figures)

    def _enter(self, state: ReplicaState, reason: str = "") -> None:
        member = self.member
        news = member.said != state
        member.enter(state, reason)
        if not news:
            return
        self._report(
            ReplicaReport(
                model=self._model,
                engine=member.engine.name,
                state=state,
                endpoint=member.id,
                slots=member.slots,
                context_tokens=member.context_tokens,
                reason=reason or None if state == "unreachable" else None,
            )
        )
