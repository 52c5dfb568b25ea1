"""The audit in PostgreSQL: one chain of records for all gateways and commands, as in the files of a state folder.

Theory of operation. Who appends locks the row of the head, seals its records after it (`audit_chain`), writes them and
moves the head, in one transaction. So the chain has one order and no gap, whoever dies. Where the end of a transaction
got lost on the way, the next append looks whether the head is there, and does not write the same records again.

Records of days that lie `keep_s` back are deleted at the first append of a day; `audit.expired` says which, and the
head remembers after which record the rest begins.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from inhouse.store.audit_chain import Check, Head, seal
from inhouse.store.audit_files import DAY_S, act
from inhouse.store.audit_read import Verdict, ends, expired_by
from inhouse.store.postgres_link import PostgresLink

if TYPE_CHECKING:
    import psycopg

_PAGE = 1000


class PostgresAudit:
    """Appends to the chain, and reads it. It closes `link`. Every method may raise StateError."""

    def __init__(self, link: PostgresLink, *, keep_s: float = 0.0, clock: Callable[[], float] = time.time) -> None:
        self._link = link
        self._keep_s = keep_s
        self._clock = clock
        self._lock = threading.Lock()
        self._doubtful: tuple[Head, int] | None = None
        """The head that the last append would have left, and how many records it had: nobody knows whether it did."""

    def append(self, bodies: Sequence[bytes]) -> Head:
        """Writes records, each a JSON object on one line, all or none; the new head, once they are on the disk."""
        with self._lock, self._link.transaction() as connection:
            head, day = self._head(connection)
            if self._doubtful is not None:
                if self._is_there(connection, self._doubtful[0]):
                    bodies = bodies[self._doubtful[1] :]
                self._doubtful = None
            given = len(bodies)
            today = int(self._clock() // DAY_S)
            if self._keep_s and day != today:
                bodies = [*self._expired(connection, head), *bodies]
            lines = []
            for body in bodies:
                line, head = seal(head, body)
                lines.append((head.seq, today, line[:-1]))
            if lines:
                with connection.cursor() as cursor:
                    cursor.executemany("INSERT INTO inhouse_audit VALUES (%s, %s, %s)", lines)
                connection.execute(
                    "UPDATE inhouse_audit_head SET seq = %s, hash = %s, day = %s", (head.seq, head.hash, today)
                )
                self._doubtful = head, given
        self._doubtful = None
        return head

    def newest(self, *, before: int | None = None) -> Iterator[bytes]:
        """Records as their lines, backwards from the newest or from the one before `before`."""
        at = (1 << 62) if before is None else before
        while rows := self._rows("seq < %s ORDER BY seq DESC", at):
            for at, line in rows:  # noqa: B007
                yield line

    def oldest(self) -> Iterator[bytes]:
        """All records as their lines, from the oldest on."""
        at = 0
        while rows := self._rows("seq > %s ORDER BY seq", at):
            for at, line in rows:  # noqa: B007
                yield line

    def verify(self, *, noted: Head | None = None) -> Verdict:
        """Goes through all of it. `noted` is a head that was noted elsewhere and has to be in the chain still."""
        with self._link.connection() as connection:
            row = connection.execute("SELECT seq, hash, after_seq, after_hash FROM inhouse_audit_head").fetchone()
        told, start = (Head(), Head()) if row is None else (Head(row[0], row[1]), Head(row[2], row[3]))
        check, expired, seen = Check(start), 0, dict[int, str]()
        wanted = {head.seq: head.hash for head in (told, noted or Head()) if head.seq}
        for line in self.oldest():
            check.line(line, f"table inhouse_audit, after record {check.head.seq}")
            if check.head.seq in wanted:
                seen[check.head.seq] = check.head.hash
            if b'"audit.expired"' in line:
                expired = max(expired, expired_by(line))
        problems = list(check.problems())
        if start.seq > expired:
            problems.insert(
                0, f"records {expired + 1} to {start.seq} are missing, and no record says that they expired"
            )
        problems += ends(check.head, start, wanted, seen)
        return Verdict(check.records, start.seq + 1, check.head, tuple(problems))

    def close(self) -> None:
        self._link.close()

    @staticmethod
    def _head(connection: psycopg.Connection[Any]) -> tuple[Head, int]:
        row = connection.execute("SELECT seq, hash, day FROM inhouse_audit_head FOR UPDATE").fetchone()
        return (Head(), 0) if row is None else (Head(row[0], row[1]), row[2])

    @staticmethod
    def _is_there(connection: psycopg.Connection[Any], head: Head) -> bool:
        row = connection.execute("SELECT line FROM inhouse_audit WHERE seq = %s", (head.seq,)).fetchone()
        return row is not None and bytes(row[0]).endswith(f'"{head.hash}"}}'.encode())

    def _expired(self, connection: psycopg.Connection[Any], head: Head) -> list[bytes]:
        """Deletes what is too old; what there is to say of that."""
        now_s = self._clock()
        oldest_day = int((now_s - self._keep_s) // DAY_S)
        row = connection.execute(
            "SELECT min(seq), max(seq) FROM inhouse_audit WHERE day < %s", (oldest_day,)
        ).fetchone()
        if row is None or row[0] is None:
            return []
        first, last = row
        found = connection.execute("SELECT line FROM inhouse_audit WHERE seq = %s", (last,)).fetchone()
        digest = bytes(found[0])[-66:-2].decode() if found is not None else ""
        connection.execute("DELETE FROM inhouse_audit WHERE seq <= %s", (last,))
        connection.execute("UPDATE inhouse_audit_head SET after_seq = %s, after_hash = %s", (last, digest))
        return [act("audit.expired", now_s, {"first": first, "last": last})]

    def _rows(self, where: str, at: int) -> list[tuple[int, bytes]]:
        query = f"SELECT seq, line FROM inhouse_audit WHERE {where} LIMIT {_PAGE}"  # noqa: S608
        with self._link.connection() as connection:
            return [(seq, bytes(line)) for seq, line in connection.execute(query, (at,)).fetchall()]
