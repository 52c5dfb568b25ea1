"""Files and batches as they are remembered: one contract, over SQLite and PostgreSQL alike.

A batch belongs to one gateway at a time, by a lease that it renews; of one that died the lease runs out, and another
goes on. Results are kept line by line, each line once: what is there is not done again, whoever goes on.

Tables: inhouse_files (id), inhouse_batches (id), inhouse_batch_results (batch, line). Statements are the same for both.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from inhouse.core_batch import OVER, BatchObject, Counts


@dataclass(frozen=True, slots=True)
class FileRecord:
    id: str
    tenant: str
    key_id: str
    filename: str
    purpose: str
    bytes: int
    created_us: int
    """Microseconds since 1970: files are listed in the order in which they came."""
    expires_at: int | None = None
    """Seconds since 1970."""


class Caller(msgspec.Struct, frozen=True):
    """Who asked for a batch: its requests are theirs."""

    key_id: str
    tenant: str
    roles: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    limits: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class BatchRecord:
    tenant: str
    caller: Caller
    state: BatchObject


class Connection(Protocol):
    """A database that speaks SQL with `?` for values."""

    def run(self, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Rows; of a change, one row with the number of rows that changed."""

    def together(self) -> AbstractContextManager[None]:
        """What is run inside happens whole or not at all, and alone."""

    def close(self) -> None: ...


class Batches:
    """Safe to use from several processes and threads at once. Every method may raise StateError; all of them block."""

    def __init__(self, connection: Connection) -> None:
        self._database = connection

    # files
    def add_file(self, record: FileRecord) -> None:
        """One of the same id, as it was there before, is replaced."""
        self._database.run(
            "INSERT INTO inhouse_files (id, tenant, key_id, filename, purpose, bytes, created_us, expires_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET bytes = excluded.bytes",
            dataclasses.astuple(record),
        )

    def file(self, tenant: str, id: str) -> FileRecord | None:
        rows = self._database.run(f"SELECT {_FILE} FROM inhouse_files WHERE tenant = ? AND id = ?", (tenant, id))  # noqa: S608
        return FileRecord(*rows[0]) if rows else None

    def files(self, tenant: str, *, purpose: str | None = None) -> list[FileRecord]:
        """The newest first."""
        rows = self._database.run(
            f"SELECT {_FILE} FROM inhouse_files WHERE tenant = ? ORDER BY created_us DESC, id DESC",  # noqa: S608
            (tenant,),
        )
        return [record for row in rows if (record := FileRecord(*row)) and purpose in (None, record.purpose)]

    def files_bytes(self, tenant: str) -> int:
        return int(
            self._database.run("SELECT COALESCE(SUM(bytes), 0) FROM inhouse_files WHERE tenant = ?", (tenant,))[0][0]
        )

    def remove_file(self, id: str) -> None:
        self._database.run("DELETE FROM inhouse_files WHERE id = ?", (id,))

    def outdated_files(self, now: int) -> list[str]:
        rows = self._database.run(
            "SELECT id FROM inhouse_files WHERE expires_at IS NOT NULL AND expires_at < ?", (now,)
        )
        return [id for (id,) in rows]

    # batches
    def add(self, record: BatchRecord) -> None:
        state = record.state
        self._database.run(
            "INSERT INTO inhouse_batches (id, tenant, caller, state, status, created_us) VALUES (?, ?, ?, ?, ?, ?)",
            (state.id, record.tenant, _encode(record.caller), _encode(state), state.status, time.time_ns() // 1000),
        )

    def get(self, tenant: str, id: str) -> BatchObject | None:
        rows = self._database.run("SELECT state FROM inhouse_batches WHERE tenant = ? AND id = ?", (tenant, id))
        return self._counted(_state(bytes(rows[0][0]))) if rows else None

    def list(self, tenant: str, *, after: str | None, limit: int) -> list[BatchObject]:
        """The newest first, from the one behind `after` on."""
        rows = self._database.run(
            "SELECT state FROM inhouse_batches WHERE tenant = ? ORDER BY created_us DESC, id DESC", (tenant,)
        )
        found = [_state(bytes(state)) for (state,) in rows]
        at = next((index + 1 for index, one in enumerate(found) if one.id == after), 0)
        return [self._counted(one) for one in found[at : at + limit]]

    def change(self, tenant: str, id: str, change: Any, *, owner: str | None = None) -> BatchObject | None:
        """The batch as `change` makes it of what it is; None where there is none, or `owner` has it no more."""
        with self._database.together():
            rows = self._database.run(
                "SELECT state, owner FROM inhouse_batches WHERE tenant = ? AND id = ?", (tenant, id)
            )
            if not rows or (owner is not None and rows[0][1] != owner):
                return None
            state: BatchObject = change(_state(bytes(rows[0][0])))
            ended = state.created_at if state.status in OVER else None
            self._database.run(
                "UPDATE inhouse_batches SET state = ?, status = ?, ended_at = ? WHERE id = ?",
                (_encode(state), state.status, ended, id),
            )
        return state

    def claim(self, owner: str, now_s: float, lease_s: float) -> BatchRecord | None:
        """The oldest batch that is not over and that nobody works at; from now on `owner` does."""
        with self._database.together():
            rows = self._database.run(
                "SELECT id, tenant, caller, state FROM inhouse_batches "
                "WHERE status IN ('validating', 'in_progress', 'finalizing', 'cancelling') AND lease_s < ? "
                "ORDER BY created_us, id LIMIT 1",
                (now_s,),
            )
            if not rows:
                return None
            id, tenant, caller, state = rows[0]
            self._database.run(
                "UPDATE inhouse_batches SET owner = ?, lease_s = ? WHERE id = ?", (owner, now_s + lease_s, id)
            )
        return BatchRecord(tenant, _caller(bytes(caller)), _state(bytes(state)))

    def renew(self, id: str, owner: str, now_s: float, lease_s: float) -> BatchObject | None:
        """The batch as it is, for so much longer `owner`'s; None where it is so no more."""
        with self._database.together():
            rows = self._database.run("SELECT state FROM inhouse_batches WHERE id = ? AND owner = ?", (id, owner))
            if not rows:
                return None
            self._database.run("UPDATE inhouse_batches SET lease_s = ? WHERE id = ?", (now_s + lease_s, id))
        return _state(bytes(rows[0][0]))

    def release(self, id: str, owner: str) -> None:
        """Another may go on with it at once."""
        self._database.run("UPDATE inhouse_batches SET owner = '', lease_s = 0 WHERE id = ? AND owner = ?", (id, owner))

    # results
    def keep(self, batch: str, owner: str, rows: Iterable[tuple[int, bool, bytes]]) -> bool:
        """(line, good, result); a line that has one already keeps it. False: `owner` has the batch no more."""
        with self._database.together():
            if not self._database.run("SELECT 1 FROM inhouse_batches WHERE id = ? AND owner = ?", (batch, owner)):
                return False
            for line, good, result in rows:
                self._database.run(
                    "INSERT INTO inhouse_batch_results (batch, line, good, result) VALUES (?, ?, ?, ?) "
                    "ON CONFLICT (batch, line) DO NOTHING",
                    (batch, line, int(good), result),
                )
        return True

    def done(self, batch: str) -> set[int]:
        """Lines that have a result."""
        return {
            line for (line,) in self._database.run("SELECT line FROM inhouse_batch_results WHERE batch = ?", (batch,))
        }

    def results(self, batch: str, *, good: bool) -> Iterator[bytes]:
        """In the order of the lines."""
        after = -1
        while rows := self._database.run(
            "SELECT line, result FROM inhouse_batch_results WHERE batch = ? AND good = ? AND line > ? "
            "ORDER BY line LIMIT 500",
            (batch, int(good), after),
        ):
            for line, result in rows:
                after = line
                yield bytes(result)

    def forget_results(self, batch: str) -> None:
        self._database.run("DELETE FROM inhouse_batch_results WHERE batch = ?", (batch,))

    def forget_before(self, moment: int) -> None:
        """Batches that were made before it (seconds since 1970) and are over."""
        self._database.run(
            "DELETE FROM inhouse_batches WHERE ended_at IS NOT NULL AND created_us < ?", (moment * 1_000_000,)
        )

    def close(self) -> None:
        self._database.close()

    def _counted(self, state: BatchObject) -> BatchObject:
        """While it runs, the results that are there are the count."""
        if state.status in ("in_progress", "cancelling"):
            rows = self._database.run(
                "SELECT good, COUNT(*) FROM inhouse_batch_results WHERE batch = ? GROUP BY good", (state.id,)
            )
            count = {int(good): int(number) for good, number in rows}
            state.request_counts = Counts(state.request_counts.total, count.get(1, 0), count.get(0, 0))
        return state


_FILE = "id, tenant, key_id, filename, purpose, bytes, created_us, expires_at"
_encode = msgspec.json.encode
_state = msgspec.json.Decoder(BatchObject).decode
_caller = msgspec.json.Decoder(Caller).decode
