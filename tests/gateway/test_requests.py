"""The shape of requests at the real door, in the shape of each API."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from serving import KEY, Gateway, serving

STACK = """
requests: {depth_max: 16, messages_max: 3, choices_max: 2, stop_sequences_max: 2, tools_max: 1, unknown_fields: refuse}
"""
HI: list[Any] = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving(tmp_path_factory.mktemp("requests"), STACK) as running:
        yield running


@pytest.fixture(scope="module")
def client(door: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=door.base_url, api_key=KEY, max_retries=0) as client:
        yield client


def posted(door: Gateway, path: str, body: bytes) -> tuple[int, Any]:
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(door.url + path, body, headers), timeout=30) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)


@pytest.mark.parametrize(
    ("fields", "param", "setting"),
    [
        ({"messages": HI * 4}, "messages", "messages_max"),
        ({"n": 3}, "n", "choices_max"),
        ({"stop": ["a", "b", "c"]}, "stop", "stop_sequences_max"),
        ({"stop": "a" * 257}, "stop", "stop_characters_max"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}] * 2}, "tools", "tools_max"),
    ],
)
def test_one_more_than_a_limit(client: openai.OpenAI, fields: dict[str, Any], param: str, setting: str) -> None:
    """400 for the official client, which names the parameter and the setting."""
    with pytest.raises(openai.BadRequestError, match=setting) as refused:
        client.chat.completions.create(**{"model": "demo", "messages": HI, **fields})
    assert (refused.value.param, refused.value.code) == (param, "request_too_complex")


def test_the_limits_of_the_other_apis(door: Gateway, client: openai.OpenAI) -> None:
    """They hold under the names that each of them has."""
    with pytest.raises(openai.BadRequestError, match="choices_max"):
        client.completions.create(model="demo", prompt="hi", n=3)
    with pytest.raises(openai.BadRequestError, match="messages_max") as refused:
        client.responses.create(model="demo", input=HI * 4)
    assert refused.value.param == "input"
    with (
        anthropic.Anthropic(base_url=door.url, api_key=KEY, max_retries=0) as claude,
        pytest.raises(anthropic.BadRequestError, match="`stop_sequences` asks for 3"),
    ):
        claude.messages.create(model="demo", messages=HI, max_tokens=1, stop_sequences=["a", "b", "c"])


@pytest.mark.parametrize("levels", [17, 900, 200_000])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/tokenize"])
@pytest.mark.parametrize("field", ["tools", "metadata", "no_such_field"])
def test_a_deep_body(door: Gateway, path: str, levels: int, field: str) -> None:
    """400 in the API's own shape wherever the depth hides; the gateway lives on."""
    status, told = posted(door, path, b'{"%b": %b}' % (field.encode(), b"[" * levels + b"]" * levels))
    assert status == 400
    assert "16 levels" in told["error"]["message"]
    assert told.get("type") == ("error" if path == "/v1/messages" else None)
    assert posted(door, "/tokenize", b'{"content": "hi"}')[0] == 200


@pytest.mark.parametrize("text", [b"\xff", b"\\ud800", b"\xed\xa0\x80", b"\x00", b"\\u0000"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_text_that_is_no_text(door: Gateway, path: str, text: bytes) -> None:
    """400: bad UTF-8, lone surrogates, NUL as it is and escaped."""
    body = b'{"model": "demo", "max_tokens": 1, "messages": [{"role": "user", "content": "a%b b"}]}' % text
    status, told = posted(door, path, body)
    assert status == 400, told
    assert told["error"]["type"] == "invalid_request_error"


def test_a_strange_field_where_the_stack_is_strict(client: openai.OpenAI) -> None:
    """400, with the nearest name that exists."""
    with pytest.raises(openai.BadRequestError, match="did you mean `max_tokens`") as refused:
        client.chat.completions.create(model="demo", messages=HI, extra_body={"max_token": 3})
    assert refused.value.code == "unknown_parameter"
