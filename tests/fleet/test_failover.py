"""Replicas that die in the middle of answers: the client sees one answer, whole, or is told at once."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import anthropic
import pytest
from rawhttp import Answer, Client, ask, events, gauge, head, post, until

from clients import client_at, closed_later
from fake_engine import FakeEngine
from fleet import Fakes, Start, chat, stack
from serving import KEY, Gateway

ROUTING = (
    "routing: {policy: round-robin, retries: {percent: 1000, floor_per_second: 1000}, "
    "breaker: {failures: 1000}, outliers: {requests_min: 100000}}"
)
TOKENS = 24
USER = [{"role": "user", "content": "of the sea"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": USER, "max_tokens": TOKENS},
    "/v1/completions": {"prompt": "of the sea", "max_tokens": TOKENS},
    "/v1/responses": {"input": "of the sea", "max_output_tokens": TOKENS},
    "/v1/messages": {"messages": USER, "max_tokens": TOKENS},
    "/generate": {"text": "of the sea", "max_tokens": TOKENS},
}


def text_of(path: str, answer: Answer) -> tuple[str, Any]:
    """The text of an answer, and its usage; streamed or not."""
    assert answer.status == 200, answer
    body = answer.body
    if not answer.headers["content-type"].startswith("text/event-stream"):
        one = answer.json
        if path == "/v1/responses":
            return one["output"][0]["content"][0]["text"], one["usage"]
        if path == "/v1/messages":
            return one["content"][0]["text"], one["usage"]
        if path == "/generate":
            return one["text"], one["usage"]
        choice = one["choices"][0]
        return choice["text"] if "text" in choice else choice["message"]["content"], one["usage"]
    found = events(body)
    assert not any(isinstance(one, dict) and (one.get("error") or one.get("type") == "error") for one in found), body
    if path == "/v1/responses":
        last = found[-1]["response"]
        deltas = "".join(one["delta"] for one in found if one["type"] == "response.output_text.delta")
        assert last["output"][0]["content"][0]["text"] == deltas
        return deltas, last["usage"]
    if path == "/v1/messages":
        deltas = "".join(one["delta"]["text"] for one in found if one["type"] == "content_block_delta")
        return deltas, next(one["usage"] for one in found if one["type"] == "message_delta")
    assert found.pop() == "[DONE]", body
    usage = found[-1].get("usage")
    if path == "/generate":
        return "".join(one["text"] for one in found), usage
    choices = [choice for one in found for choice in one["choices"]]
    assert len({(one["id"], one["created"], one["model"]) for one in found}) == 1
    if path == "/v1/completions":
        return "".join(choice["text"] for choice in choices), usage
    assert [bool(choice["delta"].get("role")) for choice in choices].count(True) == 1
    return "".join(choice["delta"].get("content") or "" for choice in choices), usage


def request(path: str, number: int, *, stream: bool) -> bytes:
    body = json.loads(
        json.dumps({"model": "demo", "stream": stream, **BODIES[path]}).replace("the sea", f"sea {number}")
    )
    if stream and path in ("/v1/chat/completions", "/v1/completions"):
        body["stream_options"] = {"include_usage": True}
    return post(body, path=path)


def pair(fakes: Fakes, start: Start, more: str = "", **settings: Any) -> tuple[Gateway, FakeEngine, FakeEngine]:
    """A gateway over two engines that take turns."""
    good, bad = fakes(2, slots=16, queue_max=0, **settings)
    return start(stack([good, bad], f"{more}{ROUTING}", engine="sglang", slots=16), ready=2), good, bad


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", BODIES)
def test_streams_that_end_too_soon(fakes: Fakes, start: Start, path: str, stream: bool) -> None:
    """In each API, at random points: the same text and the same tokens as without it."""
    gateway, _, bad = pair(fakes, start)
    whole = [text_of(path, ask(gateway, request(path, number, stream=stream))) for number in range(20)]
    bad.set(truncate_rate=1.0)
    told = 0

    def again() -> bool:
        """Until it has happened often enough: after each time the engine is left alone until it is found well."""
        nonlocal told
        for number, (text, usage) in enumerate(whole):
            answer = ask(gateway, request(path, number, stream=stream))
            heard, counted = text_of(path, answer)
            assert (heard, _tokens(counted)) == (text, _tokens(usage))
            told += b": failover 1\n" in answer.body if stream else "x-inhouse-failovers" in answer.headers
        return told >= 5

    until(again, "it broke off")
    assert gauge(gateway, "inhouse_failovers_total") == told


def _tokens(usage: Any) -> Any:
    """What may differ is what the second engine had cached."""
    if usage is None:
        return None
    cached = usage.get("cache_read_input_tokens", 0)
    return [
        value + (cached if name == "input_tokens" else 0)
        for name, value in sorted(usage.items())
        if "cache" not in name and "details" not in name
    ]


def test_killed_and_frozen(fakes: Fakes, start: Start) -> None:
    """kill -9 of an engine, SIGSTOP of another one, in the middle of many streams: each is whole, and says how often it
    went on elsewhere; the story names what happened."""
    engines = fakes(3, slots=16, tokens_per_s=40)
    gateway = start(stack(engines, f"idle_timeout: 1 s, {ROUTING}", slots=16), ready=3)
    bodies = [chat(f"{number}", stream=True, max_tokens=60, ignore_eos=True) for number in range(24)]
    clients = [Client(gateway) for _ in bodies]
    for client, body in zip(clients, bodies, strict=True):
        client.send(post(body))
    for client in clients:
        client.read_until(b'"content":"')
    engines[0].process.kill()
    os.kill(engines[1].process.pid, signal.SIGSTOP)
    try:
        parts = [client.read_until(b"\r\n0\r\n\r\n") for client in clients]
    finally:
        os.kill(engines[1].process.pid, signal.SIGCONT)
    for engine in engines[1:]:
        engine.set(tokens_per_s=0)
    for client, part, body in zip(clients, parts, bodies, strict=True):
        client.close()
        assert b"[DONE]" in part
        assert b'"error"' not in part
        answer = ask(gateway, post({**body, "stream": False}))
        whole = answer.json["choices"][0]["message"]["content"].split()
        heard = b"data: " + b'{"choices":[{"delta":{"content":"' + _unchunked(part)
        text = "".join(
            choice["delta"].get("content") or ""
            for one in events(heard)
            if one != "[DONE]"
            for choice in one["choices"]
        )
        assert text.split() == whole
    assert gauge(gateway, "inhouse_failovers_total") >= 16


def test_the_vendors_own_clients(fakes: Fakes, start: Start) -> None:
    """They read on over the seam: the text, and the usage of one answer."""
    gateway, good, bad = pair(fakes, start)
    asked = client_at(gateway)
    other = closed_later(anthropic.Anthropic(base_url=gateway.url, api_key=KEY, max_retries=0))
    messages: Any = USER

    def of_openai() -> tuple[str, int]:
        options: Any = {"include_usage": True}
        chunks = list(
            asked.chat.completions.create(
                model="demo", messages=messages, max_tokens=TOKENS, stream=True, stream_options=options
            )
        )
        text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
        usage = chunks[-1].usage
        assert usage is not None
        return text, usage.completion_tokens

    def of_anthropic() -> tuple[str, int]:
        with other.messages.stream(model="demo", messages=messages, max_tokens=TOKENS) as stream:
            message = stream.get_final_message()
        return "".join(block.text for block in message.content if block.type == "text"), message.usage.output_tokens

    whole = of_openai(), of_anthropic()
    bad.set(truncate_rate=1.0)

    def again() -> bool:
        assert (of_openai(), of_anthropic()) == whole
        return "inhouse_failovers_total" in ask(gateway, head("GET", "/metrics", key=None)).body.decode() and (
            gauge(gateway, "inhouse_failovers_total") >= 4
        )

    until(again, "it broke off")
    assert good.stats()["requests"] > 4


def test_the_story(fakes: Fakes, start: Start) -> None:
    """Which one failed, after how many tokens, and that it went on; where it could not, why."""
    gateway, _, bad = pair(fakes, start)
    bad.set(truncate_rate=1.0)
    told: dict[str, list[dict[str, Any]]] = {}

    def both() -> bool:
        for body in (chat(stream=True, max_tokens=TOKENS), chat(stream=True, max_tokens=TOKENS, logprobs=True)):
            answer = ask(gateway, post(body))
            for step in gateway.get(f"/admin/requests/{answer.headers['x-request-id']}")["requests"][0]["steps"]:
                told.setdefault(step["what"], []).append(step)
        return "went_on" in told and "cut_off" in told

    until(both, "one went on, and one could not")
    assert told["failed"][0]["code"] == "engine_failed"
    assert 0 < told["went_on"][0]["tokens"] < TOKENS
    assert told["cut_off"][0]["why"] == "log probabilities were asked for"


def _unchunked(part: bytes) -> bytes:
    """What a chunked body holds; reading began in the middle of a chunk."""
    found, rest = part.split(b"\r\n", 1)
    while rest:
        size, rest = rest.split(b"\r\n", 1)
        found += rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]
    return found
