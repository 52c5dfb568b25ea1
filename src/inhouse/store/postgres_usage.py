"""Use in PostgreSQL: sums by day, tenant, key and model, of all gateways.

A batch whose end got lost on the way may be there or not. So each writer numbers its batches, the number is written
with the sums, and the same rows again get the same number: what is there already is not added twice.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable

import msgspec

from inhouse.store.ledger import UsageFilter, UsageRow
from inhouse.store.postgres_link import PostgresLink

_ADD = """
    INSERT INTO inhouse_usage AS known
        (day, tenant, key_id, model, requests, prompt_tokens, cached_tokens, completion_tokens, money)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (day, tenant, key_id, model) DO UPDATE SET
        requests = known.requests + excluded.requests,
        prompt_tokens = known.prompt_tokens + excluded.prompt_tokens,
        cached_tokens = known.cached_tokens + excluded.cached_tokens,
        completion_tokens = known.completion_tokens + excluded.completion_tokens,
        money = known.money + excluded.money
"""
_WRITERS_KEPT = "30 days"


class PostgresBook:
    """A `Book`. It closes `link`."""

    def __init__(self, link: PostgresLink) -> None:
        self._link = link
        self._lock = threading.Lock()
        self._writer = secrets.token_hex(8)
        self._batch = 0
        self._failed: tuple[UsageRow, ...] = ()

    def count(self, rows: Iterable[UsageRow]) -> None:
        given = tuple(rows)
        if not given:
            return
        with self._lock:
            if given != self._failed:
                self._batch += 1
            self._failed = given
            self._write(sorted(given, key=lambda row: (row.day, row.tenant, row.key_id, row.model)))
            self._failed = ()

    def usage(self, wanted: UsageFilter) -> tuple[UsageRow, ...]:
        tests = {
            "day >= %s": wanted.since_day,
            "day <= %s": wanted.until_day,
            "tenant = %s": wanted.tenant,
            "key_id = %s": wanted.key_id,
            "model = %s": wanted.model,
        }
        given = {test: value for test, value in tests.items() if value is not None}
        where = " AND ".join(given) or "TRUE"
        query = f"SELECT * FROM inhouse_usage WHERE {where} ORDER BY day, tenant, key_id, model"  # noqa: S608
        with self._link.connection() as connection:
            rows = connection.execute(query, tuple(given.values())).fetchall()
        return tuple(UsageRow(*row) for row in rows)

    def close(self) -> None:
        self._link.close()

    def _write(self, rows: list[UsageRow]) -> None:
        """In one order for all writers, so that no two wait for each other."""
        with self._link.transaction() as connection:
            done = connection.execute(
                "INSERT INTO inhouse_usage_writers AS known (writer, batch) VALUES (%s, %s) "
                "ON CONFLICT (writer) DO UPDATE SET batch = excluded.batch, at = now() "
                "WHERE known.batch < excluded.batch",
                (self._writer, self._batch),
            )
            if not done.rowcount:
                return
            with connection.cursor() as cursor:
                cursor.executemany(_ADD, [msgspec.structs.astuple(row) for row in rows])
            if self._batch == 1:
                connection.execute(
                    "DELETE FROM inhouse_usage_writers WHERE at < now() - %s::interval", (_WRITERS_KEPT,)
                )
