"""Files and batches in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from inhouse.store.postgres_link import PostgresLink

_LOCK = 0x6261746368  # "batch"


class PostgresConnection:
    """A `batches.Connection`. It closes `link`."""

    def __init__(self, link: PostgresLink) -> None:
        self._link = link

    def run(self, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        with self._link.connection() as connection:
            cursor = connection.execute(sql.replace("?", "%s").encode(), values)
            return cursor.fetchall() if cursor.description else [(cursor.rowcount,)]

    @contextmanager
    def together(self) -> Iterator[None]:
        with self._link.transaction() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            yield

    def close(self) -> None:
        self._link.close()
