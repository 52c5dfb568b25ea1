"""Keys in one SQLite file, `inhouse.sqlite3`, in the state folder: nothing to install, safe between processes.

Write-ahead logging lets readers go on while another process writes. Commits are synced to the disk (`synchronous =
FULL`): a revocation that was confirmed survives a power cut.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from inhouse.errors import StateError
from inhouse.store import folder, schema
from inhouse.store.contract import Key
from inhouse.store.key_rows import COLUMNS, NAMES, key_of, row_of

FILE_NAME = "inhouse.sqlite3"
PAGE_BYTES = 4096

_ADD = f"INSERT INTO keys ({COLUMNS}) VALUES ({', '.join('?' * len(NAMES))})"  # noqa: S608
_REPLACE = f"UPDATE keys SET {', '.join(f'{name} = ?{at}' for at, name in enumerate(NAMES, 1))} WHERE id = ?1"  # noqa: S608


class SqliteStore:
    """A `KeyStore`; also a context manager that closes it. Making one creates or migrates the file.

    `busy_s` bounds how long a write waits for another process's; `bytes_max` how large the file may grow.
    """

    def __init__(self, state_dir: Path, *, busy_s: float = 2.0, bytes_max: int = 1 << 40) -> None:
        self._path = state_dir / FILE_NAME
        self._busy_s = busy_s
        self._pages_max = max(1, bytes_max // PAGE_BYTES)
        self._lock = threading.RLock()
        self._generation = 0
        folder.prepare(state_dir)
        folder.make_private_file(self._path)
        self._connection = self._connect()

    @property
    def path(self) -> Path:
        return self._path

    def add(self, key: Key) -> None:
        with self._writing() as connection:
            _insert(connection, key)

    def add_if_none_live(self, key: Key, *, now: float) -> bool:
        with self._writing() as connection:
            live = connection.execute(
                "SELECT 1 FROM keys WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?) LIMIT 1", (now,)
            ).fetchone()
            if live is None:
                _insert(connection, key)
            return live is None

    def by_id(self, key_id: str) -> Key | None:
        with self._lock, folder.telling_sqlite_errors(self._path):
            row = self._connection.execute(f"SELECT {COLUMNS} FROM keys WHERE id = ?", (key_id,)).fetchone()  # noqa: S608
        return None if row is None else key_of(row, self._path)

    def list(self) -> tuple[Key, ...]:
        with self._lock, folder.telling_sqlite_errors(self._path):
            rows = self._connection.execute(f"SELECT {COLUMNS} FROM keys ORDER BY created_at, id").fetchall()  # noqa: S608
        return tuple(key_of(row, self._path) for row in rows)

    def revoke(self, key_id: str, *, at: float) -> Key | None:
        with self._writing() as connection:
            connection.execute("UPDATE keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", (at, key_id))
        return self.by_id(key_id)  # read after the commit: a damaged record can be revoked, if not shown

    def change(self, key_id: str, work: Callable[[Key], Key]) -> Key | None:
        with self._writing() as connection:
            known = self.by_id(key_id)
            if known is None:
                return None
            changed = work(known)
            connection.execute(_REPLACE, row_of(changed))
            return changed

    def version(self) -> Hashable:
        """A counter that triggers move, so that writes of the ledger do not; a file put in its place is reopened."""
        with self._lock, folder.telling_sqlite_errors(self._path):
            if self._identity() != self._file:
                outdated, self._connection = self._connection, self._connect()
                outdated.close()
                self._generation += 1
            (changes,) = self._connection.execute("SELECT changes FROM key_changes").fetchone()
            return self._generation, changes

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _connect(self) -> sqlite3.Connection:
        with folder.telling_sqlite_errors(self._path):
            connection = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=rw",
                uri=True,
                timeout=self._busy_s,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                connection.execute("PRAGMA trusted_schema = OFF")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute(f"PRAGMA max_page_count = {self._pages_max}")
                if not schema.is_current(connection, self._path):
                    with folder.locked(self._path.parent):
                        connection.execute("PRAGMA journal_mode = WAL")
                        schema.migrate(connection, self._path)
            except BaseException:
                connection.close()
                raise
        self._file = self._identity()
        return connection

    def _identity(self) -> tuple[int, int]:
        try:
            status = os.stat(self._path)
        except OSError as error:
            raise StateError(
                f"the state file {self._path} is gone ({error.strerror}); "
                "put it back, or restart to begin with a new one"
            ) from error
        return status.st_dev, status.st_ino

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One write transaction, from its first look to its last change."""
        with self._lock, folder.telling_sqlite_errors(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")


def _insert(connection: sqlite3.Connection, key: Key) -> None:
    try:
        connection.execute(_ADD, row_of(key))
    except sqlite3.IntegrityError as error:
        raise ValueError(f"the key '{key.id}' cannot be added: {error}") from error
