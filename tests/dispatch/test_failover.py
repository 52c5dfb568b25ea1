"""Answers that break off and go on: at every point, in every API, the client sees what it would have seen anyway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from inhouse.config import RequestsSpec
from inhouse.dispatch.failover import Close, GoOn, Rescue, Stuck, onward
from inhouse.engines.table import ENGINES
from inhouse.errors import EngineError
from inhouse.fake import wire as fake
from inhouse.fake.batch import Sequence
from inhouse.fake.settings import Settings
from inhouse.fake.text import Vocabulary
from inhouse.gateway.apis import APIS, parsed
from inhouse.wire import sse
from inhouse.wire.call import Call, Job, View
from inhouse.wire.sent import Sent

TOKENS = 12
LLAMA, VLLM = ENGINES["llama-server"], ENGINES["vllm"]
USER = [{"role": "user", "content": "of the sea"}]
REQUESTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": USER, "max_tokens": TOKENS, "stream_options": {"include_usage": True}},
    "/v1/completions": {"prompt": "of the sea", "max_tokens": TOKENS, "stream_options": {"include_usage": True}},
    "/v1/responses": {"input": "of the sea", "max_output_tokens": TOKENS},
    "/v1/messages": {"messages": USER, "max_tokens": TOKENS},
    "/generate": {"text": "of the sea", "max_tokens": TOKENS},
}


def call_of(path: str, *, stream: bool, **fields: Any) -> Call:
    body = {"model": "demo", "stream": stream, **REQUESTS[path], **fields}
    if not stream:
        body.pop("stream_options", None)
    return parsed(APIS[path.encode()], json.dumps(body).encode(), RequestsSpec(), "1" * 24, 5.0)[0]


def answered(job: Job, number: int, *, answer_tokens: int = 32) -> Iterator[bytes]:
    """What the fake engine sends for a job, event by event; each engine has ids of its own."""
    settings = Settings(answer_tokens=answer_tokens)
    if b"chat" in job.path:
        plan = fake.chat_plan(msgspec.json.decode(job.body, type=fake.ChatAsk), settings)
    else:
        plan = fake.text_plan(msgspec.json.decode(job.body, type=fake.TextAsk), settings, Vocabulary())
    answer = fake.Answer(plan, number, "demo")
    sequence = Sequence(plan.prompt, plan.answer_tokens)
    sequence.tokens = plan.answer_tokens
    yield answer.opening()
    for k in range(plan.answer_tokens):
        yield answer.tokens(k, 1)
    yield from (event + b"\n\n" for event in answer.closing(sequence).split(b"\n\n")[:-1])


def shown(view: View, rescue: Rescue, events: Iterator[bytes]) -> bytes:
    """As the sink does it."""
    out = b""
    for event in events:
        if rescue.splice is not None:
            event = rescue.splice.events(event)
        if event:
            out += view.events(0, event)
            rescue.sent.keep(event)
    return out


def cut(events: Iterator[bytes], count: int) -> Iterator[bytes]:
    """The opening and `count` events behind it."""
    for _, event in zip(range(count + 1), events, strict=False):
        yield event


def meaning(out: bytes) -> list[Any]:
    """What a client reads; less what differs from one engine to the next."""
    found: list[Any] = []
    for payload in sse.payloads(out) if b"data: " in out else [out]:
        if payload == b"[DONE]":
            found.append("[DONE]")
        else:
            one = json.loads(payload)
            for name in ("timings", "id", "created"):
                one.pop(name, None)
            if one:
                found.append(one)
    return found


def names(out: bytes) -> set[tuple[Any, Any]]:
    found = [json.loads(payload) for payload in sse.payloads(out) if payload != b"[DONE]"]
    return {(one.get("id"), one.get("created")) for one in found}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", REQUESTS)
def test_at_every_point(path: str, stream: bool) -> None:
    """Once, and twice: the same events, the same text, the same usage; one id, one time, the role once."""
    call = call_of(path, stream=stream)
    job = call.jobs[0]
    whole = shown(call.view, Rescue(job, 1 << 20), answered(job, 1)) + call.view.end()
    for first in range(1, TOKENS):
        for second in range(1, TOKENS - first):
            view = call_of(path, stream=stream).view
            rescue = Rescue(job, 1 << 20)
            out = shown(view, rescue, cut(answered(job, 1), first))
            for number, events in ((2, second), (3, 99)):
                assert isinstance(rescue.onward(EngineError("gone"), VLLM, 0, 9), GoOn)
                out += shown(view, rescue, cut(answered(rescue.job, number), events))
            view.finished(0)
            out += view.end()
            assert meaning(out) == meaning(whole), (first, second)
            if path == "/v1/chat/completions" and stream:
                assert len(names(out)) == 1
                assert out.count(b'"role"') == 1
            assert view.usage.completion_tokens == TOKENS
            assert view.usage.cached_tokens <= view.usage.prompt_tokens


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", REQUESTS)
def test_only_the_end_is_missing(path: str, stream: bool) -> None:
    """All tokens were sent, or the end as well, and then the engine died: no engine is asked, the answer is closed."""
    job = call_of(path, stream=stream).jobs[0]
    closings = len(list(answered(job, 1))) - TOKENS - 1
    for missing in range(1, closings + 1):
        view = call_of(path, stream=stream).view
        rescue = Rescue(job, 1 << 20)
        out = shown(view, rescue, cut(answered(job, 1), TOKENS + closings - missing))
        step = rescue.onward(EngineError("gone"), VLLM, 7, 9)
        assert isinstance(step, Close)
        out += view.events(0, step.events)
        view.finished(0)
        end = meaning(out + view.end())
        assert ("length" in str(end)) or ("max_tokens" in str(end)) or ("max_output_tokens" in str(end))
        assert view.usage.completion_tokens == TOKENS
        told = [one for one in end if isinstance(one, dict) and one.get("usage") and not one.get("choices")]
        assert len(told) <= 1


def sent_of(*deltas: dict[str, Any], chat: bool = True) -> Sent:
    sent = Sent(1 << 10)
    for delta in deltas:
        choice = {"index": 0, "delta": delta} if chat else {"index": 0, **delta}
        sent.keep(b"data: " + json.dumps({"id": "a", "choices": [choice]}).encode() + b"\n\n")
    return sent


CALL = {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{"}}]}
TOOLS = [{"type": "function", "function": {"name": "f"}}]


@pytest.mark.parametrize(
    ("fields", "delta", "reason"),
    [
        ({"tools": TOOLS}, CALL, "tool call"),
        ({}, {"reasoning_content": "hm"}, "reasoning"),
        ({}, {"reasoning": "hm"}, "reasoning"),
        ({"logprobs": True}, {"content": "a"}, "log probabilities"),
        ({"response_format": {"type": "json_object"}}, {"content": "{"}, "grammar"),
        ({"tools": TOOLS, "tool_choice": "required"}, {"content": "a"}, "grammar"),
        ({}, {"content": "a" * 2000}, "too long"),
    ],
)
def test_what_cannot_go_on(fields: dict[str, Any], delta: dict[str, Any], reason: str) -> None:
    """It says why."""
    job = call_of("/v1/chat/completions", stream=True, **fields).jobs[0]
    assert onward(job, sent_of(delta), LLAMA, 0) == Stuck(reason)  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_each_engine(engine: Any) -> None:
    """A text goes on at each; a chat at those that take a beginning of the answer."""
    chat = onward(call_of("/v1/chat/completions", stream=True).jobs[0], sent_of({"content": "a"}), engine, 0)
    assert isinstance(chat, GoOn) == (engine.name in ("llamacpp", "llama-server", "vllm", "sglang", "transformers"))
    sent = sent_of({"text": "a"}, chat=False)
    assert isinstance(onward(call_of("/v1/completions", stream=True).jobs[0], sent, engine, 0), GoOn)
    ids = onward(call_of("/v1/completions", stream=True, prompt=[1, 2]).jobs[0], sent, engine, 0)
    if engine.llama:
        assert isinstance(ids, GoOn)
        assert json.loads(ids.job.body)["prompt"] == [1, 2, "a"]
    else:
        assert ids == Stuck("token ids")


def went_on(*deltas: str, **fields: Any) -> tuple[GoOn, dict[str, Any]]:
    job = call_of("/v1/chat/completions", stream=True, **fields).jobs[0]
    step = onward(job, sent_of(*({"content": text} for text in deltas)), fields.pop("engine", LLAMA), 0)
    assert isinstance(step, GoOn)
    return step, json.loads(step.job.body)


def test_what_the_next_engine_is_asked() -> None:
    """The conversation, what was sent of the answer, and fewer tokens by that; all else as before."""
    _, body = went_on("Hello", " you", temperature=0.3, seed=7, stop=["x"], tools=TOOLS)
    assert body["messages"] == [*USER, {"role": "assistant", "content": "Hello you"}]
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert (body["max_tokens"], body["temperature"], body["seed"], body["stop"]) == (TOKENS - 2, 0.3, 7, ["x"])
    assert body["stream_options"] == {"include_usage": True}
    assert body["tools"]


@pytest.mark.parametrize("content", ["So", [{"type": "text", "text": "So"}]])
def test_the_client_had_begun_the_answer_itself(content: Any) -> None:
    """llama.cpp goes on with a last message of the assistant anyway, and takes one of them only. Others begin a new one
    where they were not asked to go on with it."""
    begun = [*USER, {"role": "assistant", "content": content}]
    _, body = went_on(" be it", messages=begun)
    last = body["messages"][-1]["content"]
    assert (last if isinstance(last, str) else "".join(part["text"] for part in last)) == "So be it"
    assert len(body["messages"]) == 2
    job = call_of("/v1/chat/completions", stream=True, messages=begun).jobs[0]
    step = onward(job, sent_of({"content": " be it"}), VLLM, 0)
    assert isinstance(step, GoOn)
    assert json.loads(step.job.body)["messages"] == [*begun, {"role": "assistant", "content": " be it"}]


def text_of(out: bytes) -> str:
    found = [json.loads(payload) for payload in sse.payloads(out) if payload != b"[DONE]"]
    return "".join(choice["delta"].get("content") or "" for one in found for choice in one["choices"])


def chunk(content: str | None, **delta: Any) -> bytes:
    choice = {"index": 0, "delta": {**delta, "content": content}, "finish_reason": None}
    return b"data: " + json.dumps({"id": "b", "choices": [choice]}).encode() + b"\n\n"


@pytest.mark.parametrize(
    ("again", "new"),
    [
        (["\n\n", "And"], "And"),
        (["\n", "\n", "And"], "And"),
        (["\n\nAnd"], "And"),
        (["And"], "And"),
        (["\n", "And"], "And"),
        (["\n\n", "\n", "And"], "\nAnd"),
        ([" And"], " And"),
    ],
)
def test_white_space_at_the_seam(again: list[str], new: str) -> None:
    """Chat templates may trim it, so the next engine is not given it; what it writes of it again is not shown twice."""
    step, body = went_on("One", ".", "\n\n")
    assert body["messages"][-1]["content"] == "One."
    assert body["max_tokens"] == TOKENS - 2
    out = step.splice.events(chunk(None, role="assistant"))
    assert out == b""
    for text in again:
        out += step.splice.events(chunk(text, role="assistant"))
    assert text_of(out) == new
    assert b'"role"' not in out.split(b"\n\n")[0]


def test_nothing_but_white_space() -> None:
    """Then it is the same request once more."""
    step, body = went_on("\n", "\n")
    assert body["messages"] == USER
    assert body["max_tokens"] == TOKENS
    assert text_of(step.splice.events(chunk("\n\nHello"))) == "Hello"


def test_hostile_text() -> None:
    """What looks like names, ids and usage inside of a text comes through as it is."""
    hostile = '"id":"b","created":1 "usage":{"prompt_tokens":9} data: [DONE]\n\n "error":'
    step, _ = went_on("One")
    texts = [hostile, "a", hostile]
    assert text_of(b"".join(step.splice.events(chunk(text)) for text in texts)) == "".join(texts)


def test_no_more_than_so_often() -> None:
    """Then the last error is told."""
    job = call_of("/v1/chat/completions", stream=True).jobs[0]
    rescue = Rescue(job, 1 << 10)
    rescue.sent.keep(chunk("a"))
    steps = [rescue.onward(EngineError("gone"), LLAMA, 0, 2) for _ in range(3)]
    assert [type(step) for step in steps] == [GoOn, GoOn, Stuck]
    assert steps[-1] == Stuck("too often")


def test_a_long_answer() -> None:
    """However much was sent, little of it is kept unread, and all of it is there in the end."""
    sent = Sent(1 << 20)
    for number in range(20_000):
        sent.keep(chunk(f"{number} "))
    sent.read()
    assert sent.text == "".join(f"{number} " for number in range(20_000))
    assert len(sent.pieces) == 20_000
