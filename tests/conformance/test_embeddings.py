"""Embeddings."""

from __future__ import annotations

import asyncio
import base64
import struct
from typing import Any

import openai
import pytest
from plain_http import PlainHttp

TEXTS = ["hello" + " and good morning" * (7 * number % 10) for number in range(10)]


def vectors(client: openai.OpenAI, given: Any) -> list[list[float]]:
    answer = client.embeddings.create(model="demo", input=given, encoding_format="float")
    return [datum.embedding for datum in answer.data]


def test_one_text(client: openai.OpenAI) -> None:
    """A list of one vector of length 1; usage counts what was read."""
    answer = client.embeddings.create(model="demo", input="hello")
    assert answer.object == "list"
    assert answer.model == "demo"
    (datum,) = answer.data
    assert (datum.object, datum.index) == ("embedding", 0)
    assert sum(number * number for number in datum.embedding) == pytest.approx(1, abs=1e-4)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0


def test_many_texts(client: openai.OpenAI, http: PlainHttp) -> None:
    """The vectors come in the order of the texts, more of them than there are slots; usage counts all."""
    answer = client.embeddings.create(model="demo", input=TEXTS, encoding_format="float")
    assert [datum.index for datum in answer.data] == list(range(len(TEXTS)))
    counts = [len(http.post("/tokenize", {"content": text, "add_special": True}).json["tokens"]) for text in TEXTS]
    assert answer.usage.prompt_tokens == sum(counts)


def test_many_texts_and_each_alone(client: openai.OpenAI) -> None:
    """A text has the same vector in company as alone, however long the others are."""
    together = vectors(client, TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        assert vector == pytest.approx(vectors(client, text)[0], abs=2e-2), text
    assert together[0] != pytest.approx(together[1], abs=2e-2)


async def test_texts_of_many_clients_at_once(client: openai.OpenAI, async_client: openai.AsyncOpenAI) -> None:
    """Nobody's vector depends on what the others send at the same time."""
    asked = [async_client.embeddings.create(model="demo", input=text, encoding_format="float") for text in TEXTS]
    answers = await asyncio.gather(*asked)
    for text, answer in zip(TEXTS, answers, strict=True):
        assert answer.data[0].embedding == pytest.approx(vectors(client, text)[0], abs=2e-2), text


def test_token_ids(client: openai.OpenAI, http: PlainHttp) -> None:
    """A text that the client has cut into tokens has the vector of the text, alone or as one of several."""
    tokens = http.post("/tokenize", {"content": "good morning", "add_special": True}).json["tokens"]
    (of_text,) = vectors(client, "good morning")
    (of_tokens,) = vectors(client, tokens)
    assert of_tokens == pytest.approx(of_text, abs=1e-3)
    first, second = vectors(client, [tokens, tokens[:1]])
    assert first == pytest.approx(of_text, abs=1e-3)
    assert second != pytest.approx(of_text, abs=1e-3)


def test_both_encodings(client: openai.OpenAI, http: PlainHttp) -> None:
    """base64 holds the same numbers as the list of floats, as little-endian floats of 32 bits."""
    (as_floats,) = vectors(client, "hello")
    asked = {"model": "demo", "input": "hello", "encoding_format": "base64"}
    raw = base64.b64decode(http.post("/v1/embeddings", asked).json["data"][0]["embedding"])
    assert len(raw) == 4 * len(as_floats)
    assert list(struct.unpack(f"<{len(as_floats)}f", raw)) == pytest.approx(as_floats, abs=1e-6)


async def test_texts_of_an_asyncio_client(async_client: openai.AsyncOpenAI) -> None:
    """The same with asyncio."""
    answer = await async_client.embeddings.create(model="demo", input=["hello", "good morning"])
    assert len(answer.data) == 2


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": "hello", "dimensions": 100_000}, "dimensions"),
        ({"input": "hello", "dimensions": 0}, "dimensions"),
        ({"input": "hello", "dimensions": 1000}, "dimensions"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["hello", ""]}, "input"),
        ({"input": ["hello", 1]}, "input"),
        ({"input": "hello", "encoding_format": "hex"}, "encoding_format"),
    ],
    ids=[
        "far too many dimensions",
        "no dimensions",
        "more dimensions than there are",
        "an empty text",
        "no text",
        "an empty one of two",
        "a mixture",
        "an unknown encoding",
    ],
)
def test_what_has_no_vector(client: openai.OpenAI, fields: Any, param: str) -> None:
    """It is refused under its name."""
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="demo", **fields)
    assert refused.value.param == param


def test_a_text_that_is_too_long(client: openai.OpenAI) -> None:
    """It is refused with how long it is, not cut."""
    with pytest.raises(openai.BadRequestError, match=r"\d{4,} tokens"):
        client.embeddings.create(model="demo", input="good morning " * 9000)
