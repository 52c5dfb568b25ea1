"""Three gateways on one PostgreSQL and one Redis: keys, use, audit and routes are those of all of them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from crowd import Seen, crowd, gateways, stack_of, until

from fake_engine import FakeEngine, fake_engine
from ledgers import fresh_postgres
from services import Service
from serving import Gateway

QUOTA = 30_000


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngine]:
    with fake_engine(answer_spread=0.5, slots=256) as running:
        yield running


@pytest.fixture(scope="module")
def doors(
    engine: FakeEngine, redis: Service, postgres: Service, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Gateway]]:
    url = fresh_postgres(postgres).url
    store = f"store: {{postgres: {{url: '{url}'}}, redis: {{url: '{redis.url}', prefix: shared}}}}\n"
    with gateways(tmp_path_factory.mktemp("shared"), stack_of(engine, store)) as made:
        yield made


def command(door: Gateway, *words: str) -> Any:
    """What `inhouse … --json` says, with the configuration of the gateway."""
    folder = door.state_dir.parent
    line = [sys.executable, "-m", "inhouse", *words, "--json", "--config", str(folder / "inhouse.yaml")]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def status(door: Gateway, key: str, path: str = "/v1/models", method: str = "GET") -> int:
    request = urllib.request.Request(door.url + path, headers={"authorization": f"Bearer {key}"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_a_key_of_one_is_a_key_of_all_and_gone_within_a_second(doors: list[Gateway]) -> None:
    """Made by a command, revoked by the API of one gateway."""
    made = command(doors[0], "keys", "create", "--tenant", "acme")
    admin = command(doors[2], "keys", "create", "--role", "admin")["key"]
    for door in doors:
        until(lambda door=door: status(door, admin) == status(door, made["key"]) == 200, wait_s=1.0)
    assert status(doors[1], admin, f"/admin/keys/{made['id']}", "DELETE") == 200
    begun_s = time.monotonic()
    assert status(doors[1], made["key"]) == 401, "at once where it was revoked"
    for door in doors:
        until(lambda door=door: status(door, made["key"]) == 401, wait_s=1.0)
    assert time.monotonic() - begun_s < 1.0
    assert [key["state"] for key in command(doors[2], "keys", "list", "--all") if key["id"] == made["id"]] == [
        "revoked"
    ]


def test_use_and_audit_of_all(doors: list[Gateway]) -> None:
    """One sum of use, one chain of records; nothing of it lies in the gateways' folders."""
    seen = Seen()
    uvloop.run(crowd(doors, seen, lambda: seen.statuses["200"] >= 60, clients=4))
    assert set(seen.statuses) == {"200"}

    def counted() -> tuple[int, int]:
        rows = command(doors[0], "usage")["usage"]
        return sum(row["requests"] for row in rows), sum(
            row["prompt_tokens"] + row["completion_tokens"] for row in rows
        )

    until(lambda: counted()[0] >= seen.requests)
    assert counted() == (seen.requests, seen.tokens)

    def recorded() -> int:
        records = command(doors[1], "audit", "list", "--kind", "request", "--status", "200", "--limit", "1000")
        return sum(record["api"] == "chat" for record in records)

    until(lambda: recorded() >= seen.requests)
    assert recorded() == seen.requests
    verdict = command(doors[2], "audit", "verify")
    assert verdict["problems"] == []
    assert not list(doors[0].state_dir.glob("**/audit-*")), "no files of the audit"
    assert not list(doors[0].state_dir.glob("**/*.sqlite3"))


def test_what_is_there_is_shown(doors: list[Gateway]) -> None:
    there = {"quotas": "ok", "keys": "ok", "usage": "ok", "kept": "ok"}
    for door in doors:
        until(lambda door=door: door.get("/health/ready")["stores"] == there)


def test_a_quota_on_postgresql_alone(engine: FakeEngine, postgres: Service, tmp_path: Path) -> None:
    """3 × 64 clients and no Redis: what was used is what they were told, never above the quota, and close to it."""
    url = fresh_postgres(postgres).url
    stack = stack_of(engine, f"store: {{postgres: {{url: '{url}'}}}}\n", limits=f"tokens_per_day: {QUOTA}")
    with gateways(tmp_path, stack) as doors:
        seen = Seen()
        uvloop.run(crowd(doors, seen, lambda: seen.codes["insufficient_quota"] > 0))

        def standing() -> Any:
            return command(doors[0], "tenants", "show", "default")["limits"]["tokens_per_day"]

        until(lambda: standing()["held"] == 0)
        assert set(seen.statuses) == {"200", "429"}
        assert standing() == {"limit": QUOTA, "used": seen.tokens, "held": 0}
        assert QUOTA - 600 <= seen.tokens <= QUOTA


def test_the_check_of_the_stores(doors: list[Gateway]) -> None:
    """Both are reached, and set up as they should be."""
    found = command(doors[0], "store", "check")
    assert {(one["store"], one["state"]) for one in found} == {("redis", "ok"), ("postgres", "ok")}
