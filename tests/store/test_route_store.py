"""The states of routes: one writer wins, the other looks again."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from inhouse.store.postgres_link import PostgresLink
from inhouse.store.postgres_routes import PostgresRoutes
from inhouse.store.routes import RouteRow, RouteStore, SqliteRoutes
from ledgers import fresh_postgres

Open = Callable[[], RouteStore]


@pytest.fixture(params=["sqlite", "postgres"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the same store any number of times, as several processes would."""
    if request.param == "sqlite":
        return lambda: SqliteRoutes(tmp_path, busy_s=30.0)
    address = fresh_postgres(request.getfixturevalue("postgres"))
    return lambda: PostgresRoutes(PostgresLink(address))


def test_kept_and_changed(opened: Open) -> None:
    """A row is as it was written, in another process too; a writer that saw an older version writes nothing."""
    first, second = opened(), opened()
    try:
        assert first.put("app", "d", b"1", seen=0) == 1
        assert second.put("app", "d", b"2", seen=0) is None
        assert second.all() == {"app": RouteRow("d", b"1", 1)}
        assert second.put("app", "e", b"3", seen=1) == 2
        assert first.put("app", "d", b"4", seen=1) is None
        first.remove("app", seen=1)
        assert first.all() == {"app": RouteRow("e", b"3", 2)}
        first.remove("app", seen=2)
        assert second.all() == {}
    finally:
        first.close()
        second.close()


def test_many_writers_at_once(opened: Open) -> None:
    """Of all that saw the same version, exactly one wins each time."""

    def write(number: int) -> int:
        store = opened()
        won = 0
        try:
            for _ in range(20):
                row = store.all().get("app")
                won += store.put("app", "d", b"%d" % number, seen=0 if row is None else row.version) is not None
        finally:
            store.close()
        return won

    opened().close()
    with ThreadPoolExecutor(4) as pool:
        won = sum(pool.map(write, range(4)))
    store = opened()
    assert store.all()["app"].version == won >= 20
    store.close()
