"""Prompts that are too long, and answers that would be, at the real door: the engine itself says that they fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from serving import KEY, Gateway, serving

STACK = """
models:
  reject: {source: demo, context: 512, slots: 1, answer_tokens_max: 8}
  trim: {source: demo, context: 512, slots: 2, context_fit: trim, answer_room: 64}
  middle: {source: demo, context: 512, slots: 2, context_fit: middle-out, answer_room: 64}
  strict: {source: demo, context: 512, slots: 1, answer_tokens_max: 8, answer_tokens_policy: refuse}
tenants:
  default: {limits: {tokens_per_day: 1000000}}
"""
MODELS = 4
CONTEXT = 512
SYSTEM: dict[str, Any] = {"role": "system", "content": "You are a friendly tiny model."}
HELLO: dict[str, Any] = {"role": "user", "content": "hello"}


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving(tmp_path_factory.mktemp("fit"), STACK) as running:
        for _ in range(MODELS - 1):
            running.wait_for(event="replica", state="ready")
        yield running


@pytest.fixture(scope="module")
def client(door: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=door.base_url, api_key=KEY, max_retries=0) as client:
        yield client


def exchanges(count: int) -> list[Any]:
    found: list[Any] = []
    for at in range(count):
        found.append({"role": "user", "content": f"question {at}: what is the colour of the morning sky in spring?"})
        found.append({"role": "assistant", "content": "The sky is blue, and in the morning it may be red as well."})
    return found


def header(raw: Any, name: str) -> dict[str, int]:
    return {key: int(value) for key, value in (pair.split("=") for pair in raw.headers[name].split(", "))}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["trim", "middle"])
def test_a_conversation_that_is_too_long(client: openai.OpenAI, model: str, stream: bool) -> None:
    """It is answered from what fits, with room for the answer; a header says how much was left out."""
    messages = [SYSTEM, *exchanges(40), HELLO]
    options: Any = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    raw = client.chat.completions.with_raw_response.create(model=model, messages=messages, temperature=0, **options)
    told = header(raw, "x-inhouse-trimmed")
    assert 40 < told["messages"] < 80
    assert told["messages"] % 2 == 0
    assert told["tokens"] > CONTEXT
    answer = raw.parse()
    usage = list(answer)[-1].usage if stream else answer.usage
    assert CONTEXT // 2 < usage.prompt_tokens <= CONTEXT - 64


def test_what_is_left_of_a_conversation(client: openai.OpenAI) -> None:
    """It takes exactly the tokens of the kept messages, sent alone: nothing else was changed."""
    messages = [SYSTEM, *exchanges(40), HELLO]
    raw = client.chat.completions.with_raw_response.create(model="trim", messages=messages, temperature=0, max_tokens=9)
    gone = header(raw, "x-inhouse-trimmed")["messages"]
    kept = [SYSTEM, *messages[1 + gone :]]
    alone = client.chat.completions.with_raw_response.create(model="trim", messages=kept, temperature=0, max_tokens=9)
    assert "x-inhouse-trimmed" not in alone.headers
    first, second = raw.parse(), alone.parse()
    assert first.usage is not None
    assert second.usage is not None
    assert first.usage.prompt_tokens == second.usage.prompt_tokens
    assert first.choices[0].message.content == second.choices[0].message.content


@pytest.mark.parametrize("model", ["trim", "middle"])
def test_a_conversation_that_fits(client: openai.OpenAI, model: str) -> None:
    """It is left alone, also where its bytes are more than the context has tokens."""
    raw = client.chat.completions.with_raw_response.create(model=model, messages=[*exchanges(4), HELLO], max_tokens=1)
    assert "x-inhouse-trimmed" not in raw.headers


def test_choices_of_a_conversation_that_is_too_long(client: openai.OpenAI) -> None:
    """Each of them reads the same, shorter prompt."""
    raw = client.chat.completions.with_raw_response.create(
        model="trim", messages=[*exchanges(40), HELLO], n=3, seed=1, max_tokens=3
    )
    assert raw.headers["x-inhouse-trimmed"]
    assert len(raw.parse().choices) == 3


def test_one_message_that_is_too_long(client: openai.OpenAI) -> None:
    """`trim` cannot make it fit: 400 with both numbers. `middle-out` cuts its middle, whatever its language."""
    for text in ("good morning " * 2000, "guten Morgen, schöne Grüße 👋🏽 " * 700):
        messages: Any = [SYSTEM, {"role": "user", "content": text}]
        with pytest.raises(openai.BadRequestError, match=r"\d{4,} tokens.* 512 tokens") as refused:
            client.chat.completions.create(model="trim", messages=messages)
        assert refused.value.code == "context_length_exceeded"
        raw = client.chat.completions.with_raw_response.create(model="middle", messages=messages, max_tokens=5)
        told = header(raw, "x-inhouse-trimmed")
        assert told["messages"] == 0
        assert told["characters"] > 0
        usage = raw.parse().usage
        assert usage is not None
        assert CONTEXT // 2 < usage.prompt_tokens <= CONTEXT - 5


def test_calls_of_tools_in_a_conversation_that_is_too_long(client: openai.OpenAI) -> None:
    """They go with their answers: the engine's chat template takes what is left."""
    tools: Any = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    messages: list[Any] = [HELLO]
    for at in range(30):
        call = {"id": f"c{at}", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": f"c{at}", "content": "it is a bright morning in the town"})
    raw = client.chat.completions.with_raw_response.create(model="trim", messages=messages, tools=tools, max_tokens=5)
    assert header(raw, "x-inhouse-trimmed")["messages"] % 2 == 0


def test_the_other_apis(door: Gateway, client: openai.OpenAI) -> None:
    """Messages and responses are fitted as the chats that they are."""
    with anthropic.Anthropic(base_url=door.url, api_key=KEY, max_retries=0) as claude:
        said = claude.messages.with_raw_response.create(
            model="trim", system="Be kind.", messages=[*exchanges(40), HELLO], max_tokens=5
        )
    assert said.headers["x-inhouse-trimmed"]
    raw = client.responses.with_raw_response.create(model="middle", input=[*exchanges(40), HELLO])
    assert raw.headers["x-inhouse-trimmed"]


def test_truncation_of_a_response(client: openai.OpenAI) -> None:
    """`auto` trims where the stack would refuse, `disabled` refuses where it would trim."""
    long = [*exchanges(40), HELLO]
    raw = client.responses.with_raw_response.create(model="reject", input=long, truncation="auto")
    assert raw.headers["x-inhouse-trimmed"]
    for model, options in (("trim", {"truncation": "disabled"}), ("reject", {})):
        with pytest.raises(openai.BadRequestError) as refused:
            client.responses.create(model=model, input=long, **options)  # type: ignore[call-overload]
        assert refused.value.code == "context_length_exceeded"


def test_a_text_to_complete(client: openai.OpenAI) -> None:
    """`middle-out` cuts it, as text and as tokens; `trim` has no messages to leave out and refuses."""
    for prompt in ("good morning " * 2000, [5] * 3000, ["good morning " * 2000, "hello"]):
        raw = client.completions.with_raw_response.create(model="middle", prompt=prompt, max_tokens=5)
        assert header(raw, "x-inhouse-trimmed")["tokens"] > CONTEXT
        with pytest.raises(openai.BadRequestError):
            client.completions.create(model="trim", prompt=prompt, max_tokens=5)


@pytest.mark.parametrize("asked", [{"max_tokens": 100}, {"max_completion_tokens": 100}])
def test_a_longer_answer_than_the_model_gives(client: openai.OpenAI, asked: dict[str, int]) -> None:
    """It is cut to the limit, and a header says so; or it is refused."""
    raw = client.chat.completions.with_raw_response.create(model="reject", messages=[HELLO], **asked)  # type: ignore[call-overload]
    assert header(raw, "x-inhouse-clamped") == {"max_tokens": 8, "asked": 100}
    answer = raw.parse()
    assert answer.choices[0].finish_reason in ("length", "stop")
    assert answer.usage.completion_tokens <= 8
    with pytest.raises(openai.BadRequestError, match="at most 8") as refused:
        client.chat.completions.create(model="strict", messages=[HELLO], **asked)  # type: ignore[call-overload]
    assert refused.value.code == "answer_too_long"


@pytest.mark.parametrize("model", ["reject", "strict"])
def test_an_answer_without_a_length(client: openai.OpenAI, model: str) -> None:
    """It has the model's longest; there is nothing to say about that."""
    raw = client.chat.completions.with_raw_response.create(
        model=model, messages=[{"role": "user", "content": "count to twenty"}], extra_body={"ignore_eos": True}
    )
    assert "x-inhouse-clamped" not in raw.headers
    answer = raw.parse()
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8


def test_a_long_prompt_of_a_tenant_with_a_quota(client: openai.OpenAI) -> None:
    """Bytes are no reason to cut its answer short: the prompt is counted, and the answer has the room that is left."""
    answer = client.chat.completions.create(
        model="trim", messages=[*exchanges(5), HELLO], temperature=0, extra_body={"ignore_eos": True}
    )
    assert answer.usage is not None
    assert answer.usage.completion_tokens >= 64


def test_the_log_of_a_prompt_that_was_cut(door: Gateway, client: openai.OpenAI) -> None:
    """It says how much, and nothing of what."""
    client.chat.completions.create(model="trim", messages=[*exchanges(41), HELLO], max_tokens=1)
    client.chat.completions.create(model="trim", messages=[HELLO], max_tokens=1)
    door.stop()
    assert any('"trimmed_messages":' in line for line in door.log)
    assert not any("morning" in line for line in door.log)
