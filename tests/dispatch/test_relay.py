"""Chunks that are handed on with their framing: what a client hears, and what is kept of it, is as without that."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.core import Usage
from inhouse.dispatch.failover import Rescue
from inhouse.dispatch.places import Place
from inhouse.dispatch.sink import ViewSink
from inhouse.dispatch.watch import TimeLimits, Watch
from inhouse.engines.connection import Connection
from inhouse.engines.known_head import KnownHead
from inhouse.engines.member import Member
from inhouse.engines.table import ENGINES
from inhouse.outbox import Outbox
from inhouse.telemetry.entry import Entry
from inhouse.wire.call import Job
from inhouse.wire.views import RelayView

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
SENT_BYTES_MAX = 1 << 20


def event(**fields: Any) -> bytes:
    return b"data: %b\n\n" % json.dumps(fields, separators=(",", ":")).encode()


def word(text: str, **more: Any) -> bytes:
    return event(id="c", choices=[{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more)


OPENING = event(id="c", choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
STOP = event(id="c", choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
USAGE = event(id="c", choices=[], usage={"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5})
DONE = b"data: [DONE]\n\n"
ODD = [USAGE, DONE, STOP, b": still here\n\n", b"event: error\n" + event(error={"message": "broken"}), b"data: {\n\n"]
events = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8).map(word),
    st.text(max_size=3).map(lambda text: word(text, usage=None)),
    st.sampled_from(ODD),
)


def chunk(data: bytes, size: str = "%x") -> bytes:
    return (size % len(data)).encode() + b"\r\n%b\r\n" % data


@st.composite
def reads(draw: st.DrawFn) -> list[bytes]:
    """A response as its reads: mostly a chunk an event and a read a chunk, sometimes cut anywhere."""
    told = [OPENING, *draw(st.lists(events, max_size=12)), *draw(st.sampled_from([[STOP, USAGE, DONE], [STOP], []]))]
    if draw(st.booleans()):
        whole = b"".join(told)
        told = cut(whole, draw(st.lists(st.integers(1, len(whole) - 1), max_size=4)))
    sizes = st.sampled_from(["%x", "%x", "%x", "%X", "0%x", "%x;a=b"])
    chunks = [HEAD, *[chunk(data, draw(sizes)) for data in told]]
    if draw(st.booleans()):
        whole = b"".join(chunks)
        chunks = cut(whole, draw(st.lists(st.integers(1, len(whole) - 1), max_size=4)))
    return [*chunks, b"0\r\n\r\n"] if draw(st.booleans()) else chunks


def cut(whole: bytes, places: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(set(places)), len(whole)]
    return [whole[start:end] for start, end in itertools.pairwise(edges)]


@dataclass
class Client:
    """Hears the stream. `relays`: it takes chunks with their framing, once it has heard something."""

    relays: bool
    heard: bytes = b""
    relayed: int = 0

    def write(self, data: bytes) -> None:
        self.heard += data

    @property
    def framed(self) -> Callable[[bytes], None] | None:
        return self._chunk if self.relays and self.heard else None

    def _chunk(self, data: bytes) -> None:
        self.relayed += 1
        found = re.fullmatch(rb"([0-9a-f]+)\r\n(.+)\r\n", data, re.DOTALL)
        assert found, data
        assert int(found[1], 16) == len(found[2])
        self.heard += found[2]


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.closed = False

    def write(self, data: Any) -> None:
        return None

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True


@dataclass
class Owner:
    outbox: Outbox
    known: KnownHead = field(default_factory=KnownHead)
    broken: Callable[[], None] = lambda: None

    def opened(self, connection: Connection) -> None:
        return None

    closed = give_back = opened


@dataclass
class Told:
    """What is known of a stream once all of its reads have come."""

    heard: bytes
    over: str
    events: int
    usage: Usage
    moved: bool
    sent: tuple[str, bool, bool] | None
    transport_closed: bool


def stream(
    pieces: Sequence[bytes], *, relays: bool, rescued: bool = True, include_usage: bool = False, late: bool = False
) -> tuple[Told, int]:
    """`late`: it is only given up when more has come after its end."""
    loop = asyncio.new_event_loop()
    try:
        client, view, transport = Client(relays), RelayView(include_usage=include_usage), Transport()
        watch = Watch("m", TimeLimits(), TimeLimits(), 0.0, lambda reason: None)
        rescue = Rescue(Job("/v1/chat/completions", b"{}"), SENT_BYTES_MAX) if rescued else None
        place = Place(Member("e", ENGINES["vllm"], 1), None, 0.0)
        sink = ViewSink(0, view, client, Entry("r", "chat", 0.0), watch, place, None, rescue)
        over: list[Exception | None] = []
        sink.tell(over.append)
        connection = Connection(Owner(Outbox()), loop)
        connection.connection_made(transport)
        reply = connection.send(b"", sink=sink)
        sink.relay(reply)
        for piece in pieces:
            if not transport.closed:
                connection.data_received(piece)
            if over and not late:  # as those do who are told
                reply.abort()
        sent = None
        if rescue is not None:
            rescue.sent.read()
            sent = rescue.sent.text, rescue.sent.done, rescue.sent.counted
        return Told(
            client.heard, repr(over), view.events_seen, view.usage, watch.moved, sent, transport.closed
        ), client.relayed
    finally:
        loop.close()


@given(reads(), st.booleans(), st.booleans(), st.booleans())
def test_whatever_comes_and_however_it_is_cut(
    pieces: list[bytes], rescued: bool, include_usage: bool, late: bool
) -> None:
    """Bytes, counts, usage, what is kept for a failover, and the end are the same."""
    relayed, _ = stream(pieces, relays=True, rescued=rescued, include_usage=include_usage, late=late)
    rendered, none = stream(pieces, relays=False, rescued=rescued, include_usage=include_usage, late=late)
    assert none == 0
    assert relayed == rendered


@pytest.mark.parametrize("between", [b"", b"\r\n"])
def test_what_only_looks_like_a_chunk(between: bytes) -> None:
    """A read in the middle of a chunk that would be a chunk anywhere else."""
    first, inner, last = word("a") + between, chunk(word("b")), word("c")
    size = b"%x\r\n" % len(first + inner + last)
    pieces = [HEAD, chunk(OPENING), chunk(word("x")), chunk(word("y")), size + first, inner, last + b"\r\n"]
    found, relayed = stream(pieces, relays=True)
    assert relayed == 1
    assert found == stream(pieces, relays=False)[0]
    assert inner in found.heard


def test_a_usual_stream() -> None:
    """All but the first token, and the last events, which tell the usage, goes on with its framing."""
    told = [OPENING, *(word(f" {number}") for number in range(9)), STOP, USAGE + DONE]
    found, relayed = stream([HEAD, *map(chunk, told), b"0\r\n\r\n"], relays=True)
    assert relayed == 9
    assert found.heard == b"".join(told[:-1])
    assert (found.over, found.usage.completion_tokens) == ("[None]", 2)


def test_what_comes_after_the_end() -> None:
    """Nothing is relayed of a stream that the engine has said to have failed."""
    broken = b"event: error\n" + event(error={"message": "broken"})
    pieces = [HEAD, *map(chunk, [OPENING, word("a"), word("b"), broken, word("c")])]
    found, relayed = stream(pieces, relays=True, late=True)
    assert relayed == 1
    assert word("c") not in found.heard
