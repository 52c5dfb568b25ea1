"""Chat completions that are not streamed: one question, one document."""

from __future__ import annotations

from typing import Any

import openai
import pytest

HELLO: list[Any] = [{"role": "user", "content": "hello"}]


def test_a_plain_question(client: openai.OpenAI) -> None:
    """The answer is a whole `chat.completion`: an id, the model's public name, one choice, and usage that adds up."""
    answer = client.chat.completions.create(model="demo", messages=HELLO, max_tokens=20, temperature=0)
    assert answer.id.startswith("chatcmpl-")
    assert answer.object == "chat.completion"
    assert answer.model == "demo"
    assert answer.created > 1_700_000_000
    (choice,) = answer.choices
    assert choice.index == 0
    assert choice.finish_reason in ("stop", "length")
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.message.tool_calls is None
    assert choice.logprobs is None
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0
    assert 0 < answer.usage.completion_tokens <= 20
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


async def test_a_plain_question_of_an_asyncio_client(async_client: openai.AsyncOpenAI) -> None:
    """The client for asyncio gets the same kind of answer."""
    answer = await async_client.chat.completions.create(model="demo", messages=HELLO, max_tokens=8, temperature=0)
    assert answer.choices[0].message.role == "assistant"
    assert answer.usage is not None


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_limit_on_the_answer(client: openai.OpenAI, name: str) -> None:
    """Under its old name as under its new one, the limit ends the answer, and the reason says so."""
    answer = client.chat.completions.create(
        model="demo", messages=HELLO, temperature=0, extra_body={name: 3, "ignore_eos": True}
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


def test_both_limits_at_once(client: openai.OpenAI) -> None:
    """The new name wins over the deprecated one."""
    answer = client.chat.completions.create(
        model="demo", messages=HELLO, max_tokens=9, max_completion_tokens=2, extra_body={"ignore_eos": True}
    )
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 2


def test_content_in_parts(client: openai.OpenAI) -> None:
    """A message of several text parts is read, and counts at least the tokens of its parts."""
    one: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]
    two: list[Any] = [{"role": "user", "content": [*one[0]["content"], {"type": "text", "text": "and good morning"}]}]
    asked = [client.chat.completions.create(model="demo", messages=m, max_tokens=1).usage for m in (HELLO, one, two)]
    plain, single, double = (usage.prompt_tokens if usage else 0 for usage in asked)
    assert plain == single
    assert double > single


def test_one_instruction_as_system_and_as_developer(client: openai.OpenAI) -> None:
    """`developer` is the newer name of `system`: the model reads the same prompt."""
    counts, texts = [], []
    for role in ("system", "developer"):
        messages: list[Any] = [{"role": role, "content": "Answer in one word."}, *HELLO]
        answer = client.chat.completions.create(model="demo", messages=messages, max_tokens=12, temperature=0)
        assert answer.usage is not None
        counts.append(answer.usage.prompt_tokens)
        texts.append(answer.choices[0].message.content)
    plain = client.chat.completions.create(model="demo", messages=HELLO, max_tokens=1).usage
    assert counts[0] == counts[1]
    assert texts[0] == texts[1]
    assert plain is not None
    assert counts[0] > plain.prompt_tokens


def test_a_conversation_with_earlier_answers(client: openai.OpenAI) -> None:
    """Earlier turns are read: the prompt grows, and what was read before comes out of the prefix cache."""
    first = client.chat.completions.create(model="demo", messages=HELLO, max_tokens=16, temperature=0)
    turns: list[Any] = [
        *HELLO,
        {"role": "assistant", "content": first.choices[0].message.content},
        {"role": "user", "content": "and then?", "name": "ada"},
    ]
    second = client.chat.completions.create(model="demo", messages=turns, max_tokens=16, temperature=0)
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.prompt_tokens > first.usage.prompt_tokens
    assert second.usage.prompt_tokens_details is not None
    assert second.usage.prompt_tokens_details.cached_tokens


def test_the_model_object_of_a_picture(client: openai.OpenAI) -> None:
    """A picture is refused with its place in the request: silence would mean an answer that ignores it."""
    picture: list[Any] = [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "what is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
            ],
        }
    ]
    with pytest.raises(openai.BadRequestError, match="image_url") as refused:
        client.chat.completions.create(model="demo", messages=picture)
    assert refused.value.param == "messages[0].content[1]"


def test_fields_that_concern_only_openais_own_service(client: openai.OpenAI) -> None:
    """They are accepted, so that programs written for OpenAI need no change."""
    answer = client.chat.completions.create(
        model="demo",
        messages=HELLO,
        max_tokens=1,
        user="somebody",
        metadata={"team": "blue"},
        store=False,
        service_tier="auto",
        reasoning_effort="low",
        parallel_tool_calls=False,
    )
    assert answer.choices
