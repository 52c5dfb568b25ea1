"""Keys in PostgreSQL, for all gateways. A trigger counts and tells (NOTIFY) each change; `known` listens."""

from __future__ import annotations

from collections.abc import Callable

from inhouse.store.contract import Key
from inhouse.store.key_rows import COLUMNS, NAMES, key_of, row_of
from inhouse.store.postgres_link import PostgresLink

_WHERE = "PostgreSQL"
_ADD = f"INSERT INTO inhouse_keys ({COLUMNS}) VALUES ({', '.join(['%s'] * len(NAMES))})"  # noqa: S608
_SELECT = f"SELECT {COLUMNS} FROM inhouse_keys"  # noqa: S608
_REPLACE = f"UPDATE inhouse_keys SET {', '.join(f'{name} = %s' for name in NAMES)} WHERE id = %s"  # noqa: S608


class PostgresKeys:
    """A `KeyStore`. It closes `link`."""

    def __init__(self, link: PostgresLink) -> None:
        self._link = link

    def add(self, key: Key) -> None:
        self._insert(key, _ADD, row_of(key))

    def add_if_none_live(self, key: Key, *, now: float) -> bool:
        with self._link.transaction() as connection:
            connection.execute("LOCK TABLE inhouse_keys IN SHARE ROW EXCLUSIVE MODE")
            live = connection.execute(
                "SELECT 1 FROM inhouse_keys "
                "WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > %s) LIMIT 1",
                (now,),
            ).fetchone()
            if live is None:
                connection.execute(_ADD, row_of(key))
            return live is None

    def by_id(self, key_id: str) -> Key | None:
        if "\0" in key_id:
            return None
        with self._link.connection() as connection:
            row = connection.execute(f"{_SELECT} WHERE id = %s", (key_id,)).fetchone()
        return None if row is None else key_of(row, _WHERE)

    def list(self) -> tuple[Key, ...]:
        with self._link.connection() as connection:
            rows = connection.execute(f"{_SELECT} ORDER BY created_at, id").fetchall()
        return tuple(key_of(row, _WHERE) for row in rows)

    def revoke(self, key_id: str, *, at: float) -> Key | None:
        with self._link.connection() as connection:
            connection.execute(
                "UPDATE inhouse_keys SET revoked_at = %s WHERE id = %s AND revoked_at IS NULL", (at, key_id)
            )
        return self.by_id(key_id)

    def change(self, key_id: str, work: Callable[[Key], Key]) -> Key | None:
        with self._link.transaction() as connection:
            row = connection.execute(f"{_SELECT} WHERE id = %s FOR UPDATE", (key_id,)).fetchone()
            if row is None:
                return None
            changed = work(key_of(row, _WHERE))
            connection.execute(_REPLACE, (*row_of(changed), key_id))
            return changed

    def version(self) -> tuple[int, int]:
        """Changes of any kind, and removals among them. They are committed in the order of their numbers."""
        with self._link.connection() as connection:
            row = connection.execute("SELECT changes, removals FROM inhouse_key_changes").fetchone()
        return (0, 0) if row is None else (row[0], row[1])

    def changed_since(self, change: int) -> tuple[Key, ...]:
        with self._link.connection() as connection:
            rows = connection.execute(f"{_SELECT} WHERE change > %s", (change,)).fetchall()
        return tuple(key_of(row, _WHERE) for row in rows)

    def close(self) -> None:
        self._link.close()

    def _insert(self, key: Key, statement: str, row: tuple[object, ...]) -> None:
        import psycopg

        try:
            with self._link.connection() as connection:
                connection.execute(statement, row)
        except psycopg.errors.IntegrityError as error:
            raise ValueError(f"the key '{key.id}' cannot be added: it is there already") from error
