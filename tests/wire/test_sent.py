"""What is kept of a stream, whatever the engine's events look like."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.wire.sent import Sent

Form = Callable[[int, str], dict[str, object]]


def llama(number: int, text: str) -> dict[str, object]:
    return _chat({"content": text}, created=number // 5)


def vllm(_: int, text: str) -> dict[str, object]:
    return _chat({"content": text}, created=7)


def sglang(_: int, text: str) -> dict[str, object]:
    return _chat({"role": None, "content": text, "reasoning_content": None, "tool_calls": None}, created=7)


def counting(number: int, text: str) -> dict[str, object]:
    """Its events are all unlike each other."""
    return {**_chat({"content": text}, created=7), "usage": {"completion_tokens": number}}


def probable(number: int, text: str) -> dict[str, object]:
    one = _chat({"content": text}, created=7)
    return {**one, "choices": [{**one["choices"][0], "logprobs": {"content": [{"token": text, "logprob": -number}]}}]}  # type: ignore[index]


def completion(_: int, text: str) -> dict[str, object]:
    return {"id": "c", "created": 7, "model": "m", "choices": [{"index": 0, "text": text, "finish_reason": None}]}


def _chat(delta: dict[str, object], created: int) -> dict[str, object]:
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return {"id": "c", "object": "chat.completion.chunk", "created": created, "model": "m", "choices": [choice]}


FORMS = {form.__name__: form for form in (llama, vllm, sglang, counting, probable, completion)}
TEXTS = st.lists(
    st.one_of(
        st.text(max_size=6), st.sampled_from(['"', "\\", '\\"', '","', "}", '"}}]}\n\n', "", " ", "\n\n", "é", "😀"])
    ),
    max_size=30,
)


def event(told: dict[str, object]) -> bytes:
    return b"data: %b\n\n" % json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@given(texts=TEXTS, split=st.integers(1, 4), reads=st.sets(st.integers(0, 30)))
def test_any_texts(form: Form, texts: list[str], split: int, reads: set[int]) -> None:
    """They are there, each once and in order, however many events come at a time and whenever they are read."""
    sent = Sent(1 << 20)
    sent.keep(event(_chat({"role": "assistant"}, created=7)))
    for at in range(0, len(texts), split):
        sent.keep(b"".join(event(form(number, text)) for number, text in enumerate(texts[at : at + split], at)))
        if at in reads:
            sent.read()
    sent.keep(event({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}) + b"data: [DONE]\n\n")
    sent.read()
    assert sent.pieces == [text for text in texts if text]
    assert (sent.finish_reason, sent.done, sent.counted) == ("stop", True, form is counting and bool(texts))
    assert (sent.id, sent.called, sent.reasoned, sent.overflowed) == ("c", False, False, False)


def test_what_cannot_be_read() -> None:
    """A text that is none costs itself, and nothing of those around it."""
    sent = Sent(1 << 20)
    whole = [event(vllm(0, "a")), event(vllm(0, "b")), event(vllm(0, "c")), event(vllm(0, "d"))]
    for one in (*whole[:2], whole[0].replace(b'"a"', b'"\xff"'), whole[0].replace(b'"a"', b'"\\x"'), *whole[2:]):
        sent.keep(one)
    sent.read()
    assert sent.pieces == ["a", "b", "c", "d"]


@pytest.mark.parametrize("text", ["abcdef", "海洋"])
@pytest.mark.parametrize("form", [vllm, counting])
def test_too_much_of_it(form: Form, text: str) -> None:
    """It is let go of, and what comes after it as well; in bytes, whatever the events are like."""
    sent = Sent(6 * 100)
    for number in range(100):
        sent.keep(event(form(number, text)))
    sent.read()
    assert sent.pieces == [text] * 100
    for number in range(100, 200):
        sent.keep(event(form(number, text)))
    sent.read()
    assert sent.overflowed
    assert sent.pieces == []


@pytest.mark.parametrize("form", [llama, vllm, counting])
def test_how_much_is_kept(form: Form) -> None:
    """Of a long answer, about its text, and a few events."""
    events = [event(form(number, f" w{number}")) for number in range(2_000)]
    sent = Sent(1 << 20)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for one in events:
            sent.keep(one)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2_000 * 12 + 16_384
    sent.read()
    assert len(sent.pieces) == 2_000
