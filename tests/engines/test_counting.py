"""What engines are asked for numbers of tokens, and how their answers read, in the shapes of their documents."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from inhouse.engines.counting import Counting, OfLlama, OfTgi, OfVllm

CHAT: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "Hi"}],
    "stream": True,
    "max_tokens": 9,
    "tools": [{"type": "function", "function": {"name": "look"}}],
    "chat_template_kwargs": {"enable_thinking": False},
}
VLLM = b'{"count": 3, "max_model_len": 8192, "tokens": [128000, 13347, 128009]}'
TGI = b'[{"id": 1, "text": "<s>", "start": 0, "stop": 0}, {"id": 6312, "text": "Hi", "start": 0, "stop": 2}]'


@pytest.mark.parametrize(
    ("counting", "answer", "tokens"),
    [
        (OfLlama(), b'{"input_tokens": 3}', 3),
        (OfVllm(), VLLM, 3),
        (OfTgi(), b'{"tokenize_response": %b, "templated_text": "Hi"}' % TGI, 2),
    ],
)
def test_a_chat(counting: Counting, answer: bytes, tokens: int) -> None:
    """Its template, its tools and its options go along; what is no answer is told from one."""
    question = counting.chat(json.dumps(CHAT).encode())
    asked = json.loads(question.body)
    assert [asked[name] for name in ("messages", "tools", "chat_template_kwargs")] == [
        CHAT[name] for name in ("messages", "tools", "chat_template_kwargs")
    ]
    assert question.read(answer) == tokens
    for other in (b"", b"[]", b"{}", b'{"error": "no"}', b"\xff", b'{"count": "3"}'):
        with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
            question.read(other)


def test_vllm_is_not_asked_for_an_answer() -> None:
    """Nor by a name: it may know the model by another, or an adapter of it."""
    assert json.loads(OfVllm().chat(json.dumps(CHAT).encode()).body).keys() == {
        "messages", "tools", "chat_template_kwargs",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("counting", "answer", "tokens"),
    [
        (OfLlama(), b'{"tokens": [1, 6312]}', [1, 6312]),
        (OfVllm(), VLLM, [128000, 13347, 128009]),
        (OfTgi(), TGI, [1, 6312]),
    ],
)
def test_a_text(counting: Counting, answer: bytes, tokens: list[int]) -> None:
    question = counting.text("Hi", True)
    assert "Hi" in json.loads(question.body).values()
    assert question.read(answer) == tokens


@pytest.mark.parametrize(
    ("counting", "answer"),
    [(OfLlama(), b'{"content": "Hi"}'), (OfVllm(), b'{"prompt": "Hi"}'), (OfVllm(), b'{"text": "Hi"}')],
    ids=["llama-server", "vLLM", "SGLang"],
)
def test_words(counting: Counting, answer: bytes) -> None:
    question = counting.words([6312])
    assert question is not None
    assert json.loads(question.body)["tokens"] == [6312]
    assert question.read(answer) == "Hi"
    with pytest.raises(msgspec.DecodeError):
        question.read(b"{}")


def test_tgi_has_no_words() -> None:
    assert OfTgi().words([1]) is None
