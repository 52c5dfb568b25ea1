"""The engine behind a real gateway: as an endpoint that runs already."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from engine_process import EngineProcess

from serving import KEY, Gateway, serving

ENDLESS = {"ignore_eos": True}
CHAT: dict[str, Any] = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "How are you?"}],
    "max_tokens": 24,
    "temperature": 0,
    "extra_body": ENDLESS,
}


@pytest.fixture(scope="module")
def behind(engine: EngineProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    stack = f"models: {{tiny: {{endpoints: ['{engine.url}'], engine: transformers, probe: {{interval: 0.1}}}}}}"
    with serving(tmp_path_factory.mktemp("gateway"), stack) as running:
        yield running


@pytest.fixture(scope="module")
def client(behind: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=behind.base_url, api_key=KEY, max_retries=0, timeout=60) as client:
        yield client


def post(gateway: Gateway, path: str, body: Any) -> Any:
    headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
    request = urllib.request.Request(gateway.url + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_a_chat_is_that_of_the_engine(engine: EngineProcess, client: openai.OpenAI) -> None:
    """Whole, streamed and by /generate: the same text and the same counts."""
    body = {**CHAT, **ENDLESS}
    body.pop("extra_body")
    direct = engine.ask("/v1/chat/completions", body).json()
    whole = client.chat.completions.create(**CHAT)
    assert whole.choices[0].message.content == direct["choices"][0]["message"]["content"]
    assert whole.usage is not None
    assert whole.usage.total_tokens == direct["usage"]["total_tokens"]
    said = ""
    for chunk in client.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True}):
        said += "".join(choice.delta.content or "" for choice in chunk.choices)
        usage = chunk.usage
    assert said == whole.choices[0].message.content
    assert usage == whole.usage


def test_other_apis(behind: Gateway, client: openai.OpenAI) -> None:
    """Several answers, completions with log probabilities, responses and messages."""
    several = client.chat.completions.create(**{**CHAT, "n": 2, "seed": 3, "temperature": 1})
    assert len({choice.message.content for choice in several.choices}) == 2
    text = client.completions.create(
        model="tiny", prompt="hello", max_tokens=6, temperature=0, logprobs=2, extra_body=ENDLESS
    )
    assert text.choices[0].logprobs is not None
    assert len(text.choices[0].logprobs.tokens or []) == 6
    generated = post(behind, "/generate", {"text": "hello", "max_tokens": 6, "temperature": 0})
    assert generated["usage"]["completion_tokens"] <= 6
    answer = client.responses.create(model="tiny", input="hello", max_output_tokens=6)
    assert answer.usage is not None
    assert 0 < answer.usage.output_tokens <= 6
    body = {"model": "tiny", "max_tokens": 6, "messages": [{"role": "user", "content": "hello"}]}
    assert post(behind, "/v1/messages", body)["usage"]["output_tokens"] <= 6


def test_the_engine_counts_for_the_gateway(behind: Gateway, client: openai.OpenAI) -> None:
    """Tokens of a text and of a chat, as the engine itself will have them."""
    tokens = post(behind, "/tokenize", {"model": "tiny", "content": "so it is"})["tokens"]
    assert post(behind, "/detokenize", {"model": "tiny", "tokens": tokens})["content"] == "so it is"
    counted = post(behind, "/v1/messages/count_tokens", {"model": "tiny", "messages": CHAT["messages"]})
    usage = client.chat.completions.create(**CHAT).usage
    assert usage is not None
    assert counted["input_tokens"] == usage.prompt_tokens


def test_a_prompt_is_too_long(client: openai.OpenAI) -> None:
    """The client is told both numbers."""
    with pytest.raises(openai.BadRequestError) as found:
        client.completions.create(model="tiny", prompt="x" * 66_000)
    assert found.value.code == "context_length_exceeded"
    assert "66000" in found.value.message


def figures(gateway: Gateway) -> dict[str, float]:
    """Of the one endpoint, as /metrics shows them."""
    request = urllib.request.Request(gateway.url + "/metrics", headers={"authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        lines = answer.read().decode().splitlines()
    found = [line.rpartition(" ") for line in lines if line.startswith("inhouse_endpoint_")]
    return {series.partition("{")[0].removeprefix("inhouse_endpoint_"): float(value) for series, _, value in found}


def test_what_the_engine_reports(engine: EngineProcess, behind: Gateway, client: openai.OpenAI) -> None:
    """Slots and context are its own; what runs and how long tokens take is read off its metrics."""
    shown = behind.get("/v1/models")["data"][0]
    assert (shown["engine"], shown["slots"], shown["context"]) == ("transformers", 4, 65_536)
    stream = client.chat.completions.create(**{**CHAT, "max_tokens": 60_000}, stream=True)
    try:
        next(iter(stream))
        end_s = time.monotonic() + 30
        while not (figures(behind).get("running") == 1 and figures(behind).get("tpot_seconds", 0) > 0):
            assert time.monotonic() < end_s, figures(behind)
            time.sleep(0.02)
    finally:
        stream.close()
    engine.until("requests_running", 0)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_of_the_gateway_hangs_up(engine: EngineProcess, client: openai.OpenAI, stream: bool) -> None:
    """The row leaves the engine's batch, with an answer that is streamed and with one that is asked for whole."""
    engine.until("requests_running", 0)
    left = engine.figure("left_total")
    body = {**CHAT, "max_tokens": 60_000}
    if stream:
        answer = client.chat.completions.create(**body, stream=True)
        next(iter(answer))
        engine.until("requests_running", 1)
        answer.close()
    else:
        with pytest.raises(openai.APITimeoutError):
            client.with_options(timeout=1.0).chat.completions.create(**body)
    engine.until("left_total", left + 1)
    engine.until("requests_running", 0)
