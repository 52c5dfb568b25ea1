"""The servers that other tests stand on."""

from __future__ import annotations

from pathlib import Path

import psycopg
import redis

from services import postgres_server, redis_server


def test_what_redis_was_told_is_there_after_it_was_killed(tmp_path: Path) -> None:
    """A server keeps its port and its data."""
    with redis_server(tmp_path, "--appendfsync", "always") as server:
        with redis.Redis.from_url(server.url) as client:
            client.set("a", "1")
        server.kill()
        server.start()
        with redis.Redis.from_url(server.url) as client:
            assert client.get("a") == b"1"


def test_what_postgresql_was_told_is_there_after_it_was_killed(tmp_path: Path) -> None:
    """A server keeps its port and its data."""
    with postgres_server(tmp_path) as server:
        with psycopg.connect(server.url) as link:
            link.execute("create table t (a int)")
            link.execute("insert into t values (1)")
        server.kill()
        server.start()
        with psycopg.connect(server.url) as link:
            assert link.execute("select a from t").fetchall() == [(1,)]
