"""Chat completions that are streamed."""

from __future__ import annotations

import json
from typing import Any

import openai
from plain_http import PlainHttp

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
USAGE: Any = {"include_usage": True}


def test_the_same_question_streamed_and_whole(client: openai.OpenAI) -> None:
    """The deltas add up to the whole answer; the first names the role, only the last gives the reason of the end."""
    whole = client.chat.completions.create(model="demo", messages=HELLO, max_tokens=24, temperature=0).choices[0]
    stream = client.chat.completions.create(
        model="demo", messages=HELLO, max_tokens=24, temperature=0, stream=True, stream_options=USAGE
    )
    *chunks, _last = list(stream)
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.model for chunk in chunks} == {"demo"}
    assert [chunk.choices[0].delta.role for chunk in chunks] == ["assistant"] + [None] * (len(chunks) - 1)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.message.content
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + [whole.finish_reason]


def test_a_stream_with_usage(client: openai.OpenAI) -> None:
    """The last chunk has no choices and the usage of the whole request; no other chunk has any usage."""
    stream = client.chat.completions.create(
        model="demo", messages=HELLO, max_tokens=5, stream=True, stream_options=USAGE, extra_body={"ignore_eos": True}
    )
    *chunks, last = list(stream)
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert last.id == chunks[0].id
    assert last.usage is not None
    assert last.usage.completion_tokens == 5
    assert last.usage.total_tokens == last.usage.prompt_tokens + 5


def test_a_stream_without_usage(client: openai.OpenAI) -> None:
    """Who did not ask for usage sees none, and no chunk without choices."""
    for options in ({}, {"stream_options": {"include_usage": False}}):
        stream = client.chat.completions.create(model="demo", messages=HELLO, max_tokens=5, stream=True, **options)
        for chunk in stream:
            assert chunk.choices
            assert chunk.usage is None


def test_three_answers_in_one_stream(client: openai.OpenAI) -> None:
    """The choices may come interleaved; each has its role, its text and its end, and the usage counts all three."""
    stream = client.chat.completions.create(
        model="demo",
        messages=HELLO,
        n=3,
        max_tokens=4,
        stream=True,
        stream_options=USAGE,
        extra_body={"ignore_eos": True},
    )
    *chunks, last = list(stream)
    assert len({chunk.id for chunk in (*chunks, last)}) == 1
    for index in range(3):
        own = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
        assert own[0].delta.role == "assistant"
        assert [choice.finish_reason for choice in own] == [None] * (len(own) - 1) + ["length"]
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == 12


def test_a_stream_on_the_wire(http: PlainHttp) -> None:
    """Server-sent events: each a JSON document, the last one `[DONE]`, and no proxy is invited to buffer them."""
    reply = http.post("/v1/chat/completions", {"model": "demo", "messages": HELLO, "max_tokens": 3, "stream": True})
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.headers["cache-control"] == "no-cache"
    assert reply.headers["x-request-id"]
    assert reply.text.endswith("data: [DONE]\n\n")
    *events, done = reply.events
    assert done == "[DONE]"
    assert all(json.loads(event)["object"] == "chat.completion.chunk" for event in events)


async def test_several_streams_of_an_asyncio_client(async_client: openai.AsyncOpenAI) -> None:
    """Streams that are read in turns, more of them than there are slots, all come to their end."""
    waiting = [
        await async_client.chat.completions.create(
            model="demo", messages=HELLO, max_tokens=6, stream=True, extra_body={"ignore_eos": True}
        )
        for _ in range(3)
    ]
    ended = 0
    while waiting:
        stream = waiting.pop(0)
        chunk = await anext(aiter(stream), None)
        if chunk is None:
            ended += 1
        else:
            waiting.append(stream)
    assert ended == 3


def test_a_client_that_leaves_in_the_middle(client: openai.OpenAI) -> None:
    """A stream that is closed after its first chunk disturbs nobody: the next request is answered."""
    with client.chat.completions.create(
        model="demo", messages=HELLO, max_tokens=2000, stream=True, extra_body={"ignore_eos": True}
    ) as stream:
        assert next(iter(stream)).choices
    answer = client.chat.completions.create(model="demo", messages=HELLO, max_tokens=2)
    assert answer.choices


def test_the_stream_helper_of_the_client(client: openai.OpenAI) -> None:
    """The client's own accumulation of a stream ends in a whole completion."""
    with client.chat.completions.stream(model="demo", messages=HELLO, max_tokens=12, temperature=0) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.current_completion_snapshot
    assert final.choices[0].message.content == "".join(deltas)
    assert final.choices[0].finish_reason in ("stop", "length")
