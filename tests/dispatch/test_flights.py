"""Generations that are shared: by a scripted engine, with clients that can be slow or leave at any moment."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from inhouse.admission.notices import Standing
from inhouse.dispatch.cache import Cache
from inhouse.dispatch.flights import Flight, Flights
from inhouse.dispatch.follower import Follower
from inhouse.dispatch.watch import TimeLimits, Watch
from inhouse.errors import ApiError, BadRequest, EngineError, FirstTokenTimeout, ReaderTooSlow, WaitedTooLong
from inhouse.telemetry.entry import Entry
from inhouse.telemetry.story import Asked
from inhouse.wire import sse
from inhouse.wire.call import Job
from inhouse.wire.views import RelayView

JOB = Job(b"/v1/chat/completions", b'{"messages":[]}', deterministic=True)
PROMPT_TOKENS = 5
ENTRY_BYTES_MAX = 2000
NO_LIMITS = TimeLimits()


def chunk(text: str) -> bytes:
    content = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": text}}], "id": "e", "created": 1}
    return b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n"


def last(tokens: int) -> bytes:
    usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": tokens, "total_tokens": PROMPT_TOKENS + tokens}
    return b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n" + sse.DONE


class Engine:
    """Says what it is told to, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.ended = 0
        self.paused = False
        self.flight: Flight | None = None
        self.news = asyncio.Condition()
        self.answer: asyncio.Future[ApiError | None] = asyncio.get_running_loop().create_future()

    async def generate(self, flight: Flight) -> None:
        self.asked += 1
        self.flight = flight
        self.answer = asyncio.get_running_loop().create_future()
        flight.attach(self)
        await self._tell()
        try:
            error = await self.answer
            if error is not None:
                raise error
            flight.recorder.finished(0)
        finally:
            flight.detach(self)
            self.ended += 1

    def says(self, *blocks: bytes) -> None:
        assert self.flight is not None
        for block in blocks:
            self.flight.recorder.events(0, block)

    def finishes(self, error: ApiError | None = None) -> None:
        self.answer.set_result(error)

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    async def until_asked(self, times: int = 1) -> None:
        async with asyncio.timeout(30), self.news:
            await self.news.wait_for(lambda: self.asked >= times)

    async def _tell(self) -> None:
        async with self.news:
            self.news.notify_all()


class Reader:
    """A request and its client. `slow` clients are full after each write until they `catch_up`."""

    def __init__(
        self,
        flights: Flights,
        engine: Engine,
        *,
        tenant: str = "t",
        job: Job = JOB,
        slow: bool = False,
        view: RelayView | None = None,
        limits: TimeLimits = NO_LIMITS,
    ) -> None:
        self.written = b""
        self.sources: list[Any] = []
        self.standings: list[Standing] = []
        self.slow = slow
        self.entry = Entry("id", "chat", 0.0)
        self.view = view or RelayView(include_usage=True)
        self.stopped_by: ApiError | None = None
        self.watch = Watch("m", TimeLimits(), limits, 0.0, self.stop)
        follower = Follower(0, self.view, self, self.entry, self.watch)
        work = flights.follow(follower, job, tenant, lambda: limits.wait_s, engine.generate)
        self.task = asyncio.create_task(work)

    def stop(self, reason: ApiError) -> None:
        self.stopped_by = reason
        self.task.cancel()

    def waits(self, standing: Standing) -> None:
        self.standings.append(standing)

    def begin(self) -> None:
        return None

    def write(self, data: bytes) -> None:
        self.written += data
        if self.slow:
            for source in self.sources:
                source.pause()

    def catch_up(self) -> None:
        self.slow = False
        for source in self.sources:
            source.resume()

    def attach(self, source: Any) -> None:
        self.sources.append(source)

    def detach(self, source: Any) -> None:
        self.sources.remove(source)

    @property
    def texts(self) -> list[str]:
        events = [json.loads(payload) for payload in sse.payloads(self.written) if payload != b"[DONE]"]
        return [choice["delta"]["content"] for event in events for choice in event["choices"]]

    async def leave(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])

    @property
    def charged(self) -> tuple[int, int, int]:
        """Prompt tokens, cached ones among them, and answer tokens that it bears."""
        used = self.view.usage.without(self.entry.reused_tokens)
        return used.prompt_tokens, used.cached_tokens, used.completion_tokens


@pytest.fixture
async def engine() -> Engine:
    return Engine()


def flights_of(**settings: Any) -> Flights:
    cache = Cache(bytes_max=100_000, entry_bytes_max=ENTRY_BYTES_MAX, age_max_s=60)
    return Flights("m", cache, **({"coalesce": True, "sharers_max": 100} | settings))


@pytest.fixture
async def flights() -> AsyncIterator[Flights]:
    made = flights_of()
    yield made
    await made.close()


async def settled(*readers: Reader) -> list[BaseException | None]:
    async with asyncio.timeout(30):
        await asyncio.wait([reader.task for reader in readers])
    return [reader.task.exception() for reader in readers]


async def test_those_who_come_late(flights: Flights, engine: Engine) -> None:
    """They get what was said so far, and go on with the others. The engine is asked once, one bears the answer."""
    first = Reader(flights, engine)
    await engine.until_asked()
    engine.says(chunk("a"), chunk("b"))
    second = Reader(flights, engine)
    await asyncio.sleep(0)
    assert second.texts == ["a", "b"]
    engine.says(chunk("c"), last(3))
    engine.finishes()
    assert await settled(first, second) == [None, None]
    assert first.texts == second.texts == ["a", "b", "c"]
    assert (engine.asked, first.entry.cache, second.entry.cache) == (1, "miss", "shared")
    assert (first.charged, second.charged) == ((5, 0, 3), (5, 5, 0))
    third = Reader(flights, engine)
    assert await settled(third) == [None]
    assert (third.texts, third.entry.cache, third.charged) == (["a", "b", "c"], "hit", (5, 5, 0))
    assert engine.asked == 1
    ids = [json.loads(next(sse.payloads(reader.written)))["id"] for reader in (first, second, third)]
    assert ids[0] == "e"
    assert len(set(ids)) == 3


async def test_the_first_one_leaves(flights: Flights, engine: Engine) -> None:
    """The generation goes on; the next one takes over what it costs, and only that one."""
    first, second, third = (Reader(flights, engine) for _ in range(3))
    await engine.until_asked()
    engine.says(chunk("a"))
    await first.leave()
    engine.says(chunk("b"), last(2))
    engine.finishes()
    assert await settled(second, third) == [None, None]
    assert (second.texts, third.texts, engine.asked) == (["a", "b"], ["a", "b"], 1)
    assert first.entry.reused_tokens == first.view.events_seen == 1
    assert (second.charged, third.charged) == ((5, 0, 2), (5, 5, 0))


async def test_everybody_leaves(flights: Flights, engine: Engine) -> None:
    """The generation is cancelled and nothing kept; who comes then starts anew. The last one bears what was said."""
    readers = [Reader(flights, engine) for _ in range(3)]
    await engine.until_asked()
    engine.says(chunk("a"))
    for reader in readers:
        await reader.leave()
    late = Reader(flights, engine)
    await engine.until_asked(2)
    assert engine.ended == 1
    assert [reader.entry.reused_tokens for reader in readers] == [1, 1, 0]
    engine.says(last(0))
    engine.finishes()
    assert await settled(late) == [None]
    assert late.entry.cache == "miss"


async def test_one_that_leaves_at_once(flights: Flights, engine: Engine) -> None:
    """Before its generation has even begun: none begins."""
    reader = Reader(flights, engine)
    await asyncio.sleep(0)
    await reader.leave()
    await flights.close()
    assert engine.asked == engine.ended


@pytest.mark.parametrize("said", [b"", chunk("a")])
async def test_the_engine_fails(flights: Flights, engine: Engine, said: bytes) -> None:
    """Before the first event those who joined try once more, together; after it everybody is told. Nothing is kept."""
    readers = [Reader(flights, engine) for _ in range(4)]
    await engine.until_asked()
    if said:
        engine.says(said)
        engine.finishes(EngineError("broke"))
        assert all(isinstance(error, EngineError) for error in await settled(*readers))
        assert engine.asked == 1
    else:
        engine.finishes(EngineError("broke"))
        await engine.until_asked(2)
        engine.says(chunk("b"), last(1))
        engine.finishes()
        errors = await settled(*readers)
        assert [type(error) for error in errors] == [EngineError, *[type(None)] * 3]
        assert [reader.texts for reader in readers[1:]] == [["b"]] * 3
        assert engine.asked == 2
        assert [reader.charged[2] for reader in readers] == [0, 1, 0, 0]
    assert len(flights.cache) == (0 if said else 1)


async def test_an_engine_that_fails_again(flights: Flights, engine: Engine) -> None:
    """Nobody tries a third time."""
    readers = [Reader(flights, engine) for _ in range(4)]
    for times in (1, 2):
        await engine.until_asked(times)
        engine.finishes(EngineError("broke"))
    assert all(isinstance(error, EngineError) for error in await settled(*readers))
    assert engine.asked == 2


async def test_a_refusal(flights: Flights, engine: Engine) -> None:
    """What is the request's own fault is told to all of them at once."""
    readers = [Reader(flights, engine) for _ in range(3)]
    await engine.until_asked()
    engine.finishes(BadRequest("no"))
    assert all(isinstance(error, BadRequest) for error in await settled(*readers))
    assert engine.asked == 1


async def test_an_answer_without_its_end(flights: Flights, engine: Engine) -> None:
    """It is told as broken off and never kept."""
    reader = Reader(flights, engine)
    await engine.until_asked()
    engine.says(chunk("a"))
    engine.finishes()
    [error] = await settled(reader)
    assert isinstance(error, EngineError)
    assert len(flights.cache) == 0


async def test_a_slow_reader_among_quick_ones(flights: Flights, engine: Engine) -> None:
    """The others are not held up. As long as the buffer has room it may catch up."""
    slow, quick = Reader(flights, engine, slow=True), Reader(flights, engine)
    await engine.until_asked()
    engine.says(chunk("a"), chunk("b"), chunk("c"))
    assert (slow.texts, quick.texts, engine.paused) == (["a"], ["a", "b", "c"], False)
    slow.catch_up()
    engine.says(last(3))
    engine.finishes()
    assert await settled(slow, quick) == [None, None]
    assert slow.texts == quick.texts == ["a", "b", "c"]


async def test_a_reader_that_falls_too_far_behind(flights: Flights, engine: Engine) -> None:
    """It alone is told to go; what is held never grows beyond the buffer, and the answer is too long to be kept."""
    slow, quick = Reader(flights, engine, slow=True), Reader(flights, engine)
    await engine.until_asked()
    assert engine.flight is not None
    texts = [f"{number:03}" for number in range(100)]
    for text in texts:
        engine.says(chunk(text))
        assert engine.flight.recording.bytes_held <= ENTRY_BYTES_MAX
    late = Reader(flights, engine)
    await engine.until_asked(2)
    first, engine.flight = engine.flight, None
    assert isinstance((await settled(slow))[0], ReaderTooSlow)
    assert slow.texts == texts[:1]
    first.recorder.events(0, last(100))
    assert quick.texts == texts
    assert late.entry.cache == "miss", "the beginning is gone: nobody can join any more"
    await late.leave()
    await quick.leave()


async def test_all_readers_are_slow(flights: Flights, engine: Engine) -> None:
    """The engine waits for the first of them that can go on."""
    one, other = (Reader(flights, engine, slow=True) for _ in range(2))
    await engine.until_asked()
    engine.says(chunk("a"))
    assert engine.paused
    other.catch_up()
    assert not engine.paused
    engine.says(chunk("b"))
    assert (one.texts, other.texts) == (["a"], ["a", "b"])
    await other.leave()
    assert engine.paused, "the one that is left is full"
    one.catch_up()
    assert not engine.paused
    assert one.texts == ["a", "b"]
    await one.leave()


async def test_a_slow_reader_of_a_kept_answer(flights: Flights, engine: Engine) -> None:
    """It is written as fast as it is taken, not all at once."""
    first = Reader(flights, engine)
    await engine.until_asked()
    engine.says(chunk("a"), last(1))
    engine.finishes()
    await settled(first)
    slow = Reader(flights, engine, slow=True)
    await asyncio.sleep(0)
    assert slow.texts == ["a"]
    assert slow.view.usage.total_tokens == 0
    slow.catch_up()
    assert await settled(slow) == [None]
    assert slow.charged == (5, 5, 0)


class BrokenView(RelayView):
    def events(self, job: int, data: bytes) -> bytes:
        raise RuntimeError("a fault of ours")


async def test_a_view_that_fails(flights: Flights, engine: Engine) -> None:
    """A fault in showing the answer to one is no matter of the others."""
    bad, good = Reader(flights, engine, view=BrokenView(include_usage=True)), Reader(flights, engine)
    await engine.until_asked()
    engine.says(chunk("a"), last(1))
    engine.finishes()
    errors = await settled(bad, good)
    assert [type(error) for error in errors] == [RuntimeError, type(None)]
    assert good.texts == ["a"]


@pytest.mark.parametrize(
    ("tenant", "job"), [("other", JOB), ("t", Job(JOB.path, b'{"seed":1}')), ("t", Job(b"/v1/completions", JOB.body))]
)
async def test_requests_that_differ(flights: Flights, engine: Engine, tenant: str, job: Job) -> None:
    """Another tenant, body or path: nothing is shared."""
    one = Reader(flights, engine)
    await engine.until_asked()
    other = Reader(flights, engine, tenant=tenant, job=job)
    await engine.until_asked(2)
    for reader in (one, other):
        await reader.leave()


async def test_without_coalescing(engine: Engine) -> None:
    """Each makes its own; whole answers are kept all the same."""
    flights = flights_of(coalesce=False)
    one = Reader(flights, engine)
    await engine.until_asked()
    other = Reader(flights, engine)
    await engine.until_asked(2)
    engine.says(chunk("a"), last(1))
    engine.finishes()
    assert await settled(other) == [None]
    assert len(flights.cache) == 1
    await one.leave()
    await flights.close()


async def test_more_than_may_share(engine: Engine) -> None:
    """The next one starts another generation, which those after it join."""
    flights = flights_of(sharers_max=2)
    readers = [Reader(flights, engine) for _ in range(4)]
    await engine.until_asked(2)
    assert [reader.entry.cache for reader in readers] == ["miss", "shared"] * 2
    for reader in readers:
        await reader.leave()
    assert engine.asked == 2
    await flights.close()


async def test_an_engine_that_was_started_anew(flights: Flights, engine: Engine) -> None:
    """Nothing from before is given out, neither what was kept nor what was being made."""
    first = Reader(flights, engine)
    await engine.until_asked()
    flights.forget()
    second = Reader(flights, engine)
    engine.says(last(0))
    engine.finishes()
    assert await settled(first) == [None]
    assert len(flights.cache) == 0
    await engine.until_asked(2)
    assert second.entry.cache == "miss"
    await second.leave()


async def test_closed_in_the_middle(flights: Flights, engine: Engine) -> None:
    """Those who still listen are told."""
    reader = Reader(flights, engine)
    await engine.until_asked()
    await flights.close()
    [error] = await settled(reader)
    assert isinstance(error, ApiError)
    assert error.code == "shutting_down"
    assert engine.ended == 1


async def test_those_who_wait_for_a_slot(flights: Flights, engine: Engine) -> None:
    """Each waits as long as it may itself, and hears where the generation stands; the others wait on."""
    now_s = asyncio.get_running_loop().time()
    hasty, patient = Reader(flights, engine, limits=TimeLimits(wait_s=5)), Reader(flights, engine)
    await engine.until_asked()
    assert engine.flight is not None
    engine.flight.waits(Standing(3, 1.5))
    assert hasty.standings == patient.standings == [Standing(3, 1.5)]
    flights.tick(now_s + 4, lambda: 2.0)
    assert not hasty.task.done()
    flights.tick(now_s + 6, lambda: 2.0)
    [error] = await settled(hasty)
    assert isinstance(error, WaitedTooLong)
    assert error.retry_after_s == 2.0
    assert "slot of 'm'" in error.message
    engine.says(chunk("a"), last(1))
    engine.finishes()
    assert await settled(patient) == [None]
    assert patient.charged == (5, 0, 1), "it has taken over what the first one left"


async def test_a_limit_of_one_for_its_first_token(flights: Flights, engine: Engine) -> None:
    """It counts from the slot, and ends the one request whose limit it is."""
    hasty, patient = Reader(flights, engine, limits=TimeLimits(wait_s=1, first_token_s=5)), Reader(flights, engine)
    await engine.until_asked()
    assert engine.flight is not None
    now_s = asyncio.get_running_loop().time()
    engine.flight.entry.step(Asked(now_s, "local-0"))
    for later_s in (4, 6):
        flights.tick(now_s + later_s, lambda: 2.0)
        for reader in (hasty, patient):
            reader.watch.look(now_s + later_s)
    await asyncio.wait([hasty.task])
    assert isinstance(hasty.stopped_by, FirstTokenTimeout)
    assert patient.stopped_by is None
    await patient.leave()


async def test_an_engine_that_is_given_up(flights: Flights, engine: Engine) -> None:
    """The reason is told to those who listen."""
    reader = Reader(flights, engine)
    await engine.until_asked()
    engine.says(chunk("a"))
    assert engine.flight is not None
    engine.flight.stop(EngineError("silent"))
    [error] = await settled(reader)
    assert isinstance(error, EngineError)
    assert (error.message, engine.ended) == ("silent", 1)


async def test_comments_of_the_engine(flights: Flights, engine: Engine) -> None:
    """They keep the lines of all open, and are no part of what is kept."""
    first, second = Reader(flights, engine), Reader(flights, engine)
    await engine.until_asked()
    assert engine.flight is not None
    engine.flight.write(b": still here\n\n")
    engine.says(chunk("a"), last(1))
    engine.finishes()
    assert await settled(first, second) == [None, None]
    assert first.written.startswith(b": still here\n\n")
    assert second.written.startswith(b": still here\n\n")
    third = Reader(flights, engine)
    assert await settled(third) == [None]
    assert b"still here" not in third.written
