"""The audit at the real door: every request and every act leaves one record, however it ends."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inhouse.config import Stack
from inhouse.errors import StateError
from inhouse.store.audit_read import oldest, verify
from inhouse.store.sqlite import SqliteStore
from inhouse.store.stores import Stores
from inhouse.tenancy import keys
from inhouse.tenancy.desk import KeyDesk
from inhouse.tenancy.key_acts import command_line_user
from inhouse.wire.records import AuditRecord
from serving import KEY, Gateway, serving

STACK = """
models:
  demo: {source: demo, slots: 1, price: {input: 1.0, output: 4.0}}
audit: {client_address: true, segment_bytes_max: 64 KiB}
"""
ASK = {"model": "demo", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
DEADLINE_S = 30.0


def records(state_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in oldest(state_dir)]


def record_of(door: Gateway, request_id: str) -> dict[str, Any]:
    """The one record of a request, once it is written."""
    end_s = time.monotonic() + DEADLINE_S
    while True:
        found = [record for record in records(door.state_dir) if record.get("id") == request_id]
        if found:
            (record,) = found
            return record
        assert time.monotonic() < end_s, f"no record of {request_id}"
        time.sleep(0.02)


def ask(door: Gateway, method: str, path: str, body: Any = None, *, key: str | None = KEY, **headers: str) -> Any:
    """Status and JSON document."""
    connection = http.client.HTTPConnection(*door.address, timeout=DEADLINE_S)
    sent = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    if key is not None:
        sent["authorization"] = f"Bearer {key}"
    try:
        connection.request(method, path, None if body is None else json.dumps(body), sent)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def chat(door: Gateway, request_id: str, **how: Any) -> int:
    body = {**ASK, **how.pop("body", {})}
    status: int = ask(door, "POST", "/v1/chat/completions", body, x_request_id=request_id, **how)[0]
    return status


def command(door: Gateway, *words: str) -> str:
    """What a command prints, on the gateway's state folder."""
    line = [sys.executable, "-m", "inhouse", *words, "--state-dir", str(door.state_dir)]
    return subprocess.run(line, check=True, capture_output=True, text=True, timeout=60).stdout


def key_of(state_dir: Path, role: str, tenant: str = "default") -> str:
    with SqliteStore(state_dir) as store:
        return keys.mint(store, note="test", rights=keys.Rights(tenant, frozenset({role})), now=time.time()).key


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving(tmp_path_factory.mktemp("audit"), STACK) as running:
        yield running


def test_an_answered_request(door: Gateway) -> None:
    """Who, what, how much, what it cost, how long and from where; and no field more than the API tells of."""
    assert chat(door, "answered") == 200
    record = record_of(door, "answered")
    assert (record["kind"], record["api"], record["model"], record["status"]) == ("request", "chat", "demo", 200)
    assert (record["tenant"], record["key"], record["client"]) == ("default", "static-1", "127.0.0.1")
    assert record["completion_tokens"] > 0
    assert record["money_micros"] == record["prompt_tokens"] + 4 * record["completion_tokens"]
    assert 0 < record["first_token_s"] <= record["total_s"] < DEADLINE_S
    assert abs(record["time"] - time.time()) < DEADLINE_S
    assert set(record) <= set(AuditRecord.__struct_fields__)


@pytest.mark.parametrize(
    ("name", "how", "status", "code"),
    [
        ("bad-key", {"key": "sk-ih-aaaaaaaaaa-" + "x" * 43}, 401, "invalid_api_key"),
        ("no-key", {"key": None}, 401, "invalid_api_key"),
        ("no-model", {"body": {"model": "other"}}, 404, "model_not_found"),
        ("bad-value", {"body": {"temperature": "hot"}}, 400, "invalid_value"),
    ],
)
def test_a_refused_request(door: Gateway, name: str, how: Any, status: int, code: str) -> None:
    """Has a record with status and code; of a key that is not known there is nothing but that."""
    assert chat(door, name, **how) == status
    record = record_of(door, name)
    assert (record["status"], record["code"]) == (status, code)
    if status == 401:
        assert (record["key"], record["tenant"]) == ("-", "-")
        assert record["facts"] == {"credential": "missing" if name == "no-key" else "unknown"}
        assert "aaaaaaaaaa" not in json.dumps(record)


def test_a_role_that_may_not_infer(door: Gateway) -> None:
    """The refusal's record names the key by its id."""
    key = key_of(door.state_dir, "auditor")
    assert chat(door, "forbidden", key=key) == 403
    assert record_of(door, "forbidden")["key"] == key.split("-")[2]


def test_a_revoked_key(door: Gateway) -> None:
    """Is a key that was proven: the refusal's record names it, and says why it did not open."""
    key = key_of(door.state_dir, "developer")
    command(door, "keys", "revoke", key.split("-")[2])
    end_s = time.monotonic() + DEADLINE_S
    while chat(door, f"revoked-{time.monotonic_ns()}", key=key) != 401:
        assert time.monotonic() < end_s
    assert chat(door, "revoked", key=key) == 401
    record = record_of(door, "revoked")
    assert (record["key"], record["facts"]) == (key.split("-")[2], {"credential": "revoked"})


def test_what_is_done_to_keys(door: Gateway) -> None:
    """By command and by the API: made, rotated, revoked, with who did it, and no text of any key."""
    user = command_line_user()
    made = json.loads(command(door, "keys", "create", "--tenant", "acme", "--role", "admin", "--json"))
    key_id, admin = made["id"], made["key"]
    status, other = ask(door, "POST", "/admin/keys", {"tenant": "acme", "note": "n"}, key=admin)
    assert status == 200
    assert ask(door, "POST", f"/admin/keys/{other['id']}/rotate", {}, key=admin)[0] == 200
    assert ask(door, "DELETE", f"/admin/keys/{other['id']}", key=admin)[0] == 200
    command(door, "keys", "rotate", key_id)
    command(door, "keys", "revoke", key_id)
    command(door, "keys", "revoke", key_id)
    found = [
        (record["act"], record["by"], record["tenant"])
        for record in records(door.state_dir)
        if record.get("target") in (key_id, other["id"])
    ]
    assert found == [
        ("key.made", user, "acme"),
        ("key.made", key_id, "acme"),
        ("key.rotated", key_id, "acme"),
        ("key.revoked", key_id, "acme"),
        ("key.rotated", user, "acme"),
        ("key.revoked", user, "acme"),
    ]
    written = b"".join(path.read_bytes() for path in (door.state_dir / "audit").iterdir())
    for text in (admin, other["key"]):
        assert text.split("-", 3)[3].encode() not in written
    assert verify(door.state_dir).problems == ()


@pytest.mark.parametrize("stage", ["before the body", "in the stream", "in the same breath"])
def test_a_client_that_hangs_up(door: Gateway, stage: str) -> None:
    """Has a record with status 499, at whatever stage it left."""
    name = stage.replace(" ", "-")
    body = json.dumps({**ASK, "stream": True, "max_tokens": 1900, "ignore_eos": True}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {KEY}\r\nX-Request-Id: {name}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    with socket.create_connection(door.address, timeout=DEADLINE_S) as client:
        client.sendall(head if stage == "before the body" else head + body)
        if stage == "in the stream":
            assert b"200 OK" in client.recv(64)
    assert record_of(door, name)["status"] == 499


def test_reading_it_through_the_api(door: Gateway) -> None:
    """An auditor may, page by page, with filters; that somebody read is a record too. A developer may not."""
    for number in range(5):
        chat(door, f"read-{number}")
    record_of(door, "read-4")
    auditor = key_of(door.state_dir, "auditor")
    status, refusal = ask(door, "GET", "/admin/audit")
    assert (status, refusal["error"]["code"]) == (403, "permission_denied")

    seen: list[dict[str, Any]] = []
    before: int | None = 10**9
    while before is not None:
        status, found = ask(door, "GET", f"/admin/audit?limit=3&before={before}", key=auditor)
        assert status == 200
        assert len(found["data"]) <= 3
        seen += found["data"]
        before = found["before"]
    numbers = [record["seq"] for record in seen]
    assert numbers == list(range(numbers[0], 0, -1))
    stored = {record["seq"]: record for record in records(door.state_dir)}
    assert all(stored[record["seq"]] == record for record in seen)

    def asked(**query: str) -> list[dict[str, Any]]:
        _, answer = ask(door, "GET", f"/admin/audit?{urllib.parse.urlencode(query)}", key=auditor)
        found: list[dict[str, Any]] = answer["data"]
        return found

    assert [record["id"] for record in asked(request="read-2")] == ["read-2"]
    assert {record["status"] for record in asked(status="4xx")} >= {499}
    assert {record["kind"] for record in asked(kind="act")} == {"act"}
    assert asked(tenant="nobody") == []
    assert asked(since="2100-01-01") == []
    assert len(asked(until="2100-01-01T00:00:00Z", limit="2")) == 2
    key_id, end_s = auditor.split("-")[2], time.monotonic() + DEADLINE_S
    while not (reads := [record["act"] for record in asked(kind="act", key=key_id)]):
        assert time.monotonic() < end_s
        time.sleep(0.02)
    assert set(reads) == {"audit.read"}


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("before=x", "before"),
        ("since=yesterday", "since"),
        ("status=9", "status"),
        ("kind=all", "kind"),
        ("colour=red", "colour"),
        ("limit=1&limit=2", "limit"),
    ],
)
def test_a_question_that_makes_no_sense(door: Gateway, query: str, param: str) -> None:
    """400, and `param` names what is wrong."""
    status, refusal = ask(door, "GET", f"/admin/audit?{query}", key=key_of(door.state_dir, "auditor"))
    assert (status, refusal["error"]["param"]) == (400, param)


def test_metrics(door: Gateway) -> None:
    """Say how many records there are and that nothing is lost."""
    connection = http.client.HTTPConnection(*door.address, timeout=DEADLINE_S)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("inhouse_audit"))
    assert float(values["inhouse_audit_records_total"]) > 5
    assert float(values["inhouse_audit_lost_total"]) == float(values["inhouse_audit_failing"]) == 0


def test_from_start_to_stop(tmp_path: Path) -> None:
    """The first record is the start, the last the end, with all that was asked between them, also when it is stopped in
    the middle of a stream; two starts make one chain."""
    for turn in range(2):
        with serving(tmp_path, STACK) as door:
            chat(door, f"turn-{turn}")
            with socket.create_connection(door.address, timeout=DEADLINE_S) as client:
                body = json.dumps({**ASK, "stream": True, "max_tokens": 1900, "ignore_eos": True}).encode()
                client.sendall(
                    b"POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer %b\r\n"
                    b"X-Request-Id: cut-%d\r\nContent-Length: %d\r\n\r\n%b" % (KEY.encode(), turn, len(body), body)
                )
                assert b"200 OK" in client.recv(64)
                door.stop()
    found = records(door.state_dir)
    one = ["gateway.started", "stack.loaded", "turn-0", "cut-0", "gateway.stopped"]
    other = ["gateway.started", "stack.loaded", "turn-1", "cut-1", "gateway.stopped"]
    assert [record.get("act", record.get("id")) for record in found] == one + other
    assert found[1]["digest"] == found[6]["digest"], "the same settings, the same digest"
    assert len(found[1]["digest"]) == 64
    assert [record["code"] for record in found if record.get("id", "").startswith("cut")] == ["shutting_down"] * 2
    assert verify(door.state_dir).problems == ()


def test_a_gateway_that_is_killed(tmp_path: Path) -> None:
    """What was answered more than a flush ago is there, the chain is whole, and the next start goes on with it."""
    with serving(tmp_path) as door:
        chat(door, "written")
        record_of(door, "written")
        os.kill(door.process.pid, signal.SIGKILL)
        door.process.wait()
    assert verify(door.state_dir).problems == ()
    with serving(tmp_path) as door:
        chat(door, "after")
    found = [record.get("act", record.get("id")) for record in records(door.state_dir)]
    assert found.index("written") < found.index("after")
    assert verify(door.state_dir).problems == ()


def in_the_way(state_dir: Path) -> Path:
    """Makes the next write of the audit fail: its folder is away, and another one cannot be made."""
    home = state_dir / "audit"
    home.rename(state_dir / "audit-away")
    home.write_text("in the way")
    return home


@pytest.mark.parametrize("policy", ["refuse", "continue"])
def test_an_audit_that_cannot_be_written(tmp_path: Path, policy: str) -> None:
    """By the stack's choice requests are refused with 503, or answered all the same; the log says so; once it can be
    written again, nothing is missing."""
    with serving(tmp_path, f"audit: {{on_failure: {policy}}}") as door:
        chat(door, "before")
        record_of(door, "before")
        home = in_the_way(door.state_dir)
        chat(door, "noticed")
        wanted = 503 if policy == "refuse" else 200
        end_s = time.monotonic() + DEADLINE_S
        asked = 0
        while not any("audit cannot be written" in line for line in door.log):
            assert time.monotonic() < end_s
            time.sleep(0.02)
        status, answer = ask(door, "POST", "/v1/chat/completions", ASK, x_request_id="while")
        assert status == wanted, (status, asked)
        if policy == "refuse":
            assert answer["error"]["code"] == "audit_unavailable"
        home.unlink()
        (door.state_dir / "audit-away").rename(home)
        while chat(door, f"after-{asked}") != 200:
            assert time.monotonic() < end_s
            asked += 1
            time.sleep(0.05)
        record_of(door, f"after-{asked}")
    found = [record["id"] for record in records(door.state_dir) if record["kind"] == "request"]
    assert found[:3] == ["before", "noticed", "while"]
    assert verify(door.state_dir).problems == ()


def test_the_first_start_s_key(tmp_path: Path) -> None:
    """Is made by the gateway itself, and recorded."""
    with serving(tmp_path, key=None) as door:
        door.stop()
    (made,) = [record for record in records(door.state_dir) if record.get("act") == "key.made"]
    (event,) = [event for event in door.events if event["event"] == "key"]
    assert made["by"] == "inhouse"
    assert made["target"] == event["key"].split("-")[2]


def test_a_key_whose_making_cannot_be_recorded(tmp_path: Path) -> None:
    """Is not made."""
    with SqliteStore(tmp_path) as store:
        (tmp_path / "audit").write_text("in the way")
        desk = KeyDesk(Stores(tmp_path), Stack())
        with pytest.raises(StateError, match="audit"):
            desk.create(note="", lifetime_s=None, rights=keys.Rights(), now=1.0, by="cli:me")
        assert store.list() == ()


def test_no_audit(tmp_path: Path) -> None:
    """Switched off, it makes no folder, and the API has nothing to tell."""
    with serving(tmp_path, "audit: {enabled: false}") as door:
        chat(door, "x")
        found = ask(door, "GET", "/admin/audit", key=key_of(door.state_dir, "auditor"))
        assert found == (200, {"data": [], "before": None})
        assert not (door.state_dir / "audit").exists()
