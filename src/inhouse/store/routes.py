"""What was done to routes by hand, and how far their canaries are: kept beside the keys, one row per route.

Theory of operation. A row has a version. Who changes a route says which version it saw; where another process was
quicker nothing is written, and the caller looks again. `digest` is that of the route in the file it was made for: a row
of another digest is of a route that is no more, and whoever starts with another one removes it.

Table: route_states (route → version, digest, state as JSON).
"""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from inhouse.store import folder
from inhouse.store.sqlite import FILE_NAME, SqliteStore

NOBODY_WAITS_S = 0.25
"""How long a write may wait for another process's: the event loop may stand behind it."""


@dataclass(frozen=True, slots=True)
class RouteRow:
    """`state` is JSON, whose meaning the store does not know. `version` grows with each change."""

    digest: str
    state: bytes
    version: int


class RouteStore(Protocol):
    """Safe to use from several processes and threads at once. Every method may raise `StateError`."""

    def all(self) -> dict[str, RouteRow]:
        """By the routes' names. Cheap enough for every second."""

    def put(self, route: str, digest: str, state: bytes, *, seen: int) -> int | None:
        """The new version; None where the row is not at version `seen` any more (0: there is none)."""

    def remove(self, route: str, *, seen: int) -> None:
        """Nothing happens where the row is at another version."""

    def close(self) -> None: ...


class SqliteRoutes:
    """A `RouteStore` in the state file. Making one creates or migrates the file."""

    def __init__(self, state_dir: Path, *, busy_s: float = NOBODY_WAITS_S) -> None:
        SqliteStore(state_dir).close()
        self._path = state_dir / FILE_NAME
        self._lock = threading.Lock()
        with folder.telling_sqlite_errors(self._path):
            self._connection = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=rw",
                uri=True,
                timeout=busy_s,
                isolation_level=None,
                check_same_thread=False,
            )
            self._connection.execute("PRAGMA trusted_schema = OFF")
            self._connection.execute("PRAGMA synchronous = FULL")

    def all(self) -> dict[str, RouteRow]:
        with self._lock, folder.telling_sqlite_errors(self._path):
            rows = self._connection.execute("SELECT route, digest, state, version FROM route_states").fetchall()
        return {route: RouteRow(digest, bytes(state), version) for route, digest, state, version in rows}

    def put(self, route: str, digest: str, state: bytes, *, seen: int) -> int | None:
        with self._lock, folder.telling_sqlite_errors(self._path):
            if seen:
                done = self._connection.execute(
                    "UPDATE route_states SET digest = ?, state = ?, version = version + 1 "
                    "WHERE route = ? AND version = ?",
                    (digest, state, route, seen),
                )
            else:
                done = self._connection.execute(
                    "INSERT INTO route_states (route, version, digest, state) VALUES (?, 1, ?, ?) "
                    "ON CONFLICT (route) DO NOTHING",
                    (route, digest, state),
                )
            return seen + 1 if done.rowcount else None

    def remove(self, route: str, *, seen: int) -> None:
        with self._lock, folder.telling_sqlite_errors(self._path):
            self._connection.execute("DELETE FROM route_states WHERE route = ? AND version = ?", (route, seen))

    def close(self) -> None:
        with self._lock:
            self._connection.close()
