"""Keys at the real door: rights that a key was made with, rotation, declared keys, and revocation everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.gateway.keys_at_the_door import HOLDS_S, ask, command, made, seconds_until

from serving import Gateway, serving, started

STACK = """
models: {demo: {}, other: {source: demo}}
keys:
  ci: {from_file: ./ci.key, tenant: acme, models: [demo]}
  report: {hash: HASH, roles: [auditor]}
"""
REPORT = "a-key-that-somebody-made-elsewhere"
CI = "the-first-text-of-the-key-of-ci"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def door(folder: Path) -> Iterator[Gateway]:
    hashed = subprocess.run(
        [sys.executable, "-m", "inhouse", "keys", "hash"], input=REPORT, check=True, capture_output=True, text=True
    )
    (folder / "ci.key").write_text(CI + "\n")
    with serving(folder, STACK.replace("HASH", hashed.stdout.strip())) as running:
        running.wait_for(event="replica", state="ready")
        yield running


@pytest.fixture(scope="module")
def second_door(door: Gateway, folder: Path) -> Iterator[Gateway]:
    """Another process on the same state folder."""
    running = started(folder, (folder / "inhouse.yaml").read_text())
    try:
        running.wait_for(event="replica", state="ready")
        yield running
    finally:
        running.stop()


def is_in(door: Gateway, key: str) -> bool:
    status, _ = ask(door, key, "/v1/models", None)
    return status == 200


def test_a_key_for_one_model_is_refused_at_another(door: Gateway, folder: Path) -> None:
    """403, and the message names both; the model that it may use answers."""
    key = made(folder, "--model", "demo")["key"]
    assert ask(door, key)[0] == 200
    status, told = ask(door, key, body={"model": "other", "messages": [{"role": "user", "content": "hi"}]})
    assert (status, told["error"]["code"]) == (403, "permission_denied")
    assert "may not use the model 'other'; it may use: demo" in told["error"]["message"]


def test_a_limit_of_a_key_holds_for_it_alone(door: Gateway, folder: Path) -> None:
    """429 for the key that used it up; another of the same tenant goes on."""
    limited, free = made(folder, "--limit", "requests_per_minute=2"), made(folder)
    assert [ask(door, limited["key"])[0] for _ in range(3)] == [200, 200, 429]
    status, told = ask(door, limited["key"])
    assert (status, told["error"]["code"]) == (429, "rate_limit_exceeded")
    assert f"key '{limited['id']}' has used 2 of 2 requests per minute" in told["error"]["message"]
    assert ask(door, free["key"])[0] == 200


def test_a_quota_of_a_key_in_tokens(door: Gateway, folder: Path) -> None:
    """What could never fit is the client's to change: 400."""
    key = made(folder, "--limit", "tokens_per_day=20")["key"]
    status, told = ask(door, key, body={"model": "demo", "messages": [{"role": "user", "content": "x" * 400}]})
    assert (status, told["error"]["code"]) == (400, "request_exceeds_quota")


def test_roles_of_a_key(door: Gateway, folder: Path) -> None:
    """An auditor lists models and may not infer."""
    key = made(folder, "--role", "auditor")["key"]
    assert is_in(door, key)
    assert ask(door, key)[0] == 403


def test_a_rotated_key_in_its_grace_and_without(door: Gateway, folder: Path) -> None:
    """Both texts open for the grace; then, or at once without one, only the new one."""
    first = made(folder, "--model", "demo")
    assert is_in(door, first["key"])
    second = command(folder, "keys", "rotate", first["id"], "--grace", "1 h")
    seconds_until(lambda: is_in(door, second))
    assert is_in(door, first["key"])
    third = command(folder, "keys", "rotate", first["id"], "--grace", "0")
    assert seconds_until(lambda: not is_in(door, second)) < HOLDS_S
    assert [is_in(door, key) for key in (first["key"], second, third)] == [False, False, True]
    assert ask(door, third, body={"model": "other", "messages": [{"role": "user", "content": "hi"}]})[0] == 403


def test_declared_keys_get_in(door: Gateway) -> None:
    """By hash and by file, with the rights that the file gives them."""
    assert is_in(door, REPORT)
    assert ask(door, REPORT)[0] == 403
    assert ask(door, CI)[0] == 200
    assert ask(door, CI, body={"model": "other", "messages": [{"role": "user", "content": "hi"}]})[0] == 403


def test_a_file_that_changes_holds_within_two_seconds(door: Gateway, folder: Path) -> None:
    """As a secret is swapped; the gateway is not started again. A file that goes takes the key with it."""
    new = "the-second-text-of-the-key-of-ci"
    (folder / "next").write_text(new)
    os.replace(folder / "next", folder / "ci.key")
    assert seconds_until(lambda: is_in(door, new)) < HOLDS_S
    assert not is_in(door, CI)
    (folder / "ci.key").unlink()
    assert seconds_until(lambda: not is_in(door, new)) < HOLDS_S
    (folder / "ci.key").write_text(CI)
    assert seconds_until(lambda: is_in(door, CI)) < HOLDS_S


def test_a_revocation_holds_within_two_seconds_in_every_process(
    door: Gateway, second_door: Gateway, folder: Path
) -> None:
    """Two gateways share a state folder; a command revokes, neither is told, and both refuse a key they had proven."""
    key = made(folder)
    for gateway in (door, second_door):
        seconds_until(lambda gateway=gateway: is_in(gateway, key["key"]))
    command(folder, "keys", "revoke", key["id"])
    waited_s = seconds_until(lambda: not is_in(door, key["key"]) and not is_in(second_door, key["key"]))
    assert waited_s < HOLDS_S
    for gateway in (door, second_door):
        status, told = ask(gateway, key["key"])
        assert status == 401
        assert "was revoked on" in told["error"]["message"]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ("{ci: {from_env: KEY_THAT_IS_NOT_SET}}", "environment variable KEY_THAT_IS_NOT_SET, which is not set"),
        ("{ci: {from_file: ./missing.key}}", "missing.key, which does not exist"),
    ],
)
def test_a_declared_key_that_is_missing_stops_the_start(tmp_path: Path, keys: str, told: str) -> None:
    """Exit status 2, with the key's place in the file and the way out."""
    (tmp_path / "inhouse.yaml").write_text(f"keys: {keys}")
    done = subprocess.run(
        [sys.executable, "-m", "inhouse", "serve", "--port", "0", "--config", str(tmp_path / "inhouse.yaml")],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "INHOUSE_STATE_DIR": str(tmp_path / "state")},
    )
    assert done.returncode == 2
    assert f"error: keys.ci: its text is to come from the {'file' if 'file' in keys else ''}" in done.stderr
    assert told in done.stderr
    assert "hint:" in done.stderr
