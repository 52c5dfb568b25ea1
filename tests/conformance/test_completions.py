"""Text completions: a text goes on, without any chat template."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from plain_http import PlainHttp

LONG: dict[str, Any] = {"extra_body": {"ignore_eos": True}, "temperature": 0}


def test_a_text_to_go_on_with(client: openai.OpenAI) -> None:
    """A `text_completion` of one choice whose usage adds up."""
    answer = client.completions.create(model="demo", prompt="Hello", max_tokens=6, **LONG)
    assert answer.id.startswith("cmpl-")
    assert answer.object == "text_completion"
    assert answer.model == "demo"
    (choice,) = answer.choices
    assert choice.index == 0
    assert choice.finish_reason == "length"
    assert choice.logprobs is None
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 6
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 6


def test_no_limit(client: openai.OpenAI) -> None:
    """This endpoint's default is 16 tokens, as at OpenAI."""
    answer = client.completions.create(model="demo", prompt="Hello", **LONG)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 16


def test_an_echo(client: openai.OpenAI) -> None:
    """The prompt stands before what was added to it, once, also in a stream."""
    added = client.completions.create(model="demo", prompt="Hello", max_tokens=8, **LONG).choices[0].text
    whole = client.completions.create(model="demo", prompt="Hello", max_tokens=8, echo=True, **LONG).choices[0].text
    stream = client.completions.create(model="demo", prompt="Hello", max_tokens=8, echo=True, stream=True, **LONG)
    assert whole == "Hello" + added
    assert "".join(chunk.choices[0].text for chunk in stream) == whole


def test_several_prompts_and_several_answers(client: openai.OpenAI) -> None:
    """The choices of the first prompt come first; each echo shows which prompt it belongs to."""
    answer = client.completions.create(
        model="demo",
        prompt=["Hello", "Good morning"],
        n=2,
        max_tokens=3,
        echo=True,
        seed=1,
        extra_body={"ignore_eos": True},
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    starts = ["Hello", "Hello", "Good morning", "Good morning"]
    for choice, start in zip(answer.choices, starts, strict=True):
        assert choice.text.startswith(start)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 12


def test_token_ids_as_prompt(client: openai.OpenAI, http: PlainHttp) -> None:
    """A prompt that the client has cut into tokens is read as it is: the same text follows."""
    tokens = http.post("/tokenize", {"content": "Good morning", "add_special": True}).json["tokens"]
    by_text = client.completions.create(model="demo", prompt="Good morning", max_tokens=8, **LONG)
    by_tokens = client.completions.create(model="demo", prompt=tokens, max_tokens=8, **LONG)
    assert by_tokens.choices[0].text == by_text.choices[0].text
    assert by_tokens.usage is not None
    assert by_tokens.usage.prompt_tokens == len(tokens)


def test_several_prompts_of_token_ids(client: openai.OpenAI) -> None:
    """Each list of ids is a prompt of its own."""
    answer = client.completions.create(model="demo", prompt=[[10, 11], [12]], max_tokens=2, **LONG)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 3


@pytest.mark.parametrize("top", [0, 1, 3])
@pytest.mark.parametrize("stream", [False, True])
def test_log_probabilities_in_the_older_shape(client: openai.OpenAI, top: int, stream: bool) -> None:
    """Four parallel lists, one entry for each token; the offsets point into the text."""
    text, found = logprobs_of(client, logprobs=top, stream=stream)
    size = len(found["tokens"])
    assert size == 5
    assert {len(found[name]) for name in ("token_logprobs", "top_logprobs", "text_offset")} == {size}
    assert all(logprob <= 0 for logprob in found["token_logprobs"])
    assert {len(alternatives) for alternatives in found["top_logprobs"]} == {top}
    for token, offset in zip(found["tokens"], found["text_offset"], strict=True):
        assert text[offset:].startswith(token)


def test_a_streamed_text_with_usage(client: openai.OpenAI) -> None:
    """As in chat: the last chunk has no choices and the usage of all of them."""
    stream = client.completions.create(
        model="demo", prompt="Hello", n=2, max_tokens=4, stream=True, stream_options={"include_usage": True}, **LONG
    )
    *chunks, last = list(stream)
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    assert {choice.index for chunk in chunks for choice in chunk.choices} == {0, 1}
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == 8


def test_a_streamed_text_without_usage(client: openai.OpenAI) -> None:
    """Who did not ask for usage sees none; the pieces add up to the whole text."""
    whole = client.completions.create(model="demo", prompt="Hello", max_tokens=8, **LONG)
    chunks = list(client.completions.create(model="demo", prompt="Hello", max_tokens=8, stream=True, **LONG))
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert chunks[-1].choices[0].finish_reason == "length"


def test_a_stop_word(client: openai.OpenAI) -> None:
    """The text ends before it."""
    whole = client.completions.create(model="demo", prompt="Hello", max_tokens=30, **LONG).choices[0].text
    stop = whole[len(whole) // 2 :][:3]
    choice = client.completions.create(model="demo", prompt="Hello", max_tokens=30, stop=[stop], **LONG).choices[0]
    assert choice.text == whole[: whole.index(stop)]
    assert choice.finish_reason == "stop"


async def test_a_text_of_an_asyncio_client(async_client: openai.AsyncOpenAI) -> None:
    """Whole and streamed, with asyncio."""
    whole = await async_client.completions.create(model="demo", prompt="Hello", max_tokens=4, **LONG)
    stream = await async_client.completions.create(model="demo", prompt="Hello", max_tokens=4, stream=True, **LONG)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == whole.choices[0].text


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": "a", "suffix": "b"}, "suffix"),
        ({"prompt": "a", "best_of": 3}, "best_of"),
        ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, 2], "echo": True}, "echo"),
        ({"prompt": "a", "logprobs": 6}, "logprobs"),
        ({"prompt": "a", "logprobs": 1, "echo": True}, "echo"),
        ({"prompt": "a", "stream_options": {"include_usage": True}}, "stream_options"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_no_engine_here_can_do(client: openai.OpenAI, fields: Any, param: str) -> None:
    """It is refused under its name."""
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model="demo", max_tokens=1, **fields)
    assert refused.value.param == param


@pytest.mark.parametrize("token", [-1, 10_000_000])
def test_a_token_id_outside_the_vocabulary(client: openai.OpenAI, token: int) -> None:
    """It is the client's mistake, and the engine lives on."""
    with pytest.raises(openai.BadRequestError, match="invalid tokens"):
        client.completions.create(model="demo", prompt=[token], max_tokens=1)


def logprobs_of(client: openai.OpenAI, *, logprobs: int, stream: bool) -> tuple[str, dict[str, list[Any]]]:
    """The text and the log probabilities of a completion of five tokens."""
    asked: dict[str, Any] = {"model": "demo", "prompt": "Hello", "max_tokens": 5, "logprobs": logprobs, **LONG}
    if not stream:
        (choice,) = client.completions.create(**asked).choices
        assert choice.logprobs is not None
        return choice.text, choice.logprobs.model_dump()
    text, found = "", {name: [] for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset")}
    for chunk in client.completions.create(stream=True, **asked):
        text += chunk.choices[0].text
        if chunk.choices[0].logprobs is not None:
            for name, piece in chunk.choices[0].logprobs.model_dump().items():
                found[name] += piece
    return text, found
