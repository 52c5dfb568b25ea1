"""`inhouse store`: tables made or brought to this version, by any number at once; what is amiss is told."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from inhouse.store import postgres_schema
from inhouse.store.postgres_keys import PostgresKeys
from inhouse.store.postgres_link import PostgresAddress, PostgresLink
from inhouse.store.postgres_schema import KNOWN_VERSION
from ledgers import fresh_postgres
from services import Service, free_port, redis_server


@pytest.fixture
def address(postgres: Service) -> PostgresAddress:
    return fresh_postgres(postgres)


def begun(folder: Path, store: str, *words: str) -> subprocess.Popen[str]:
    """`inhouse store …` with this section `store`."""
    config = folder / "inhouse.yaml"
    config.write_text(f"models: {{demo: {{source: demo}}}}\nstore: {store}\n")
    line = [sys.executable, "-m", "inhouse", "store", *words, "--config", str(config), "--state-dir", str(folder / "s")]
    return subprocess.Popen(line, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def said(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, error = process.communicate(timeout=60)
    return process.returncode, out, error


def migrated(address: PostgresAddress) -> list[tuple[int, object]]:
    with psycopg.connect(address.url) as connection:
        return connection.execute("SELECT version, applied_at FROM inhouse_migrations ORDER BY version").fetchall()


@pytest.fixture
def old_schema(address: PostgresAddress, monkeypatch: pytest.MonkeyPatch) -> PostgresAddress:
    """Of the first version, with a key in it."""
    with monkeypatch.context() as patch:
        patch.setattr(postgres_schema, "MIGRATIONS", postgres_schema.MIGRATIONS[:1])
        patch.setattr(postgres_schema, "KNOWN_VERSION", 1)
        with contextlib.closing(PostgresLink(address)) as link, link.connection() as connection:
            connection.execute(
                "INSERT INTO inhouse_keys (id, hash, note, tenant, roles, created_at, models, limits) "
                "VALUES ('aaaaaaaaaa', %s, '', 'acme', '[]', 1.0, '[]', '{}')",
                (bytes(32),),
            )
    return address


def test_an_older_schema_is_brought_to_this_version_once(old_schema: PostgresAddress, tmp_path: Path) -> None:
    """The command says from where to where; its keys stay; a second time nothing is done."""
    store = f"{{postgres: {{url: '{old_schema.url}'}}}}"
    status, out, error = said(begun(tmp_path, store, "migrate"))
    assert status == 0, error
    assert f"from version 1 to {KNOWN_VERSION}" in out
    before = migrated(old_schema)
    assert [version for version, _ in before] == list(range(1, KNOWN_VERSION + 1))
    with contextlib.closing(PostgresKeys(PostgresLink(old_schema))) as keys:
        assert keys.by_id("aaaaaaaaaa") is not None
    status, out, error = said(begun(tmp_path, store, "migrate"))
    assert status == 0, error
    assert f"are those of this version, {KNOWN_VERSION}" in out
    assert migrated(old_schema) == before


def test_several_that_migrate_at_once(old_schema: PostgresAddress, tmp_path: Path) -> None:
    """Each succeeds, and each version is made once: none is applied over another."""
    store = f"{{postgres: {{url: '{old_schema.url}'}}}}"
    commands = []
    for number in range(3):
        own = tmp_path / str(number)
        own.mkdir()
        commands.append(begun(own, store, "migrate"))
    assert {status for status, _, _ in map(said, commands)} == {0}
    assert [version for version, _ in migrated(old_schema)] == list(range(1, KNOWN_VERSION + 1))


def test_without_postgresql_there_is_nothing_to_migrate(tmp_path: Path) -> None:
    """And the command says so."""
    status, out, _ = said(begun(tmp_path, "{}", "migrate"))
    assert status == 0
    assert "names no PostgreSQL" in out


def test_a_database_that_is_away_is_told_without_its_password(tmp_path: Path) -> None:
    """Exit code 1, for both commands."""
    password = tmp_path / "password"
    password.write_text("hunter2")
    store = f"{{postgres: {{url: 'postgresql://me@127.0.0.1:{free_port()}/db', password: 'file:{password}'}}}}"
    for words in (("migrate",), ("check",), ("check", "--json")):
        status, out, error = said(begun(tmp_path, store, *words))
        assert status == 1
        assert "cannot be used" in out + error
        assert "hunter2" not in out + error


def test_a_redis_that_may_forget_is_told(tmp_path: Path) -> None:
    """Warnings with the way out; the command succeeds, since it works."""
    with redis_server(tmp_path, "--appendonly", "no", "--maxmemory-policy", "allkeys-lru") as redis:
        status, out, error = said(begun(tmp_path, f"{{redis: {{url: '{redis.url}'}}}}", "check", "--json"))
        assert status == 0, error
        found = {one["what"]: (one["state"], one["hint"]) for one in json.loads(out)}
        assert found["eviction"][0] == "warning"
        assert "noeviction" in found["eviction"][1]
        assert found["append-only file"][0] == "warning"
        assert "appendonly yes" in found["append-only file"][1]
        assert found["scripts"][0] == "ok"
