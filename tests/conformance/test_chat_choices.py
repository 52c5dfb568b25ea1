"""Chat completions: several answers to one question, and the probabilities of their tokens."""

from __future__ import annotations

import math
from typing import Any

import openai
import pytest

HELLO: list[Any] = [{"role": "user", "content": "hello"}]


def test_three_answers(client: openai.OpenAI) -> None:
    """They come in the order of their indices, and the usage counts what all three have cost."""
    answer = client.chat.completions.create(
        model="demo", messages=HELLO, n=3, max_tokens=7, temperature=1, seed=3, extra_body={"ignore_eos": True}
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert all(choice.message.content is not None for choice in answer.choices)
    assert {choice.finish_reason for choice in answer.choices} == {"length"}
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 21


def test_answers_with_a_seed(client: openai.OpenAI) -> None:
    """One seed for several answers still makes them differ: each is drawn on its own."""
    answer = client.chat.completions.create(model="demo", messages=HELLO, n=4, max_tokens=30, temperature=2, seed=1)
    assert len({choice.message.content for choice in answer.choices}) > 1


def test_more_answers_than_slots(client: openai.OpenAI) -> None:
    """They wait for each other; none is lost."""
    answer = client.chat.completions.create(model="demo", messages=HELLO, n=9, max_tokens=2)
    assert [choice.index for choice in answer.choices] == list(range(9))


@pytest.mark.parametrize("stream", [False, True])
def test_log_probabilities_with_alternatives(client: openai.OpenAI, stream: bool) -> None:
    """Each token has its bytes, its log probability, and as many alternatives as were asked for, likeliest first."""
    tokens = logprobs_of(client, stream=stream, logprobs=True, top_logprobs=3, temperature=0)
    assert len(tokens) == 5
    for token in tokens:
        assert token.logprob <= 0
        assert token.bytes is not None
        assert len(token.top_logprobs) == 3
        alternatives = [top.logprob for top in token.top_logprobs]
        assert alternatives == sorted(alternatives, reverse=True)
        assert sum(math.exp(logprob) for logprob in alternatives) <= 1.001
        assert token.logprob == pytest.approx(alternatives[0])  # nothing is drawn: the likeliest came


@pytest.mark.parametrize("top", [None, 0])
@pytest.mark.parametrize("stream", [False, True])
def test_log_probabilities_without_alternatives(client: openai.OpenAI, stream: bool, top: int | None) -> None:
    """Who names no number of alternatives, or 0, gets the tokens' own log probabilities and an empty list."""
    fields = {} if top is None else {"top_logprobs": top}
    tokens = logprobs_of(client, stream=stream, logprobs=True, **fields)
    assert len(tokens) == 5
    assert all(token.top_logprobs == [] and token.logprob <= 0 for token in tokens)


def test_the_bytes_of_the_tokens(client: openai.OpenAI) -> None:
    """Joined, they are the text of the answer, also where a character was cut into several tokens."""
    answer = client.chat.completions.create(model="demo", messages=HELLO, max_tokens=16, temperature=0, logprobs=True)
    (choice,) = answer.choices
    assert choice.logprobs is not None
    joined = b"".join(bytes(token.bytes or []) for token in choice.logprobs.content or [])
    text = (choice.message.content or "").removesuffix("\ufffd")
    assert joined.decode(errors="replace").startswith(text)


def test_log_probabilities_of_several_answers(client: openai.OpenAI) -> None:
    """Each choice has those of its own tokens."""
    answer = client.chat.completions.create(
        model="demo",
        messages=HELLO,
        n=2,
        max_tokens=3,
        temperature=0,
        logprobs=True,
        top_logprobs=1,
        extra_body={"ignore_eos": True},
    )
    assert [len(choice.logprobs.content or []) for choice in answer.choices if choice.logprobs] == [3, 3]


def test_alternatives_without_log_probabilities(client: openai.OpenAI) -> None:
    """`top_logprobs` alone means nothing, and is refused with what is missing."""
    with pytest.raises(openai.BadRequestError, match="needs `logprobs`") as refused:
        client.chat.completions.create(model="demo", messages=HELLO, top_logprobs=2)
    assert refused.value.param == "top_logprobs"


def logprobs_of(client: openai.OpenAI, *, stream: bool, **fields: Any) -> list[Any]:
    """The log probabilities of an answer of five tokens, streamed or whole."""
    asked: dict[str, Any] = {"model": "demo", "messages": HELLO, "max_tokens": 5, "temperature": 0, **fields}
    asked["extra_body"] = {"ignore_eos": True}
    if not stream:
        (choice,) = client.chat.completions.create(**asked).choices
        return list(choice.logprobs.content) if choice.logprobs else []
    found = []
    for chunk in client.chat.completions.create(stream=True, **asked):
        if chunk.choices[0].logprobs is not None:
            found += chunk.choices[0].logprobs.content or []
    return found
