"""Cutting a stream into events: wherever the bytes are cut, what comes out is whole events and all of them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.errors import EngineError
from inhouse.wire import sse
from inhouse.wire.sse import EventCutter

lines = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=20)
fields = st.builds("{}: {}".format, st.sampled_from(["data", "event", "id", ""]), lines)
streams = st.lists(st.lists(fields, min_size=1, max_size=3), max_size=8)


@st.composite
def cut(draw: st.DrawFn, newline: bytes) -> tuple[bytes, list[bytes]]:
    """A stream with lines that end in `newline`, and the same bytes in pieces."""
    whole = b"".join(newline.join(line.encode() for line in event) + 2 * newline for event in draw(streams))
    whole += draw(st.sampled_from([b"", b"data: begun", b"data: begun" + newline]))
    places = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=12)))
    edges = [0, *places, len(whole)]
    return whole, [whole[start:end] for start, end in itertools.pairwise(edges)]


def ends_of(whole: bytes, newline: bytes) -> bytes:
    """All whole events, with LF."""
    return whole[: whole.rfind(2 * newline) + 2 * len(newline)] if 2 * newline in whole else b""


@given(cut(b"\n"))
def test_any_cut(stream: tuple[bytes, list[bytes]]) -> None:
    """Each output is whole events; together they are the stream up to its last whole event, byte for byte."""
    whole, pieces = stream
    cutter = EventCutter()
    out = [cutter.feed(piece) for piece in pieces]
    assert all(part == b"" or part.endswith(b"\n\n") for part in out)
    assert b"".join(out) == ends_of(whole, b"\n")


@given(cut(b"\r\n"))
def test_any_cut_of_a_stream_with_crlf(stream: tuple[bytes, list[bytes]]) -> None:
    """The same events come out, with LF."""
    whole, pieces = stream
    cutter = EventCutter()
    out = [cutter.feed(piece) for piece in pieces]
    assert all(part == b"" or part.endswith(b"\n\n") for part in out)
    assert b"".join(out) == ends_of(whole, b"\r\n").replace(b"\r\n", b"\n")


@given(cut(b"\n"))
def test_the_payloads_do_not_depend_on_the_cuts(stream: tuple[bytes, list[bytes]]) -> None:
    whole, pieces = stream
    cutter = EventCutter()
    cut_apart = [payload for piece in pieces for payload in sse.payloads(cutter.feed(piece))]
    assert cut_apart == list(sse.payloads(ends_of(whole, b"\n")))


def test_an_event_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up at the limit, not kept for ever."""
    monkeypatch.setattr(sse, "EVENT_BYTES_MAX", 1000)
    cutter = EventCutter()
    assert cutter.feed(b"data: " + b"x" * 900) == b""
    with pytest.raises(EngineError, match="more than 1000 bytes"):
        cutter.feed(b"x" * 100)
