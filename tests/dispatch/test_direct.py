"""From a call to an engine that answers by script, and back: slots and connections are given back on every way out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from inhouse.admission.fair import FairQueue
from inhouse.admission.notices import Standing, Tell
from inhouse.admission.turns import Ask, Turn, Turns
from inhouse.core import Usage
from inhouse.dispatch import direct
from inhouse.dispatch.lane import Lane, Share
from inhouse.dispatch.places import Places
from inhouse.dispatch.watch import TimeLimits, Watch
from inhouse.engines.connection import Reply
from inhouse.engines.http import Address, Pool
from inhouse.engines.member import Member
from inhouse.engines.table import ENGINES
from inhouse.errors import ApiError, EngineError
from inhouse.telemetry.entry import Entry
from inhouse.wire.call import Call, Job

STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n0\r\n\r\n"


class FakeLane:
    """As much of a lane as a call needs: turns, and the way to the engine."""

    model = "m"
    limits = TimeLimits()
    engine = ENGINES["llamacpp"]
    body_start = None
    shown_model = None
    failover = None
    flights = None
    queued = None

    def __init__(self, pool: Pool, slots: int) -> None:
        room = {"waiting_max": 100, "waiting_tokens_max": 10**9, "waiting_bytes_max": 10**9}
        self.turns = Turns(FairQueue("m", **room, prefill_long_tokens=10**6))
        self.places = Places(None, resize=self.turns.resize, hopeless=lambda: EngineError("gone"))
        member = Member("m-0", self.engine, slots, pool=pool)
        self.places.join(member)
        member.enter("ready")
        self._pool = pool
        self.watches: set[Watch] = set()

    def ask(self, job: Job, share: Share) -> Ask:
        return Ask()

    def learn(self, body_bytes: int, prompt_tokens: int) -> None:
        return None

    def turn(self, prefer_wait_s: float, wait_s: float, ask: Ask, tell: Tell | None) -> Turn:
        return self.turns.turn(min(60.0, wait_s), ask, tell)

    def pool(self) -> Pool:
        return self._pool


class FakeClient:
    prefer_wait_s = 0.0
    session = ""

    def __init__(self) -> None:
        self.written = b""
        self.attached: list[Reply] = []

    def time_limits(self, lane: TimeLimits, *, kept_alive: bool) -> TimeLimits:
        return lane

    def waits(self, standing: Standing) -> None:
        return None

    def stop(self, reason: ApiError) -> None:
        raise AssertionError("nothing here is late")

    def begin(self) -> None:
        return None

    def write(self, data: bytes) -> None:
        self.written += data

    def attach(self, reply: Reply) -> None:
        self.attached.append(reply)

    def detach(self, reply: Reply) -> None:
        self.attached.remove(reply)


class FakeView:
    """Hands events on; raises `fault` in place of that, where it is given."""

    streams = True
    usage = Usage()
    events_seen = 0

    def __init__(self, fault: Exception | None = None) -> None:
        self._fault = fault

    def events(self, job: int, data: bytes) -> bytes:
        if self._fault is not None:
            raise self._fault
        return data

    def tokens_of(self, job: int) -> int:
        return 1

    def finished(self, job: int) -> None:
        return None

    def end(self) -> bytes:
        return b"end"

    def fail(self, error: ApiError) -> bytes:
        return b"failed"


class Engine:
    """Counts how many requests it has at once, and answers them with `answer`."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "e.sock")
        self.now = self.most = 0
        self.answer = STREAM
        self.go = asyncio.Event()
        self.news = asyncio.Condition()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                self.now += 1
                self.most = max(self.most, self.now)
                async with self.news:
                    self.news.notify_all()
                await self.go.wait()
                self.now -= 1
                writer.write(self.answer)
        writer.close()


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    made = Engine(tmp_path)
    server = await asyncio.start_unix_server(made.serve, made.path)
    yield made
    server.close()


@pytest.fixture
async def lane(engine: Engine) -> AsyncIterator[FakeLane]:
    pool = Pool(Address(socket=engine.path), silence_s_max=60.0)
    yield FakeLane(pool, slots=2)
    pool.close()
    await asyncio.sleep(0)


async def answered(call: Call, lane: FakeLane, client: FakeClient) -> bytes:
    return await direct.answer(call, cast(Lane, lane), Share("t"), cast(Any, client), Entry("id", "chat", 0.0))


def call_of(jobs: int, view: FakeView) -> Call:
    return Call("m", (Job(b"/x", b""),) * jobs, view)


async def until_busy(engine: Engine, requests: int) -> None:
    async with asyncio.timeout(30), engine.news:
        await engine.news.wait_for(lambda: engine.now >= requests)


async def test_a_call_of_many_jobs(engine: Engine, lane: FakeLane) -> None:
    """The engine never has more of them at once than there are slots."""
    client = FakeClient()
    task = asyncio.create_task(answered(call_of(7, FakeView()), lane, client))
    await until_busy(engine, 2)
    engine.go.set()
    assert await task == b"end"
    assert client.written == b"data: 1\n\n" * 7
    assert engine.most == 2
    assert (lane.turns.queue.serving, client.attached) == (0, [])


@pytest.mark.parametrize("jobs", [1, 5])
async def test_cancelled_in_the_middle(engine: Engine, lane: FakeLane, jobs: int) -> None:
    """All its slots are free at once, its connections closed, its waiters gone."""
    client = FakeClient()
    task = asyncio.create_task(answered(call_of(jobs, FakeView()), lane, client))
    await until_busy(engine, min(jobs, 2))
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    await asyncio.sleep(0)
    assert (lane.turns.queue.serving, lane.turns.queue.waiting, lane.watches) == (0, 0, set())
    assert (lane.pool().open_connections, client.attached) == (0, [])


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("fault", [KeyError("content"), EngineError("the engine failed")])
async def test_a_fault_while_an_event_is_shown(engine: Engine, lane: FakeLane, fault: Exception, jobs: int) -> None:
    """It happens in a callback and reaches the caller all the same, as what it is."""
    engine.go.set()
    client = FakeClient()
    with pytest.raises((type(fault), ExceptionGroup)):
        await answered(call_of(jobs, FakeView(fault)), lane, client)
    await asyncio.sleep(0)
    assert (lane.turns.queue.serving, client.attached) == (0, [])


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (b"500 X", b"<html>", "answered with status 500"),
        (b"500 X", b'{"error":{"message":"out of memory"}}', "out of memory"),
        (b"400 X", b'{"error":{"message":"bad grammar"}}', "bad grammar"),
        (b"503 X", b'{"error":{"message":"Loading model"}}', "still loading"),
        (b"400 X", b'{"error":{"message":"m","n_prompt_tokens":9000,"n_ctx":4096}}', "9000 tokens"),
    ],
)
async def test_a_refusal_of_the_engine(engine: Engine, lane: FakeLane, status: bytes, body: bytes, told: str) -> None:
    """Becomes an error of ours that says what the engine said, and the slot is free."""
    engine.answer = b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)
    engine.go.set()
    with pytest.raises(ApiError, match=told):
        await answered(call_of(1, FakeView()), lane, FakeClient())
    assert lane.turns.queue.serving == 0
