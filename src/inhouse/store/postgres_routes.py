"""What was done to routes by hand, in PostgreSQL: one row per route and its version, as in the state folder."""

from __future__ import annotations

from inhouse.store.postgres_link import PostgresLink
from inhouse.store.routes import RouteRow


class PostgresRoutes:
    """A `RouteStore`. It closes `link`."""

    def __init__(self, link: PostgresLink) -> None:
        self._link = link

    def all(self) -> dict[str, RouteRow]:
        with self._link.connection() as connection:
            rows = connection.execute("SELECT route, digest, state, version FROM inhouse_routes").fetchall()
        return {route: RouteRow(digest, bytes(state), version) for route, digest, state, version in rows}

    def put(self, route: str, digest: str, state: bytes, *, seen: int) -> int | None:
        with self._link.connection() as connection:
            if seen:
                done = connection.execute(
                    "UPDATE inhouse_routes SET digest = %s, state = %s, version = version + 1 "
                    "WHERE route = %s AND version = %s",
                    (digest, state, route, seen),
                )
            else:
                done = connection.execute(
                    "INSERT INTO inhouse_routes (route, version, digest, state) VALUES (%s, 1, %s, %s) "
                    "ON CONFLICT (route) DO NOTHING",
                    (route, digest, state),
                )
            return seen + 1 if done.rowcount else None

    def remove(self, route: str, *, seen: int) -> None:
        with self._link.connection() as connection:
            connection.execute("DELETE FROM inhouse_routes WHERE route = %s AND version = %s", (route, seen))

    def close(self) -> None:
        self._link.close()
