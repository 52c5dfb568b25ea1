"""Files and batches in SQLite, in a file of their own beside the keys: answers are large, keys are not."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inhouse.store import folder

FILE_NAME = "batches.sqlite3"
TABLES = (
    """
    CREATE TABLE inhouse_files (
        id         TEXT PRIMARY KEY NOT NULL,
        tenant     TEXT NOT NULL,
        key_id     TEXT NOT NULL,
        filename   TEXT NOT NULL,
        purpose    TEXT NOT NULL,
        bytes      BIGINT NOT NULL,
        created_us BIGINT NOT NULL,
        expires_at BIGINT
    )
    """,
    "CREATE INDEX inhouse_files_of_tenants ON inhouse_files (tenant, created_us)",
    """
    CREATE TABLE inhouse_batches (
        id         TEXT PRIMARY KEY NOT NULL,
        tenant     TEXT NOT NULL,
        caller     BLOB NOT NULL,
        state      BLOB NOT NULL,
        status     TEXT NOT NULL,
        created_us BIGINT NOT NULL,
        ended_at   BIGINT,
        owner      TEXT NOT NULL DEFAULT '',
        lease_s    DOUBLE PRECISION NOT NULL DEFAULT 0
    )
    """,
    "CREATE INDEX inhouse_batches_of_tenants ON inhouse_batches (tenant, created_us)",
    """
    CREATE TABLE inhouse_batch_results (
        batch  TEXT NOT NULL,
        line   BIGINT NOT NULL,
        good   BIGINT NOT NULL,
        result BLOB NOT NULL,
        PRIMARY KEY (batch, line)
    )
    """,
)


class SqliteConnection:
    """A `batches.Connection`. Making one creates the file."""

    def __init__(self, state_dir: Path, *, busy_s: float = 5.0) -> None:
        self._path = state_dir / FILE_NAME
        self._lock = threading.RLock()
        folder.prepare(state_dir)
        folder.make_private_file(self._path)
        with folder.telling_sqlite_errors(self._path):
            self._connection = sqlite3.connect(
                self._path, timeout=busy_s, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            with self.together():
                if self._connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                    for statement in TABLES:
                        self._connection.execute(statement)
                    self._connection.execute("PRAGMA user_version = 1")

    def run(self, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        with self._lock, folder.telling_sqlite_errors(self._path):
            cursor = self._connection.execute(sql, values)
            return cursor.fetchall() if cursor.description else [(cursor.rowcount,)]

    @contextmanager
    def together(self) -> Iterator[None]:
        with self._lock, folder.telling_sqlite_errors(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def close(self) -> None:
        with self._lock:
            self._connection.close()
