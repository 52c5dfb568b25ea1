"""The client to an engine, against engines that answer by script: in pieces, late, nonsense, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from inhouse.engines.connection import BUFFER_BYTES_MAX, Reply
from inhouse.engines.http import Address, Pool
from inhouse.errors import EngineError, EngineTimeout

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n"
    b"7\r\ndata: 1\r\n2\r\n\n\n\r\n9;x=y\r\ndata: 2\n\n\r\n0\r\nTrailer: t\r\n\r\n"
)
BODY = b"data: 1\n\ndata: 2\n\n"
SHORT = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Script = Callable[["Visit"], Awaitable[None]]


class Visit:
    """One connection, as the engine sees it."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer

    async def request(self) -> bytes:
        """The body of the next request."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        return await self.reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))

    async def say(self, *pieces: bytes) -> None:
        """Sends the pieces one by one, each in a packet of its own."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0)


class Engine:
    """Listens on a unix socket; `script` plays each connection."""

    def __init__(self, path: Path) -> None:
        self.address = Address(socket=str(path / "e.sock"))
        self.visits = 0
        self.gone = asyncio.Event()
        self._script: Script | None = None
        self._running: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def playing(self, script: Script) -> AsyncIterator[Engine]:
        self._script = script
        server = await asyncio.start_unix_server(self._serve, self.address.socket)
        try:
            yield self
        finally:
            server.close()
            for task in tuple(self._running):
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._script is not None
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        self.visits += 1
        try:
            await self._script(Visit(self.visits, reader, writer))
        except (OSError, EOFError, asyncio.CancelledError):
            self.gone.set()
        finally:
            writer.close()
            self._running.discard(task)


@pytest.fixture
async def engine(tmp_path: Path) -> Engine:
    return Engine(tmp_path)


class Pools:
    """Makes pools and closes them at the end; counts what they say is broken."""

    def __init__(self) -> None:
        self.made: list[Pool] = []
        self.troubles = 0

    def __call__(self, engine: Engine, *, silence_s_max: float = 60.0, idle_s_max: float = 60.0) -> Pool:
        pool = Pool(engine.address, silence_s_max=silence_s_max, idle_s_max=idle_s_max, broken=self._broken)
        self.made.append(pool)
        return pool

    def _broken(self) -> None:
        self.troubles += 1


@pytest.fixture
async def pools() -> AsyncIterator[Pools]:
    made = Pools()
    yield made
    for pool in made.made:
        pool.close()
    await asyncio.sleep(0)
    assert all(pool.open_connections == 0 for pool in made.made)


class Sink:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.error: EngineError | None = None
        self.times_done = 0
        self.over = asyncio.Event()
        self.news = asyncio.Event()

    def data(self, data: bytes) -> None:
        assert not self.over.is_set()
        self.pieces.append(data)
        self.news.set()

    def done(self, error: Exception | None) -> None:
        self.times_done += 1
        self.error = error
        self.over.set()


async def sweeping(pool: Pool, until: Awaitable[object]) -> object:
    """Waits, with the pool's clock ticking."""
    task = asyncio.ensure_future(until)
    async with asyncio.timeout(30):
        while not task.done():
            pool.sweep()
            await asyncio.sleep(0.01)
    return await task


def always(*pieces: bytes) -> Script:
    async def script(visit: Visit) -> None:
        while True:
            await visit.request()
            await visit.say(*pieces)

    return script


async def test_an_answer_cut_at_any_byte(engine: Engine, pools: Pools) -> None:
    """Status and body are the same wherever the bytes are cut, and the connection is used again."""
    cuts = itertools.count(1)

    async def script(visit: Visit) -> None:
        while True:
            await visit.request()
            cut = next(cuts)
            await visit.say(CHUNKED[:cut], CHUNKED[cut:])

    async with engine.playing(script):
        pool = pools(engine)
        for _ in range(1, len(CHUNKED)):
            reply = await pool.request(b"POST", b"/x", b"{}")
            assert (reply.status, await reply.read()) == (200, BODY)
        assert engine.visits == 1
    assert pools.troubles == 0


async def test_an_answer_in_single_bytes(engine: Engine, pools: Pools) -> None:
    async with engine.playing(always(*(bytes([byte]) for byte in CHUNKED))):
        reply = await pools(engine).request(b"POST", b"/x")
        assert await reply.read() == BODY


async def test_the_request_as_the_engine_gets_it(engine: Engine, pools: Pools) -> None:
    """The body arrives whole, and again on the same connection."""
    bodies = []

    async def script(visit: Visit) -> None:
        while True:
            bodies.append(await visit.request())
            await visit.say(SHORT)

    async with engine.playing(script):
        pool = pools(engine)
        for body in (b"", b"{}", b"x" * 100_000):
            assert await (await pool.request(b"POST", b"/x", body)).read() == b"ok"
        assert (engine.visits, bodies) == (1, [b"", b"{}", b"x" * 100_000])


async def test_a_kept_connection_that_the_engine_has_closed(engine: Engine, pools: Pools) -> None:
    """The request goes once more, on a fresh connection; that is no sign of trouble."""
    hold = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.say(SHORT)
        if visit.number == 1:
            await visit.request()  # takes the second request and leaves without an answer
            return
        await hold.wait()

    async with engine.playing(script):
        pool = pools(engine)
        for _ in range(2):
            assert await (await pool.request(b"POST", b"/x", b"{}")).read() == b"ok"
        assert engine.visits == 2
        assert pools.troubles == 0


async def test_a_fresh_connection_that_is_closed_without_an_answer(engine: Engine, pools: Pools) -> None:
    """It is an error, not tried again for ever, and told as trouble before the request learns of it."""

    async def script(visit: Visit) -> None:
        await visit.request()

    async with engine.playing(script):
        with pytest.raises(EngineError, match="without an answer"):
            await pools(engine).request(b"POST", b"/x")
        assert engine.visits == 1
        assert pools.troubles == 1


async def test_nobody_listens(engine: Engine, pools: Pools) -> None:
    with pytest.raises(EngineError, match="cannot be reached"):
        await pools(engine).request(b"POST", b"/x")
    assert pools.troubles == 1


@pytest.mark.parametrize("cut", [30, len(CHUNKED) - 40, len(CHUNKED) - 3])
async def test_an_answer_that_breaks_off(engine: Engine, pools: Pools, cut: int) -> None:
    """In the head, in the body, or just before its end: an error, and the connection is not used again."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.say(CHUNKED[:cut])

    async with engine.playing(script):
        pool = pools(engine)
        with pytest.raises(EngineError):
            await (await pool.request(b"POST", b"/x")).read()
        assert pool.open_connections == 0
        assert pools.troubles == 1


@pytest.mark.parametrize("garbage", [b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", b"\x00" * 99])
async def test_garbage(engine: Engine, pools: Pools, garbage: bytes) -> None:
    async with engine.playing(always(garbage)):
        with pytest.raises(EngineError, match="not HTTP"):
            await pools(engine).request(b"POST", b"/x")
        assert pools.troubles == 1


async def test_garbage_in_the_middle(engine: Engine, pools: Pools) -> None:
    async with engine.playing(always(CHUNKED[:-20], b"zz\r\n")):
        reply = await pools(engine).request(b"POST", b"/x")
        with pytest.raises(EngineError, match="not HTTP"):
            await reply.read()


async def test_bytes_that_nobody_asked_for(engine: Engine, pools: Pools) -> None:
    """A connection that speaks while it is idle is not trusted with the next request."""
    spoken = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.say(SHORT)
        if visit.number == 1:
            await spoken.wait()
            await visit.say(SHORT)
        await visit.request()
        await visit.say(SHORT)
        await visit.request()

    async with engine.playing(script):
        pool = pools(engine)
        assert await (await pool.request(b"POST", b"/x")).read() == b"ok"
        spoken.set()
        await asyncio.wait_for(engine.gone.wait(), 30)
        assert await (await pool.request(b"POST", b"/x")).read() == b"ok"
        assert engine.visits == 2


async def test_silence_before_the_answer(engine: Engine, pools: Pools) -> None:
    """Given up after `silence_s_max`: EngineTimeout, and the engine sees the connection close."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.request()

    async with engine.playing(script):
        pool = pools(engine, silence_s_max=0.05)
        with pytest.raises(EngineTimeout):
            await sweeping(pool, pool.request(b"POST", b"/x"))
        await asyncio.wait_for(engine.gone.wait(), 30)
        assert pools.troubles == 1


async def test_silence_in_the_middle(engine: Engine, pools: Pools) -> None:
    """What came is handed on, then the error, once."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.say(CHUNKED[:-10])
        await visit.request()

    async with engine.playing(script):
        pool = pools(engine, silence_s_max=0.05)
        sink = Sink()
        (await pool.request(b"POST", b"/x")).pipe(sink)
        await sweeping(pool, sink.over.wait())
        assert isinstance(sink.error, EngineTimeout)
        assert b"".join(sink.pieces).startswith(b"data: 1")
        assert sink.times_done == 1


async def test_a_reader_that_pauses(engine: Engine, pools: Pools) -> None:
    """While we do not read, nothing arrives, the engine is held up, and its silence is not held against it."""
    sent = 0

    async def script(visit: Visit) -> None:
        nonlocal sent
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(400):
            await visit.say(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
            sent += 1
        await visit.say(b"0\r\n\r\n")
        await visit.request()

    async with engine.playing(script):
        pool = pools(engine, silence_s_max=0.2)
        sink = Sink()
        reply = await pool.request(b"POST", b"/x")
        reply.pipe(sink)
        await asyncio.wait_for(sink.news.wait(), 30)
        reply.pause()
        seen, end_s = -1, asyncio.get_running_loop().time() + 0.5
        while seen != sent or asyncio.get_running_loop().time() < end_s:
            seen = sent
            pool.sweep()
            await asyncio.sleep(0.02)
        assert sent < 400
        reply.resume()
        await asyncio.wait_for(sink.over.wait(), 30)
        assert sink.error is None
        assert sum(map(len, sink.pieces)) == 4_000_000


async def test_a_body_that_nobody_takes_yet(engine: Engine, pools: Pools) -> None:
    """It is buffered up to a limit; then it comes whole to who takes it."""
    size = 40 * BUFFER_BYTES_MAX
    async with engine.playing(always(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)):
        reply = await pools(engine).request(b"POST", b"/x")
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert len(await reply.read()) == size


async def test_a_body_that_is_too_large(engine: Engine, pools: Pools) -> None:
    """An error, and the connection is closed with the rest unread."""
    async with engine.playing(always(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 10_000_000)):
        pool = pools(engine)
        reply = await pool.request(b"POST", b"/x")
        with pytest.raises(EngineError, match="too large"):
            await reply.read(1000)
        await asyncio.wait_for(engine.gone.wait(), 30)
        assert pool.open_connections == 0
        assert pools.troubles == 0, "it was our own decision"


@pytest.mark.parametrize("begun", [False, True])
async def test_a_cancelled_request(engine: Engine, pools: Pools, begun: bool) -> None:
    """The engine sees the connection close; nobody is called any more, and it is no trouble of the engine's."""
    arrived = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        if begun:
            await visit.say(CHUNKED[:-10])
        arrived.set()
        await visit.request()

    async def one(pool: Pool, sink: Sink) -> None:
        reply: Reply | None = None
        try:
            reply = await pool.request(b"POST", b"/x")
            reply.pipe(sink)
            await sink.over.wait()
        finally:
            if reply is not None:
                reply.abort()

    async with engine.playing(script):
        pool, sink = pools(engine), Sink()
        task = asyncio.create_task(one(pool, sink))
        await asyncio.wait_for(sink.news.wait() if begun else arrived.wait(), 30)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.wait_for(engine.gone.wait(), 30)
        assert sink.times_done == 0
        assert pool.open_connections == 0
        assert pools.troubles == 0


async def test_an_answer_that_ends_the_connection(engine: Engine, pools: Pools) -> None:
    """`Connection: close` is heeded."""
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
    async with engine.playing(always(closing)):
        pool = pools(engine)
        for _ in range(2):
            assert await (await pool.request(b"POST", b"/x")).read() == b"ok"
        assert engine.visits == 2


async def test_idle_connections_are_closed_in_time(engine: Engine, pools: Pools) -> None:
    """Before the engine does so."""
    async with engine.playing(always(SHORT)):
        pool = pools(engine, idle_s_max=0.05)
        assert await (await pool.request(b"POST", b"/x")).read() == b"ok"
        assert pool.open_connections == 1
        await sweeping(pool, engine.gone.wait())
        assert pool.open_connections == 0


async def test_many_at_once(engine: Engine, pools: Pools) -> None:
    """Each has a connection of its own and its own answer; later ones use the last that came free."""

    async def script(visit: Visit) -> None:
        while True:
            body = await visit.request()
            await visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body)

    async def ask(pool: Pool, number: int) -> bytes:
        return await (await pool.request(b"POST", b"/x", b"%d" % number)).read()

    async with engine.playing(script):
        pool = pools(engine)
        for _ in range(3):
            found = await asyncio.gather(*(ask(pool, number) for number in range(20)))
            assert found == [b"%d" % number for number in range(20)]
        assert engine.visits <= 20


async def test_the_pool_is_closed_under_an_answer(engine: Engine, pools: Pools) -> None:
    """Who listens is told that it broke off."""
    async with engine.playing(always(CHUNKED[:-10])):
        pool, sink = pools(engine), Sink()
        (await pool.request(b"POST", b"/x")).pipe(sink)
        pool.close()
        await asyncio.wait_for(sink.over.wait(), 30)
        assert isinstance(sink.error, EngineError)
        assert sink.times_done == 1


def test_a_request_that_is_given_up_while_it_connects(tmp_path: Path) -> None:
    """At whatever moment of connecting: its connection is forgotten. On uvloop, as in the gateway."""

    async def script(visit: Visit) -> None:
        while True:
            await visit.request()
            await visit.say(SHORT)

    async def many() -> int:
        async with Engine(tmp_path).playing(script) as engine:
            pool = Pool(engine.address, silence_s_max=60, idle_s_max=0)
            for moment in range(200):
                asked = asyncio.create_task(pool.request(b"POST", b"/", b"{}"))
                for _ in range(moment % 20):
                    await asyncio.sleep(0)
                asked.cancel()
                await asyncio.gather(asked, return_exceptions=True)
            pool.close()
            for _ in range(20):
                await asyncio.sleep(0)
            return pool.open_connections

    assert uvloop.run(many()) == 0
