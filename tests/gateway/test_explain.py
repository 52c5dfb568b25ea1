"""The story of one request, as the gateway tells it afterwards; and the id that it goes by."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inhouse.store.sqlite import SqliteStore
from inhouse.tenancy import keys
from serving import KEY, Gateway, serving

STACK = """
models:
  demo: {source: demo, slots: 1, price: {input: 1.0, output: 4.0}}
tenants:
  default: {limits: {tokens_per_day: 100000}}
  small: {limits: {requests_per_minute: 1}}
explain: {requests_max: 40}
"""
ASK = {"model": "demo", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving(tmp_path_factory.mktemp("explain"), STACK) as running:
        yield running


def key_of(door: Gateway, tenant: str, role: str = "") -> str:
    with SqliteStore(door.state_dir) as store:
        roles = frozenset({role} - {""})
        return keys.mint(store, note="test", rights=keys.Rights(tenant, roles), now=time.time()).key


def asked(
    door: Gateway, method: str, path: str, body: Any = None, *, key: str = KEY, request_id: str | None = None
) -> tuple[int, str, Any]:
    """Status, request id and JSON document of an answer."""
    connection = http.client.HTTPConnection(*door.address, timeout=30)
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    if request_id is not None:
        headers["x-request-id"] = request_id
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, response.headers["x-request-id"], json.loads(response.read())
    finally:
        connection.close()


def chat(door: Gateway, **how: Any) -> tuple[int, str, Any]:
    return asked(door, "POST", "/v1/chat/completions", ASK, **how)


def told(door: Gateway, request_id: str, *, key: str = KEY) -> list[dict[str, Any]]:
    status, _, document = asked(door, "GET", f"/admin/requests/{request_id}", key=key)
    assert status in (200, 404), document
    found: list[dict[str, Any]] = document.get("requests", [])
    return found


def test_an_answered_request(door: Gateway) -> None:
    """Its story has the limits it met, the engine that was asked, the times in order, the tokens and what they cost."""
    _, request_id, answer = chat(door)
    (story,) = told(door, request_id)
    assert (story["ending"], story["status"], story["model"], story["api"]) == ("answered", 200, "demo", "chat")
    assert (story["tenant"], story["key"]) == ("default", "static-1")
    assert abs(story["time"] - time.time()) < 60
    seconds, tokens = story["seconds"], story["tokens"]
    assert 0 <= seconds["queue"] <= seconds["first_token"] <= seconds["total"]
    assert seconds["prefill"] <= seconds["first_token"]
    assert seconds["first_token"] + seconds["decode"] == pytest.approx(seconds["total"], abs=1e-5)
    usage = answer["usage"]
    assert (tokens["prompt"], tokens["completion"]) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert story["money"] == pytest.approx((tokens["prompt"] + 4 * tokens["completion"]) / 1e6, abs=1e-6)
    held, engine = story["steps"]
    assert (held["what"], held["scopes"]) == ("held", ["tenant:default"])
    assert held["tokens"] >= usage["total_tokens"]
    assert (engine["what"], engine["endpoint"]) == ("asked", "demo-0")
    assert 0 <= held["at_s"] <= engine["at_s"] <= seconds["total"]


def test_a_refused_request(door: Gateway) -> None:
    """Its story ends with the error's code, and says nothing that the client sent."""
    status, request_id, _ = asked(door, "POST", "/v1/chat/completions", {**ASK, "model": "no-such-model"})
    assert status == 404
    (story,) = told(door, request_id)
    assert (story["ending"], story["status"], story["code"]) == ("refused", 404, "model_not_found")
    assert story["steps"] == []
    assert "no-such-model" not in json.dumps(story)


def test_a_request_that_met_a_limit(door: Gateway) -> None:
    """Its story says which."""
    key = key_of(door, "small")
    assert chat(door, key=key)[0] == 200
    status, request_id, _ = chat(door, key=key)
    assert status == 429
    (story,) = told(door, request_id, key=key)
    (step,) = story["steps"]
    assert (step["what"], step["limits"]) == ("limited", ["tenant:small requests_per_minute"])


@pytest.mark.parametrize("own", ["order-42/retry:1", "a" * 128, "4bf92f3577b34da6a3ce929d0e0e4736", "~"])
def test_a_sane_id_of_the_client(door: Gateway, own: str) -> None:
    """It stands in the answer, be it one of the model or another, and finds the story."""
    for how in (chat(door, request_id=own), asked(door, "GET", "/v1/models", request_id=own)):
        assert how[:2] == (200, own)
    (story,) = told(door, own)
    assert story["id"] == own


@pytest.mark.parametrize("own", ["", "two words", "a" * 129, "a<b", 'a"b', "ü", "a\tb"])
def test_an_id_that_is_not_sane(door: Gateway, own: str) -> None:
    """It is passed over: the answer has an id of ours."""
    for how in (chat(door, request_id=own), asked(door, "GET", "/v1/models", request_id=own)):
        assert how[0] == 200
        assert len(how[1]) == 24
        assert set(how[1]) <= set("0123456789abcdef")


def test_the_answer_s_own_id_is_not_the_client_s(door: Gateway) -> None:
    """A client that always sends the same request id gets completions with ids of their own."""
    ids = {chat(door, request_id="always-the-same")[2]["id"] for _ in range(3)}
    assert len(ids) == 3
    assert len(told(door, "always-the-same")) == 3


def test_who_sees_whose_requests(door: Gateway) -> None:
    """A developer those of the own tenant; operators and auditors all; what one may not see is as if it were not."""
    acme, rival = key_of(door, "acme"), key_of(door, "rival")
    _, request_id, _ = chat(door, key=acme)
    assert len(told(door, request_id, key=acme)) == 1
    assert told(door, request_id, key=rival) == []
    for role in ("operator", "auditor", "admin"):
        assert len(told(door, request_id, key=key_of(door, "rival", role))) == 1
    status, _, document = asked(door, "GET", f"/admin/requests/{request_id}", key=rival)
    assert (status, document["error"]["code"]) == (404, "not_found")


def test_a_request_nobody_was_proven_for(door: Gateway) -> None:
    """Operators see it, without a word of the key that was sent; developers do not."""
    status, request_id, _ = chat(door, key="sk-ih-notakeyatall")
    assert status == 401
    assert told(door, request_id) == []
    (story,) = told(door, request_id, key=key_of(door, "default", "operator"))
    assert (story["code"], story["tenant"], story["key"]) == ("invalid_api_key", "-", "-")
    assert "notakey" not in json.dumps(story)


def test_only_the_last_are_remembered(tmp_path: Path) -> None:
    """The oldest make room; the refusal says how many are remembered."""
    with serving(tmp_path, "explain: {requests_max: 2}") as door:
        for number in range(3):
            chat(door, request_id=f"r{number}")
        assert [len(told(door, f"r{number}")) for number in range(3)] == [0, 1, 1]
        _, _, document = asked(door, "GET", "/admin/requests/r0")
        assert "the last 2 " in document["error"]["message"]
