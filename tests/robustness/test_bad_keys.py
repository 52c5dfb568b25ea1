"""Credentials that do not open: at every path that is not open to all, in the shape of its API, without an echo."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from rawhttp import Client, ask, head, post, until

from inhouse.wire.openapi_operations import OPERATIONS, Operation
from serving import KEY, Gateway, serving

CLOSED = [operation for operation in OPERATIONS if not operation.open]
STACK = "models: {demo: {source: demo, slots: 1, threads: 1}, other: {source: demo, slots: 1, threads: 1}}"


def name(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving(tmp_path_factory.mktemp("keys"), STACK) as running:
        running.wait_for(event="replica", state="ready")
        yield running


def inhouse(door: Gateway, *words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "inhouse", *words, "--state-dir", str(door.state_dir), "--json"]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
    return found


def request(operation: Operation, *lines: str) -> bytes:
    """What the document shows as an example, with these header lines for credentials."""
    path = operation.path.replace("{model}", "demo").replace("responses/{id}", "responses/resp_x").replace("{id}", "x")
    if not operation.example:
        return head(operation.method.upper(), path, *lines, key=None)
    data = json.dumps(operation.example).encode()
    own = ("Content-Type: application/json", f"Content-Length: {len(data)}")
    return head(operation.method.upper(), path, *own, *lines, key=None) + data


def jwt(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


ADMIN = {"sub": "root", "roles": ["admin"], "tenant": "default", "exp": 4_000_000_000}
WRONG = {
    "nothing": "",
    "an empty one": "Authorization: Bearer ",
    "no scheme": f"Authorization: {KEY}",
    "another scheme": "Authorization: Basic " + base64.b64encode(f"user:{KEY}".encode()).decode(),
    "a stranger": "Authorization: Bearer sk-ih-k4w7qd2mzp-" + "A" * 43,
    "one letter more": f"Authorization: Bearer {KEY}x",
    "one letter less": f"Authorization: Bearer {KEY[:-1]}",
    "another case": f"Authorization: Bearer {KEY.upper()}",
    "x-api-key": "x-api-key: wrong",
    "two in one": f"Authorization: Bearer {KEY}, Bearer {KEY}",
    "letters that are no ASCII": "Authorization: Bearer \xe9\xff\xfe",
    "a long one": "Authorization: Bearer " + "k" * 20_000,
    "quotes and SQL": "Authorization: Bearer ' OR '1'='1' --",
    "a token without signature": "Authorization: Bearer " + jwt({"alg": "none"}, ADMIN),
    "a forged token": "Authorization: Bearer " + jwt({"alg": "HS256", "kid": "1"}, ADMIN, b"s" * 32),
    "a token in pieces": "Authorization: Bearer a.b.c",
}


@pytest.mark.parametrize("line", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("operation", CLOSED, ids=name)
def test_a_wrong_key(door: Gateway, operation: Operation, line: str) -> None:
    """401 everywhere, in the shape of the API, and nothing of what was presented comes back or is logged."""
    answer = ask(door, request(operation, *([line] if line else [])))
    assert answer.status == 401, answer
    error = answer.json["error"]
    assert error["message"]
    assert (answer.json.get("type") == "error") == operation.path.startswith("/v1/messages")
    presented = line.rpartition(" ")[2]
    if len(presented) > 12:
        assert presented not in answer.body.decode()
        assert not [entry for entry in door.log if presented in entry]


def test_a_key_that_was_revoked(door: Gateway) -> None:
    """It opens, and two seconds after its revocation it does so nowhere."""
    made = inhouse(door, "keys", "create", "--note", "short", "--role", "admin")
    line = f"Authorization: Bearer {made['key']}"
    until(lambda: ask(door, request(CLOSED[0], line)).status == 200, "it opens")
    inhouse(door, "keys", "revoke", made["id"])
    until(lambda: ask(door, request(CLOSED[0], line)).status == 401, "it is closed", within_s=2.5)
    assert {ask(door, request(operation, line)).status for operation in CLOSED} == {401}


def test_a_key_that_expired(door: Gateway) -> None:
    """It opens until its time, not after."""
    made = inhouse(door, "keys", "create", "--note", "brief", "--expires", "6 s")
    line = f"Authorization: Bearer {made['key']}"
    until(lambda: ask(door, request(CLOSED[0], line)).status == 200, "it opens", within_s=6)
    until(lambda: ask(door, request(CLOSED[0], line)).status == 401, "its time is over", within_s=9)


def test_a_key_for_another_model(door: Gateway) -> None:
    """403 at every API that names a model, whatever the model; what it may use it can use, one request after another
    on the same connection."""
    made = inhouse(door, "keys", "create", "--note", "narrow", "--model", "other")
    line = f"Authorization: Bearer {made['key']}"
    hello = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
    until(lambda: ask(door, post({"model": "other", **hello}, line, key=None)).status == 200, "it opens")
    for path, body in {
        "/v1/chat/completions": hello,
        "/v1/completions": {"prompt": "a"},
        "/v1/embeddings": {"input": "a"},
        "/v1/responses": {"input": "a"},
        "/v1/messages": hello,
        "/generate": {"text": "a"},
    }.items():
        with Client(door) as client:
            client.send(post({"model": "demo", **body}, line, path=path, key=None))
            assert client.answer().status == 403, path
            client.send(post({"model": "other", **hello}, line, key=None))
            assert client.answer().status == 200, path
