"""The states of routes: one writer wins, the other looks again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from inhouse.store.routes import RouteRow, SqliteRoutes


def test_kept_and_changed(tmp_path: Path) -> None:
    """A row is as it was written, in another process too; a writer that saw an older version writes nothing."""
    first, second = SqliteRoutes(tmp_path), SqliteRoutes(tmp_path)
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


def test_many_writers_at_once(tmp_path: Path) -> None:
    """Of all that saw the same version, exactly one wins each time."""

    def write(number: int) -> int:
        store = SqliteRoutes(tmp_path, busy_s=30.0)
        won = 0
        try:
            for _ in range(20):
                row = store.all().get("app")
                won += store.put("app", "d", b"%d" % number, seen=0 if row is None else row.version) is not None
        finally:
            store.close()
        return won

    SqliteRoutes(tmp_path).close()
    with ThreadPoolExecutor(4) as pool:
        won = sum(pool.map(write, range(4)))
    store = SqliteRoutes(tmp_path)
    assert store.all()["app"].version == won >= 20
    store.close()
