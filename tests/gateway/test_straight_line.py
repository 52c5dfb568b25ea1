"""The straight line of usual requests: to client, books and story it is the general way, whatever the engine does."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from inhouse import runtime
from inhouse.config import Stack
from inhouse.errors import ShuttingDown
from inhouse.gateway import app
from inhouse.gateway.lean import Config, ServerState
from inhouse.gateway.protocol import GatewayProtocol
from inhouse.gateway.sockets import Sockets
from inhouse.outbox import outbox_of
from inhouse.parts import book_all
from inhouse.store.audit_read import oldest
from inhouse.store.ledger import UsageFilter
from inhouse.store.ledger_sqlite import SqliteLedger

KEY = "straight-or-not-0123456789-abcdefghij"
DEADLINE_S = 20.0
WARM_UPS = 8
"""Until there is a connection to each engine, and more quota at hand than one request needs."""
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10, "prompt_tokens_details": {"cached_tokens": 2}}
LIMITS = {"requests_per_minute": 1000, "tokens_per_minute": 1_000_000, "tokens_per_day": 5_000_000}
_CHANGING = re.compile(
    rb"(?m)^(date|x-request-id|x-inhouse-queue-wait|x-ratelimit-remaining-\w+|x-ratelimit-reset-\w+): [^\r]*\r\n"
)


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps({"id": "c-1", "created": 1, "model": "m", **fields}).encode() + b"\n\n"


def word(text: str, end: str | None = None) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text} if text else {}, "finish_reason": end}])


STREAM = [word("once"), word(" upon"), word("", "stop") + event(choices=[], usage=USAGE) + b"data: [DONE]\n\n"]
DOCUMENT = json.dumps(
    {"id": "c-1", "object": "chat.completion", "choices": [{"message": {"content": "once"}}], "usage": USAGE}
).encode()


class Engine:
    """Two ports that answer by what the prompt asks for; a fault comes once, and is gone when asked again."""

    def __init__(self) -> None:
        self.ports: list[int] = []
        self.asked: list[str] = []
        self.heard: set[str] = set()
        self.news = asyncio.Event()
        self.gate = asyncio.Event()
        self._lines: set[asyncio.StreamWriter] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Engine]:
        servers = [await asyncio.start_server(self._serve, "127.0.0.1", 0) for _ in range(2)]
        self.ports = [server.sockets[0].getsockname()[1] for server in servers]
        try:
            yield self
        finally:
            for server in servers:
                server.close()
            for line in self._lines:
                line.close()
            for server in servers:
                await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._lines.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = re.search(rb"content-length: (\d+)", head)
                body = await reader.readexactly(int(length[1])) if length else b""
                if head.startswith(b"GET"):
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                elif not await self._answer(json.loads(body), reader, writer):
                    break
        self._lines.discard(writer)
        writer.close()

    async def _answer(self, ask: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """False: the connection ends."""
        wanted = ask["messages"][-1]["content"].split()[0]
        again = wanted in self.heard
        self.heard.add(wanted)
        self.asked.append(wanted)
        pieces = STREAM if ask.get("stream") else [DOCUMENT]
        opening = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        status = {"refused": b"400 Bad Request", "fails": b"500 Oops", "busy": b"503 Busy"}.get(wanted)
        if status is not None and not (again and wanted != "refused"):
            told = b'{"error":{"message":"no, by %b"}}' % KEY.encode()
            writer.write(b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (status, len(told), told))
        elif wanted == "silent-end" and not again:
            return False
        elif wanted == "no-http" and not again:
            writer.write(b"SSH-2.0-what\r\n\r\n")
        elif wanted == "garbage" and not again:
            writer.write(opening + b'7\r\n{"a":1}\r\n0\r\n\r\n')
        elif wanted == "hangs":
            if ask.get("stream"):
                writer.write(opening + b"%x\r\n%b\r\n" % (len(STREAM[0]), STREAM[0]))
            self.news.set()
            with contextlib.suppress(ConnectionError):
                await reader.read(1)
            self.news.set()
            return False
        else:
            if wanted == "gated":
                await self.gate.wait()
            cut = wanted == "breaks" and not again
            if "id" in wanted or not ask.get("stream"):
                body = b"".join(pieces)
                writer.write(b"HTTP/1.1 200 OK\r\nserver: x\r\ncontent-length: %d\r\n\r\n" % len(body))
                half = len(body) // 2 if wanted in ("slowly", "breaks") else len(body)
                writer.write(body[:half])
                await writer.drain()
                if cut:
                    return False
                await asyncio.sleep(0)
                writer.write(body[half:])
                return True
            writer.write(opening)
            for piece in pieces[: 1 if cut else None]:
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                if wanted == "slowly":
                    await writer.drain()
                    await asyncio.sleep(0.01)
            if cut:
                await writer.drain()
                return False
            writer.write(b"0\r\n\r\n")
        return True


@dataclass
class Seen:
    """What client and operator were left with."""

    answers: list[bytes]
    audit: list[dict[str, Any]]
    usage: list[tuple[Any, ...]]
    metrics: list[str]
    stories: list[list[dict[str, Any]]]
    held: tuple[int, int, int]
    asked: list[str]
    straight: int = field(compare=False)
    """Requests that went the straight line."""


def request(wanted: str, *, stream: bool, **more: Any) -> bytes:
    fields = {"model": "m", "max_tokens": 9, "stream": stream, **more}
    messages = [{"role": "user", "content": f"{wanted} please"}]
    body = json.dumps({name: value for name, value in fields.items() if value is not None} | {"messages": messages})
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
        f"content-length: {len(body)}\r\n\r\n{body}"
    ).encode()


def stack_of(folder: Path, engine: Engine, **more: Any) -> Stack:
    endpoints = [f"http://127.0.0.1:{port}" for port in engine.ports]
    return Stack.model_validate(
        {
            "models": {"m": {"endpoints": endpoints, "engine": "vllm", "slots": 4, "context": 2048, **more}},
            "tenant_defaults": {"limits": LIMITS},
            "state_dir": str(folder),
        }
    )


@contextlib.asynccontextmanager
async def door(stack: Stack) -> AsyncIterator[tuple[runtime.Parts, int]]:
    """A gateway in this process, its endpoints ready."""
    async with runtime.running(stack, {"INHOUSE_API_KEY": KEY}, lambda report: None) as parts:
        config = Config(app.build(parts, None, Sockets(parts)), ws="none", lifespan="off", log_config=None)
        config.load()
        state, loop = ServerState(), asyncio.get_running_loop()
        server = await loop.create_server(lambda: GatewayProtocol(config, state, {}, loop, parts=parts), "127.0.0.1", 0)
        await ready(parts)
        yield parts, server.sockets[0].getsockname()[1]
        for line in tuple(state.connections):
            line.transport.abort()  # type: ignore[union-attr]
        server.close()
        await server.wait_closed()


async def ready(parts: runtime.Parts) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not all(member.open for member in parts.lanes["m"].places.members.values()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def warm_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for _ in range(WARM_UPS):
        writer.write(request("hello", stream=False))
        await answer_of(reader)


async def begin(writer: asyncio.StreamWriter, data: bytes) -> int:
    """Sends the head of a request and some of its body; how much that is."""
    cut = data.index(b"\r\n\r\n") + 20
    writer.write(data[:cut])
    await asyncio.sleep(0.1)
    return cut


async def answer_of(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    if length:
        return head + await reader.readexactly(int(length[1]))
    body = b""
    while not body.endswith(b"0\r\n\r\n"):
        body += await reader.read(65536)
    whole, at = b"", 0
    while (end := body.index(b"\r\n", at)) and (size := int(body[at:end], 16)):  # what is one chunk may be two
        whole += body[end + 2 : end + 2 + size]
        at = end + 4 + size
    return head + whole


async def seen_with(folder: Path, sends: list[bytes], *, straight: bool = True, **more: Any) -> Seen:
    """One client sends them one after the other on one connection, behind some to be known by."""
    async with Engine().running() as engine:
        async with door(stack_of(folder, engine, **more)) as (parts, port):
            if not straight:  # nobody was proven before
                parts.recognise = lambda proof: None
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            answers = []
            for data in [request("hello", stream=False, max_tokens=None)] * WARM_UPS + sends:
                await ready(parts)
                writer.write(data)
                async with asyncio.timeout(DEADLINE_S):
                    answers.append(await answer_of(reader))
            writer.close()
            ids = [found[1].decode() for a in answers if (found := re.search(rb"x-request-id: (\w+)", a))]
            book_all(parts)
            entries = [parts.recent.find(one)[0] for one in ids]
            places = {f"127.0.0.1:{port}": f"e{at}" for at, port in enumerate(engine.ports)}
            stories = [[shown(step, places) for step in entry.steps] for entry in entries]
            lane = parts.lanes["m"]
            in_flight = sum(member.in_flight for member in lane.places.members.values())
            held = (parts.quotas.held, lane.turns.queue.serving, in_flight)
            assert not lane.watches
            assert not outbox_of(asyncio.get_running_loop()).opening
            text, went = parts.metrics.text().decode(), parts.straight
        metrics = [
            line for line in text.splitlines() if re.match(r"inhouse_(requests|tokens|streams|retries|fail)", line)
        ]
        ledger = SqliteLedger(folder)
        usage = [msgspec.structs.astuple(row)[1:] for row in ledger.usage(UsageFilter())]
        ledger.close()
        audit = [less_times(json.loads(line)) for line in oldest(folder) if b'"kind":"request"' in line]
        shown_answers = [_CHANGING.sub(b"", one) for one in answers]
        return Seen(shown_answers, audit, usage, metrics, stories, held, engine.asked, went)


def shown(step: Any, places: dict[str, str]) -> dict[str, Any]:
    fields = {"what": type(step).__name__, **msgspec.structs.asdict(step)}
    text = json.dumps({name: v for name, v in fields.items() if name != "at_s"})
    for endpoint, name in places.items():
        text = text.replace(endpoint, name)
    found: dict[str, Any] = json.loads(text)
    return found


def less_times(record: dict[str, Any]) -> dict[str, Any]:
    changing = ("time", "id", "seq", "prev", "hash", "first_token_s", "total_s")
    return {name: value for name, value in record.items() if name not in changing} | {
        "first": "first_token_s" in record
    }


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What came from clients."""
    seen: list[bytes] = []
    received = GatewayProtocol.data_received

    def reading(self: GatewayProtocol, data: bytes) -> None:
        seen.append(data)
        received(self, data)

    monkeypatch.setattr(GatewayProtocol, "data_received", reading)
    return seen


USUAL = ["hello", "slowly", "refused", "fails", "busy", "silent-end", "no-http", "garbage", "breaks"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("wanted", USUAL)
async def test_both_ways_are_one(tmp_path: Path, wanted: str, stream: bool) -> None:
    """Answers, audit, usage, metrics and stories are the same, and nothing stays held, however the engine behaves."""
    options = {"include_usage": True} if stream else None
    sends = [request(wanted, stream=stream, stream_options=options), request("hello", stream=stream, max_tokens=None)]
    sends += [request("hello", stream=stream, max_tokens=10_000_000), request("hello", stream=stream, nonsense=1)]
    straight = await seen_with(tmp_path / "a", sends)
    general = await seen_with(tmp_path / "b", sends, straight=False)
    assert straight == general
    assert straight.straight >= 2
    assert general.straight == 0
    assert straight.held == (0, 0, 0)


async def test_a_stream_that_another_engine_could_not_go_on_with(tmp_path: Path) -> None:
    """Without failover a stream that breaks off ends with the same event on both ways."""
    sends = [request("breaks", stream=True)]
    straight = await seen_with(tmp_path / "a", sends, failover={"enabled": False})
    assert await seen_with(tmp_path / "b", sends, straight=False, failover={"enabled": False}) == straight
    assert b"error" in straight.answers[-1]
    assert straight.straight >= 1


async def test_who_is_opening(tmp_path: Path) -> None:
    """A request that does not go the straight line is, until the engine answers it."""
    async with Engine().running() as engine, door(stack_of(tmp_path, engine)) as (parts, port):
        opening = outbox_of(asyncio.get_running_loop()).opening
        parts.recognise = lambda proof: None
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(DEADLINE_S):
            writer.write(request("gated", stream=True))
            while "gated" not in engine.asked:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert len(opening) == 1
            engine.gate.set()
            await answer_of(reader)
            assert not opening
            writer.write(request("hangs", stream=True))
            await reader.readuntil(b"once")
            assert not opening
            assert parts.lanes["m"].turns.queue.serving == 1
        writer.close()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves(tmp_path: Path, stream: bool) -> None:
    """The engine learns of it, everything is given back, and the request is booked once."""
    async with Engine().running() as engine, door(stack_of(tmp_path, engine)) as (parts, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await warm_up(reader, writer)
        before = parts.straight
        writer.write(request("hangs", stream=stream))
        async with asyncio.timeout(DEADLINE_S):
            await engine.news.wait()
            engine.news.clear()
            writer.close()
            await engine.news.wait()
            while parts.quotas.held or parts.lanes["m"].turns.queue.serving:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert parts.straight == before + 1
        assert [member.in_flight for member in parts.lanes["m"].places.members.values()] == [0, 0]
        assert not parts.lanes["m"].watches
        book_all(parts)
        assert 'inhouse_requests_total{api="chat",model="m",status="499"} 1.0' in parts.metrics.text().decode()
        assert len(parts.recent) == WARM_UPS + 1


async def test_a_body_that_comes_in_pieces(tmp_path: Path) -> None:
    """It goes the straight line once it is there; the next request behind it, in the same read, is answered too."""
    async with Engine().running() as engine, door(stack_of(tmp_path, engine)) as (parts, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await warm_up(reader, writer)
        before = parts.straight
        data = request("hello", stream=False) + request("hello", stream=False)
        cut = data.index(b"\r\n\r\n") + 20
        for piece in (data[:cut], data[cut : cut + 9], data[cut + 9 :]):
            writer.write(piece)
            await asyncio.sleep(0.05)
        async with asyncio.timeout(DEADLINE_S):
            answers = [await answer_of(reader) for _ in range(2)]
        assert all(one.startswith(b"HTTP/1.1 200 ") for one in answers)
        assert parts.straight >= before + 1
        writer.close()


async def test_a_body_that_is_on_its_way_when_the_server_stops(tmp_path: Path) -> None:
    """It came before: it is answered. Who comes after is not, and hears so before the body is there."""
    async with Engine().running() as engine, door(stack_of(tmp_path, engine)) as (parts, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await warm_up(reader, writer)
        data = request("hello", stream=False)
        cut = await begin(writer, data)
        parts.draining = True
        writer.write(data[cut:])
        async with asyncio.timeout(DEADLINE_S):
            assert (await answer_of(reader)).startswith(b"HTTP/1.1 200 ")
            writer.write(data[:cut])
            assert (await answer_of(reader)).startswith(b"HTTP/1.1 503 ")
        writer.close()


async def test_a_fault_of_ours_leaves_no_client_waiting(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The connection ends, the request is booked, the log says where it was and nothing of the request."""

    def broken(proof: bytes) -> None:
        raise ValueError("canary-content")

    async with Engine().running() as engine, door(stack_of(tmp_path, engine)) as (parts, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await warm_up(reader, writer)
        data = request("hello", stream=False)
        cut = await begin(writer, data)
        parts.recognise = broken  # type: ignore[assignment]
        writer.write(data[cut:])
        async with asyncio.timeout(DEADLINE_S):
            assert await reader.read() == b""
        book_all(parts)
        assert len(parts.recent) == WARM_UPS + 1
        parts.log.flush()
        writer.close()
    told = capfd.readouterr().err
    assert "internal error" in told
    assert "canary" not in told


async def test_a_caller_who_is_not_known_is_refused_before_the_body(tmp_path: Path) -> None:
    async with Engine().running() as engine, door(stack_of(tmp_path, engine)) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        data = request("hello", stream=False).replace(KEY.encode(), b"sk-somebody-else")
        writer.write(data[: data.index(b"\r\n\r\n") + 20])
        async with asyncio.timeout(DEADLINE_S):
            assert (await answer_of(reader)).startswith(b"HTTP/1.1 401 ")
        writer.close()


@pytest.mark.parametrize(("ends", "status"), [("leaves", 499), ("is slow", 408), ("meets the end of the server", 503)])
async def test_a_body_that_never_comes_whole(tmp_path: Path, ends: str, status: int) -> None:
    """It is booked once, its client is told where it is there, and nothing waits for it any more."""
    async with Engine().running() as engine, door(stack_of(tmp_path, engine)) as (parts, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await warm_up(reader, writer)
        data = request("hello", stream=False)
        await begin(writer, data)
        (line,) = [one for one in gc.get_objects() if type(one) is GatewayProtocol and one._parts is parts]
        assert len(line.tasks) == 1
        if ends == "leaves":
            writer.close()
        elif ends == "is slow":
            line.check(asyncio.get_running_loop().time() + 3600)
        else:
            line.stop(ShuttingDown("it ends", retry_after_s=1.0))
        async with asyncio.timeout(DEADLINE_S):
            if status != 499:
                assert (await answer_of(reader)).startswith(b"HTTP/1.1 %d " % status)
            while line.tasks:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        book_all(parts)
        assert f'inhouse_requests_total{{api="chat",model="-",status="{status}"}} 1.0' in parts.metrics.text().decode()
        assert len(parts.recent) == WARM_UPS + 1
        writer.close()


async def test_a_limit_of_time(tmp_path: Path) -> None:
    """An engine that hangs is given up after the model's `total_timeout`, which the client is told."""
    more: dict[str, Any] = {"total_timeout": 0.4}
    async with Engine().running() as engine, door(stack_of(tmp_path, engine, **more)) as (parts, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await warm_up(reader, writer)
        before = parts.straight
        writer.write(request("hangs", stream=False))
        async with asyncio.timeout(DEADLINE_S):
            answer = await answer_of(reader)
        assert answer.startswith(b"HTTP/1.1 504"), answer
        assert (parts.straight - before, parts.quotas.held, parts.lanes["m"].turns.queue.serving) == (1, 0, 0)
        writer.close()


async def test_requests_that_are_sent_ahead(tmp_path: Path, reads: list[bytes]) -> None:
    """Each gets its own answer in its turn, also one without a body, and one whose body came in pieces."""
    async with Engine().running() as engine, door(stack_of(tmp_path, engine)) as (parts, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await warm_up(reader, writer)
        before = parts.straight
        usual = request("gated", stream=False)
        empty = re.sub(rb"content-length: \d+\r\n\r\n.*", b"content-length: 0\r\n\r\n", usual, flags=re.DOTALL)
        async with asyncio.timeout(DEADLINE_S):
            for data in (usual, usual[:-9], usual[-9:] + empty + usual):
                seen = len(reads)
                writer.write(data)
                while len(reads) == seen:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            engine.gate.set()
            found = [(await answer_of(reader)).split()[1] for _ in range(4)]
        assert found == [b"200", b"200", b"400", b"200"]
        assert parts.straight > before
        assert (parts.quotas.held, parts.lanes["m"].turns.queue.serving) == (0, 0)
        writer.close()
