"""Answers of a real llama.cpp that break off at any point and go on: the same text, at temperature 0."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cutting import Cutting, cutting
from rawhttp import ask, events, post, until

import inhouse.weights
from fleet import stack
from inhouse.engines.engine import Spec
from inhouse.engines.http import Address
from inhouse.engines.llamacpp import argv
from serving import Gateway, started

CHAT = "/v1/chat/completions"
TOKENS = 40
DEMO = Path(inhouse.weights.__file__).with_name("demo.gguf")
ROUTING = "{policy: round-robin, breaker: {failures: 1000}, outliers: {requests_min: 100000}}"
PROMPTS = ["hello", "Tell me a story about a cat", "count to ten", "What is a KV cache?"]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Short: the paths of sockets are."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def proxy(folder: Path) -> Iterator[Cutting]:
    """A real engine with a proxy before it that cuts."""
    spec = Spec(model="demo", weights=DEMO, context_tokens=2048, slots=2, threads=1)
    command = argv(spec, Address(socket=str(folder / "e.sock")))
    process = subprocess.Popen(command.argv, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        with cutting(folder / "p", folder / "e.sock") as running:
            yield running
    finally:
        process.kill()
        process.wait(20)
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(scope="module")
def gateway(proxy: Cutting, folder: Path) -> Iterator[Gateway]:
    """A gateway to whom the engine is two: one that cuts, and one that does not."""
    own = folder / "g"
    own.mkdir()
    urls = [f"unix:{folder}/p", f"unix:{folder}/e.sock"]
    running = started(own, stack(urls, f"routing: {ROUTING}", engine="llama-server", slots=2))
    try:
        for _ in urls:
            running.wait_for(event="replica", state="ready")
        yield running
    finally:
        running.stop(9)


def told(gateway: Gateway, body: dict[str, Any], path: str) -> tuple[str, dict[str, int], int]:
    """Text, usage, and how often it went on elsewhere."""
    answer = ask(gateway, post({"model": "demo", "temperature": 0, "stream": True, **body}, path=path))
    assert answer.status == 200
    found = events(answer.body)
    assert found.pop() == "[DONE]", answer.body
    usage = found[-1]["usage"]
    usage.pop("prompt_tokens_details", None)
    assert len({(one["id"], one["model"]) for one in found}) == 1  # `created`: llama.cpp tells the time of each event
    choices = [choice for one in found for choice in one["choices"]]
    text = "".join(choice["text"] if "text" in choice else choice["delta"].get("content") or "" for choice in choices)
    return text, usage, answer.body.count(b": failover")


@pytest.mark.parametrize("prompt", PROMPTS)
def test_at_every_point_of_a_chat(gateway: Gateway, proxy: Cutting, prompt: str) -> None:
    """Behind each token: the text, its end and the usage are those of an answer that nothing happened to."""
    body = {
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": TOKENS,
        "stream_options": {"include_usage": True},
    }
    whole, usage, _ = told(gateway, body, CHAT)
    for count in range(1, usage["completion_tokens"]):
        _cut_at(gateway, proxy, count + 1, body, CHAT, (whole, usage))


def _cut_at(
    gateway: Gateway, proxy: Cutting, count: int, body: dict[str, Any], path: str, whole: tuple[str, dict[str, int]]
) -> None:
    """Asks until the one that cuts was picked: it is left alone for a moment each time, until it is found well."""
    before, proxy.events = proxy.cuts, count

    def went_on() -> bool:
        text, usage, failovers = told(gateway, body, path)
        assert (text, usage) == whole, count
        return failovers == 1

    until(went_on, "it broke off")
    assert proxy.cuts == before + 1


def test_only_the_usage_is_missing(gateway: Gateway, proxy: Cutting) -> None:
    """No engine goes on; the tokens of the prompt are counted by the one that is left."""
    body = {
        "messages": [{"role": "user", "content": PROMPTS[1]}],
        "max_tokens": 24,
        "ignore_eos": True,
        "stream_options": {"include_usage": True},
    }
    whole, usage, _ = told(gateway, body, CHAT)
    before, proxy.events = proxy.cuts, 24 + 2  # the role, the tokens, the reason of the end

    def closed() -> bool:
        assert told(gateway, body, CHAT) == (whole, usage, 0)
        return proxy.cuts == before + 1

    until(closed, "it broke off")


def test_a_text_completion(gateway: Gateway, proxy: Cutting) -> None:
    """Text and prompt are cut into tokens together."""
    body = {"prompt": "hello", "max_tokens": 24, "ignore_eos": True, "stream_options": {"include_usage": True}}
    whole, usage, _ = told(gateway, body, "/v1/completions")
    for count in range(1, 23, 3):
        _cut_at(gateway, proxy, count, body, "/v1/completions", (whole, usage))


def test_a_prompt_of_token_ids(gateway: Gateway, proxy: Cutting) -> None:
    """llama.cpp takes ids and text in one prompt."""
    ids = gateway_tokens(gateway, "hello, who are you?")
    body = {"prompt": ids, "max_tokens": 24, "ignore_eos": True, "stream_options": {"include_usage": True}}
    whole, usage, _ = told(gateway, body, "/v1/completions")
    for count in range(2, 23, 5):
        _cut_at(gateway, proxy, count, body, "/v1/completions", (whole, usage))


def gateway_tokens(gateway: Gateway, text: str) -> list[int]:
    found: list[int] = ask(gateway, post({"model": "demo", "content": text}, path="/tokenize")).json["tokens"]
    return found


def test_tools_that_were_not_called(gateway: Gateway, proxy: Cutting) -> None:
    """An answer in words goes on, though there are tools."""
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
    body = {
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": TOKENS,
        "tools": tools,
        "stream_options": {"include_usage": True},
    }
    whole, usage, _ = told(gateway, body, CHAT)
    assert whole
    for count in range(1, min(usage["completion_tokens"], 30), 4):
        _cut_at(gateway, proxy, count + 1, body, CHAT, (whole, usage))
