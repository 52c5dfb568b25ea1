"""Looks at shared stores: whether they answer, and whether they are set up so that what they promise holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from inhouse.errors import StateError
from inhouse.store.stores import Stores

REDIS_MAJOR_MIN = 7
POSTGRES_MIN = 130_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `hint` is the way out, where something is not as it should be."""

    store: str
    what: str
    state: Literal["ok", "warning", "failed"]
    said: str
    hint: str = ""


def check(stores: Stores) -> Iterator[Finding]:
    """All that is set under `store`. Nothing is changed, but that PostgreSQL's tables are made where there are none."""
    if stores.store.redis.is_set:
        yield from _guarded("redis", lambda: _redis(stores))
    if stores.store.postgres.is_set:
        yield from _guarded("postgres", lambda: _postgres(stores))


def migrate(stores: Stores) -> tuple[int, int]:
    """Makes PostgreSQL's tables, or brings them to this version: which they had, and which they have. Raises
    StateError."""
    from inhouse.store.postgres_link import PostgresLink
    from inhouse.store.postgres_schema import KNOWN_VERSION

    link = PostgresLink(stores.postgres_address())
    try:
        with link.connection():
            return link.version_met, KNOWN_VERSION
    finally:
        link.close()


def _guarded(store: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from look()
    except StateError as error:
        yield Finding(store, "reached", "failed", error.message, "see `store` in inhouse.yaml, and the server's log")


def _redis(stores: Stores) -> Iterator[Finding]:
    scripts = stores.redis_scripts()
    try:
        with scripts.telling() as client:
            begun_s = time.monotonic()
            client.ping()
            yield _reached("redis", begun_s)
            told: dict[str, Any] = client.info()
        if scripts.is_cluster:
            told = next(iter(told.values())) if told and all(isinstance(one, dict) for one in told.values()) else told
        version = str(told.get("redis_version", "0"))
        newest = int(version.partition(".")[0]) >= REDIS_MAJOR_MIN
        yield Finding(
            "redis", "version", "ok" if newest else "failed", version, "" if newest else "version 7 or newer is needed"
        )
        policy = str(told.get("maxmemory_policy", "noeviction"))
        kept = policy == "noeviction"
        hint = "" if kept else "it may throw away what limits stand at: `maxmemory-policy noeviction`"
        yield Finding("redis", "eviction", "ok" if kept else "warning", policy, hint)
        durable = bool(told.get("aof_enabled"))
        hint = "" if durable else "limits are forgotten when it ends: `appendonly yes`"
        yield Finding("redis", "append-only file", "ok" if durable else "warning", "on" if durable else "off", hint)
    finally:
        scripts.close()
    ledger = stores.ledger()
    try:
        ledger.live("inhouse:check", ledger.now())  # type: ignore[attr-defined]
        yield Finding("redis", "scripts", "ok", "they run")
    finally:
        ledger.close()


def _postgres(stores: Stores) -> Iterator[Finding]:
    from inhouse.store.postgres_link import PostgresLink
    from inhouse.store.postgres_schema import KNOWN_VERSION

    link = PostgresLink(stores.postgres_address())
    try:
        begun_s = time.monotonic()
        with link.connection() as connection:
            yield _reached("postgres", begun_s)
            number = connection.info.server_version
            newest = number >= POSTGRES_MIN
            version = f"{number // 10_000}.{number % 10_000}"
            yield Finding(
                "postgres", "version", "ok" if newest else "failed", version, "" if newest else "13 or newer is needed"
            )
            yield Finding("postgres", "schema", "ok", f"version {KNOWN_VERSION}")
            row = connection.execute("SHOW synchronous_commit").fetchone()
            told = str(row[0]) if row else "on"
            safe = told != "off"
            hint = "" if safe else "a revoked key may come back after a power cut: `synchronous_commit = on`"
            yield Finding("postgres", "commits", "ok" if safe else "warning", told, hint)
    finally:
        link.close()


def _reached(store: str, begun_s: float) -> Finding:
    return Finding(store, "reached", "ok", f"in {(time.monotonic() - begun_s) * 1000:.1f} ms")
