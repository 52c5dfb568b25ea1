"""Answers that are kept, and generations that identical requests share. One `Flights` per model that has a cache.

Theory of operation. A *flight* is one generation for one key: a task that is owned here, not by the request that came
first. It takes the slot, talks to the engine and appends what comes to a recording. Everybody who wants the answer, the
first one included, is a *follower*: it reads the recording through its own view, to its own client, at its own pace,
and holds no slot. Whole answers go to the cache; a hit is a follower of a recording that is finished already.

- Nobody listens any more: the flight is cancelled, as a hang-up cancels a request. While anybody does, it goes on.
- All listeners are slow: the engine is paused. Some are: the others go on, and who falls behind by more than the
  recording may hold is let go with `ReaderTooSlow`.
- Limits of time are each follower's own. The flight has only those that tell whether the engine lives.
- The engine fails: before the first event those who joined try once more, together; later everybody is told.
- One follower bears what was generated: the first, or who takes over when it leaves early. To all others the prompt
  counts as cached and the answer as reused.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Literal

from inhouse.admission.notices import Standing
from inhouse.dispatch.cache import Answer, Cache, key_of
from inhouse.dispatch.cache_shared import SharedAnswers
from inhouse.dispatch.follower import Follower, Source
from inhouse.dispatch.recording import Recording
from inhouse.dispatch.watch import TimeLimits
from inhouse.errors import ApiError, EngineError, ReaderTooSlow, ShuttingDown, Unavailable, WaitedTooLong
from inhouse.telemetry.entry import Entry
from inhouse.telemetry.story import Asked, Reused
from inhouse.wire.call import Job
from inhouse.wire.replay import Recorder, marked

Generate = Callable[["Flight"], Awaitable[None]]
"""Runs one job to its end: the flight is its client, `flight.recorder` its view, `flight.entry` its entry."""


class Flights:
    """See the module. `version` names all that decides an answer beside the request: weights, engine, its settings.

    `model` is only used in messages.
    """

    def __init__(self, model: str, cache: Cache, *, coalesce: bool, sharers_max: int) -> None:
        self.cache = cache
        self._model = model
        self.version = b""
        self.shared: SharedAnswers | None = None
        """Where all gateways keep answers, if they do."""
        self._flew = False
        self._coalesce = coalesce
        self._sharers_max = sharers_max
        self._loop = asyncio.get_running_loop()
        self._open: dict[bytes, Flight] = {}
        self._flying: set[Flight] = set()
        self._epoch = 0

    async def follow(
        self, follower: Follower, job: Job, tenant: str, patience_s: Callable[[], float], generate: Generate
    ) -> None:
        """Shows the answer to a job, wherever it comes from. Raises ApiError as the generation does.

        `patience_s` says how long the follower waits for a slot, and raises where that is not worth it.
        """
        key = key_of(tenant, self.version, job.path, job.body)
        if self.shared is not None:
            await self._look_elsewhere(key, self.shared)
        tries = 2
        while True:
            tries -= 1
            self._join(key, follower, job, patience_s, generate)
            try:
                await follower.read()
                return
            except (EngineError, Unavailable):
                if not follower.reuses or follower.position or not tries:
                    raise
            finally:
                follower.leave()

    def tick(self, now_s: float, retry_after_s: Callable[[], float]) -> None:
        """A few times a second: those who have waited too long for a slot are told."""
        for flight in tuple(self._flying):
            asked_s = flight.asked_s
            for follower in tuple(flight.followers):
                if asked_s is not None:
                    follower.engine_was_asked(asked_s)
                elif follower.waits_too_long(now_s):
                    follower.end(self._late(follower, now_s, retry_after_s()))

    def _late(self, follower: Follower, now_s: float, retry_after_s: float) -> WaitedTooLong:
        return WaitedTooLong(
            f"waited {now_s - follower.entry.arrived_s:.0f} s for a slot of '{self._model}'; retry later, "
            "or raise the model's `slots` or `queue_wait_max` in inhouse.yaml",
            retry_after_s=retry_after_s,
        )

    def sweep(self) -> None:
        """About once a second: what is too old goes."""
        self.cache.expire(self._loop.time())

    def forget(self) -> None:
        """The engine was started anew, maybe with other weights: nothing from before is given out any more."""
        self._epoch += 1
        self._open.clear()
        self.cache.clear()
        if self.shared is not None and self._flew and not self.version:
            self.shared.forget()

    async def close(self) -> None:
        """Ends what is being made."""
        tasks = [flight.task for flight in self._flying if flight.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look_elsewhere(self, key: bytes, shared: SharedAnswers) -> None:
        """What another gateway has kept is kept here too."""
        if key in self._open or self.cache.get(key, self._loop.time()) is not None:
            return
        epoch = self._epoch
        found = await shared.get(key)
        if found is not None and epoch == self._epoch:
            answer, age_s = found
            self.cache.put(key, answer, self._loop.time() - age_s)

    def _join(
        self, key: bytes, follower: Follower, job: Job, patience_s: Callable[[], float], generate: Generate
    ) -> None:
        now_s = self._loop.time()
        answer = self.cache.get(key, now_s)
        if answer is not None:
            _note(follower, "hit", now_s)
            follower.join(Recording.of(answer), None, streams=job.streams, first=False)
            return
        follower.wait_at_most(now_s, patience_s)
        flight = self._open.get(key)
        first = flight is None or len(flight.followers) >= self._sharers_max
        if flight is None or first:
            flight = self._start(key, job, generate, now_s)
        _note(follower, "miss" if first else "shared", now_s)
        flight.join(follower)
        follower.join(flight.recording, flight, streams=job.streams, first=first)

    def _start(self, key: bytes, job: Job, generate: Generate, now_s: float) -> Flight:
        flight = Flight(self, key, job.streams, now_s)
        flight.epoch = self._epoch
        if self._coalesce:
            self._open[key] = flight
        self._flying.add(flight)
        flight.task = self._loop.create_task(self._fly(flight, generate))
        flight.task.add_done_callback(lambda _: self._flying.discard(flight))
        return flight

    async def _fly(self, flight: Flight, generate: Generate) -> None:
        error: Exception | None = ShuttingDown("this server is shutting down; retry in 5 s", retry_after_s=5.0)
        kept: Answer | None = None
        self._flew = True
        try:
            await generate(flight)
            error = None
        except Exception as failure:  # noqa: BLE001 - handed to the followers, each of which raises it
            error = failure
        except asyncio.CancelledError:
            if flight.stopped_by is None:
                raise
            error = flight.stopped_by
        finally:
            self.shut(flight)
            if error is None and flight.storable and not flight.entry.failovers and flight.epoch == self._epoch:
                kept = flight.answer()
                self.cache.put(flight.key, kept, self._loop.time())
            flight.finish(error)
        if kept is not None and self.shared is not None:
            await self.shared.put(flight.key, kept)

    def shut(self, flight: Flight) -> None:
        """Nobody new joins."""
        if self._open.get(flight.key) is flight:
            del self._open[flight.key]


class Flight:
    """One generation and its followers. To the engine's side it is a client that is never slower than its quickest."""

    prefer_wait_s = math.inf
    session = ""
    framed = None

    def __init__(self, flights: Flights, key: bytes, streams: bool, now_s: float) -> None:
        self.key = key
        self.epoch = 0
        self.storable = True
        self.stopped_by: ApiError | None = None
        self.recording = Recording(flights.cache.entry_bytes_max)
        self.recorder = Recorder(self._heard, whole=not streams)
        self.entry = Entry("", "", now_s)
        self.followers: list[Follower] = []
        self.payer: Follower | None = None
        self.task: asyncio.Task[None] | None = None
        self._flights = flights
        self._streams = streams
        self._source: Source | None = None
        self._paused = False

    @property
    def asked_s(self) -> float | None:
        """When the engine was asked; None while it waits for a slot."""
        return next((step.at_s for step in reversed(self.entry.steps) if type(step) is Asked), None)

    # the generation calls these
    def time_limits(self, lane: TimeLimits, *, kept_alive: bool) -> TimeLimits:
        """Those of the engine's life; how long is waited is the followers' matter."""
        return TimeLimits(first_token_s=lane.first_token_s, token_gap_s=lane.token_gap_s)

    def waits(self, standing: Standing) -> None:
        for follower in tuple(self.followers):
            follower.waits(standing)

    def stop(self, reason: ApiError) -> None:
        if self.stopped_by is None and self.task is not None:
            self.stopped_by = reason
            self.task.cancel()

    def begin(self) -> None:
        return None

    def write(self, data: bytes) -> None:
        """Only comments of the engine come this way: the recorder shows nothing."""
        for follower in tuple(self.followers):
            follower.comment(data)

    def attach(self, source: Source) -> None:
        self._source, self._paused = source, False
        self.balance()

    def detach(self, source: Source) -> None:
        self._source = None

    def _heard(self, block: bytes) -> None:
        recording = self.recording
        recording.append(block)
        for follower in tuple(self.followers):
            follower.pump()
        if recording.over_full or not self.storable:
            self._make_room()

    def finish(self, error: Exception | None) -> None:
        self.recording.finish(error, self.recorder.usage.completion_tokens)
        for follower in tuple(self.followers):
            follower.pump()

    def answer(self) -> Answer:
        """What is kept of it, with the usage that those who get it again are told."""
        pieces = [marked(piece, whole=not self._streams) for piece in self.recording.pieces()]
        return Answer(tuple(pieces), self.recorder.usage.completion_tokens)

    # the followers call these
    def join(self, follower: Follower) -> None:
        self.followers.append(follower)
        if self.payer is None:
            self.payer = follower

    def leave(self, follower: Follower) -> None:
        """Who leaves before the end hands what it bears to the next; with the last one the generation ends."""
        self.followers.remove(follower)
        if follower is self.payer and self.followers and not follower.at_end:
            self.payer = self.followers[0]
        if self.followers:
            self.balance()
        elif not self.recording.done and self.task is not None:
            self._flights.shut(self)
            self.task.cancel()

    def balance(self) -> None:
        """The engine waits while every follower is full."""
        paused = bool(self.followers) and all(follower.paused for follower in self.followers)
        if self._source is None or paused == self._paused:
            return
        self._paused = paused
        if paused:
            self._source.pause()
        else:
            self._source.resume()

    def _make_room(self) -> None:
        """It is longer than what may be held: only what somebody has yet to read stays."""
        self.storable = False
        self._flights.shut(self)
        while True:
            self.recording.trim(min((one.position for one in self.followers), default=self.recording.end))
            slow = [one for one in self.followers if one.paused and not one.over]
            if not self.recording.over_full or not slow or len(slow) == len(self.followers):
                return
            last = min(slow, key=lambda one: one.position)
            last.end(
                ReaderTooSlow(
                    f"others share this answer and are {self.recording.bytes_max} bytes ahead of you; read faster, "
                    "ask again, or have the model's `cache.entry_bytes_max` raised"
                )
            )
            last.leave()


def _note(follower: Follower, source: Literal["hit", "shared", "miss"], now_s: float) -> None:
    """An answer of several jobs is as reused as the least of them."""
    entry = follower.entry
    order = ("", "hit", "shared", "miss")
    if order.index(source) > order.index(entry.cache):
        entry.cache = source
    if source != "miss":
        entry.step(Reused(now_s, source, follower.index))
