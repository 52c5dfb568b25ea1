"""Streams of the Messages and the Responses API, judged by the official clients that put them together again.

However an engine cuts its answer into chunks, a client that streams and one that does not are told the same.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any, get_args

import anthropic
import httpx2
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel

from inhouse.core import Usage
from inhouse.errors import EngineError
from inhouse.wire import messages, responses
from inhouse.wire.chat import ChatChunk, ChunkChoice, Delta, DeltaFunction, DeltaToolCall, Rendering
from inhouse.wire.fold import AnswerFold
from inhouse.wire.messages_blocks import Block, Blocks, Step, blocks_of

USAGE = Usage(10, 5, 4)
MESSAGE = messages.parse(b'{"model":"demo","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"Hi"}]}')
RESPONSE = responses.parse(b'{"model":"demo","stream":true,"input":"Hi"}')


def chunk(delta: Delta) -> ChatChunk:
    return ChatChunk([ChunkChoice(delta)])


def cut(text: str, draw: st.DrawFn) -> list[str]:
    at = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
    return [text[a:b] for a, b in zip([0, *at], [*at, len(text)], strict=True)]


def call_deltas(index: int, name: str, pieces: list[str]) -> list[Delta]:
    head = DeltaToolCall(index, f"call{index}", "function", DeltaFunction(name, ""))
    rest = [DeltaToolCall(index, function=DeltaFunction(arguments=piece)) for piece in pieces]
    return [Delta(tool_calls=[call]) for call in (head, *rest)]


OBJECTS = st.dictionaries(
    st.text(max_size=5), st.text(max_size=5) | st.integers() | st.lists(st.booleans(), max_size=2)
)


@st.composite
def answers(draw: st.DrawFn) -> list[ChatChunk]:
    """The chunks of an answer as engines send it: reasoning, text, calls, the reason of the end."""
    deltas = [Delta(role="assistant", content="")]
    deltas += [Delta(reasoning_content=piece) for piece in cut(draw(st.text(max_size=9)), draw)]
    deltas += [Delta(content=piece) for piece in cut(draw(st.text(max_size=9)), draw)]
    calls = draw(st.lists(OBJECTS, max_size=3))
    for index, arguments in enumerate(calls):
        deltas += call_deltas(index, f"f{index}", cut(json.dumps(arguments), draw))
    found = [chunk(delta) for delta in deltas]
    found[-1].choices[0].finish_reason = "tool_calls" if calls else draw(st.sampled_from(["stop", "length"]))
    return found


def streamed(rendering: Rendering, chunks: list[ChatChunk]) -> bytes:
    return rendering.start() + b"".join(map(rendering.chunk, chunks)) + rendering.end(USAGE)


def whole(rendering: Rendering, chunks: list[ChatChunk]) -> dict[str, Any]:
    fold = AnswerFold()
    for one in chunks:
        fold.add(one)
    found: dict[str, Any] = json.loads(rendering.body(fold.answer(USAGE)))
    return found


class Served:
    """What the other end of the official clients answers next."""

    data = b""

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=self.data)


served = Served()


@cache
def anthropic_client() -> anthropic.Anthropic:
    transport = httpx2.MockTransport(served)
    return anthropic.Anthropic(api_key="k", http_client=anthropic.DefaultHttpxClient(transport=transport))


@cache
def openai_client() -> openai.OpenAI:
    transport = httpx2.MockTransport(served)
    return openai.OpenAI(api_key="k", http_client=openai.DefaultHttpxClient(transport=transport))


def message_by_client(data: bytes) -> dict[str, Any]:
    served.data = data
    turn: Any = {"role": "user", "content": "Hi"}
    with anthropic_client().messages.stream(model="demo", max_tokens=9, messages=[turn]) as stream:
        return stream.get_final_message().to_dict()


def response_by_client(data: bytes) -> dict[str, Any]:
    served.data = data
    with openai_client().responses.stream(model="demo", input="Hi") as stream:
        events = list(stream)
    return Response.model_validate(events[-1].response.model_dump()).to_dict()  # type: ignore[union-attr]


@settings(max_examples=40, deadline=None)
@given(answers())
def test_a_message_put_together_by_the_official_client(chunks: list[ChatChunk]) -> None:
    """The final message of a stream is the message of the same request without a stream."""
    got = message_by_client(streamed(MESSAGE.rendering("ab12", 1.0), chunks))
    assert subset(got, whole(MESSAGE.rendering("ab12", 1.0), chunks))


@settings(max_examples=40, deadline=None)
@given(answers())
def test_a_response_put_together_by_the_official_client(chunks: list[ChatChunk]) -> None:
    """The final response of a stream is the response of the same request without a stream."""
    data = streamed(RESPONSE.rendering("ab12", 1.0), chunks)
    expected = whole(RESPONSE.rendering("ab12", 1.0), chunks)
    assert events_of(data)[-1]["response"] == expected
    assert subset(response_by_client(data), expected)


def subset(got: Any, expected: Any) -> bool:
    """The client's models add empty fields of their own, and change nothing else."""
    if isinstance(expected, dict):
        return all(subset(got.get(key), value) for key, value in expected.items())
    if isinstance(expected, list):
        return len(got) == len(expected) and all(map(subset, got, expected))
    return bool(got == expected)


def events_of(data: bytes) -> list[dict[str, Any]]:
    lines = [line for line in data.decode().split("\n") if line.startswith("data: ")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


@cache
def event_models() -> dict[str, type[BaseModel]]:
    union = get_args(ResponseStreamEvent)[0]
    return {get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(union)}


@settings(max_examples=40, deadline=None)
@given(answers())
def test_each_event_of_a_response_is_what_the_official_types_say(chunks: list[ChatChunk]) -> None:
    """Strict validation of each event by its own type; the deltas of an item, joined, are its text."""
    rendering = RESPONSE.rendering("ab12", 1.0)
    data = rendering.start() + b"".join(map(rendering.chunk, chunks))
    failing = rendering.fail(EngineError("x"))
    ending = streamed(RESPONSE.rendering("ab12", 1.0), chunks)
    joined: dict[str, str] = {}
    for event in events_of(data + failing) + events_of(ending):
        event_models()[event["type"]].model_validate_json(json.dumps(event), strict=True)
    for event in events_of(ending):
        if event["type"].endswith(".delta"):
            joined[event["item_id"]] = joined.get(event["item_id"], "") + event["delta"]
        elif event["type"].endswith(("text.done", "arguments.done")):
            assert joined.pop(event["item_id"], "") == event.get("text", event.get("arguments"))
    assert not joined


@st.composite
def jumbles(draw: st.DrawFn) -> list[Delta]:
    """Chunks in any order: texts and several calls at once, each call's own pieces in order."""
    lanes = [call_deltas(i, "f", cut(json.dumps(draw(OBJECTS)), draw)) for i in range(draw(st.integers(0, 3)))]
    lanes.append([Delta(content=piece) for piece in draw(st.lists(st.text(max_size=3), max_size=4))])
    lanes.append([Delta(reasoning_content=piece) for piece in draw(st.lists(st.text(max_size=3), max_size=4))])
    found: list[Delta] = []
    while lanes := [lane for lane in lanes if lane]:
        found.append(draw(st.sampled_from(lanes)).pop(0))
    return found


def text_of(row: list[Block], kind: str) -> str:
    return "".join(block.text for block in row if block.kind == kind)


@given(jumbles())
def test_chunks_in_any_order(deltas: list[Delta]) -> None:
    """One block after the other, whatever the engine mixes up; no text is lost, and each call has its own."""
    blocks, fold = Blocks(), AnswerFold()
    steps: list[Step] = []
    for delta in deltas:
        steps += blocks.take(chunk(delta))
        fold.add(chunk(delta))
    steps += blocks.finish()
    filled = ""
    expecting = "open"
    for place, step in enumerate(steps):
        if step.verb == "fill":
            assert expecting == "close"
            assert step.block is steps[place - 1].block
            filled += step.piece
            continue
        assert step.verb == expecting
        if step.verb == "close":
            assert filled == step.block.text
        filled, expecting = "", "close" if step.verb == "open" else "open"
    assert expecting == "open"
    assert [step.block.place for step in steps if step.verb == "open"] == list(range(len(blocks.row)))
    expected = blocks_of(fold.answer(USAGE))
    for kind in ("reasoning", "text"):
        assert "".join(b.text for b in blocks.row if b.kind == kind) == "".join(
            b.text for b in expected if b.kind == kind
        )
    calls = sorted((b.call_id, b.text) for b in blocks.row if b.kind == "call")
    assert calls == [(b.call_id, b.text) for b in expected if b.kind == "call"]


def test_a_call_streams_as_it_comes() -> None:
    """Arguments are handed on piece by piece, not at the end."""
    blocks = Blocks()
    verbs = [[step.verb for step in blocks.take(chunk(delta))] for delta in call_deltas(0, "f", ['{"a":', "1}"])]
    assert verbs == [["open"], ["fill"], ["fill"]]


def test_a_stream_that_breaks_off() -> None:
    """The official Anthropic client raises the error with its message."""
    rendering = MESSAGE.rendering("ab12", 1.0)
    data = rendering.start() + rendering.chunk(chunk(Delta(content="He"))) + rendering.fail(EngineError("it broke off"))
    with pytest.raises(anthropic.APIStatusError, match="it broke off"):
        message_by_client(data)
