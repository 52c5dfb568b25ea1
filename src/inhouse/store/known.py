"""What a gateway knows of the keys and routes in PostgreSQL: all of them, in memory, kept up to date by one thread.

Theory of operation. The thread holds a connection that listens. A key that is changed anywhere is told at once
(NOTIFY): it then reads the keys that were changed since, and says so (`on_change`). Once a second it looks by itself,
at routes too, so a word that got lost costs a second. A request that shows a key never waits for the network, whatever
it shows.

Away. Keys that are known go on for `stale_s`; one that is not known cannot be judged, and is told so (StateError, 503).
After `stale_s` no key can be: somebody might have revoked it. When PostgreSQL is back the thread reads all anew.

What is written goes through to PostgreSQL at once, and is known here when the call returns.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from inhouse.errors import StateError
from inhouse.store.contract import Key
from inhouse.store.postgres_keys import PostgresKeys
from inhouse.store.postgres_link import PostgresAddress, PostgresLink, connect
from inhouse.store.postgres_routes import PostgresRoutes
from inhouse.store.postgres_schema import CHANNEL
from inhouse.store.routes import RouteRow

if TYPE_CHECKING:
    import psycopg

LOOK_EVERY_S = 1.0
_AGAIN_S = 0.5
_PIECES = 5


class Known:
    """Watches; `keys` and `routes` are what a gateway uses. Making one reads all of it. Raises `StateError`."""

    def __init__(
        self, address: PostgresAddress, *, stale_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.on_change: Callable[[], object] = lambda: None
        """Called in the thread, after a key was changed by anybody."""
        self.trouble = ""
        """Why PostgreSQL could not be asked the last time; "" where it could."""
        self._address = address
        self._stale_s = stale_s
        self._clock = clock
        self._seen_s = clock()
        self._link = PostgresLink(address)
        self._inner_keys = PostgresKeys(self._link)
        self._inner_routes = PostgresRoutes(self._link)
        self._all_keys: dict[str, Key] = {}
        self._all_routes: dict[str, RouteRow] = {}
        self._version: tuple[int, int] | None = None
        self._changes = 0
        self._ended = threading.Event()
        self._looking = threading.Lock()
        self.look()
        self.keys = KnownKeys(self, self._inner_keys)
        self.routes = KnownRoutes(self, self._inner_routes)
        self._thread = threading.Thread(target=self._run, name="known", daemon=True)
        self._thread.start()

    @property
    def away_s(self) -> float:
        """How long ago it was last seen."""
        return self._clock() - self._seen_s

    @property
    def changes(self) -> int:
        """Grows with each change of keys. Raises `StateError` where what is known is too old to trust."""
        if self.trouble and self.away_s > self._stale_s:
            raise StateError(f"keys were last seen {self.away_s:.0f} s ago: {self.trouble}")
        return self._changes

    def key(self, key_id: str) -> Key | None:
        _ = self.changes
        found = self._all_keys.get(key_id)
        if found is None and self.trouble:
            raise StateError(self.trouble)
        return found

    def all_routes(self) -> dict[str, RouteRow]:
        return self._all_routes

    def look(self) -> None:
        """Reads what has changed. Raises `StateError`."""
        with self._looking:
            version = self._inner_keys.version()
            if version != self._version:
                seen = self._version
                if seen is None or seen[1] != version[1] or seen[0] > version[0]:  # or another database, from a backup
                    self._all_keys = {key.id: key for key in self._inner_keys.list()}
                else:
                    self._all_keys.update({key.id: key for key in self._inner_keys.changed_since(seen[0])})
                self._version = version
                self._changes += 1
                self.on_change()
            self._all_routes = self._inner_routes.all()
            self._seen_s = self._clock()
            self.trouble = ""

    def close(self) -> None:
        self._ended.set()
        self._thread.join(5.0)
        self._link.close()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._listen()
            except StateError as error:
                self.trouble = error.message
            except Exception as error:  # noqa: BLE001 - the thread goes on
                self.trouble = f"PostgreSQL cannot be asked for keys: {type(error).__name__}"
            self._ended.wait(_AGAIN_S)

    def _wait(self, connection: psycopg.Connection[Any]) -> None:
        """Until somebody tells of a change, it is time to look, or all ends."""
        for _ in range(_PIECES):
            told = list(connection.notifies(timeout=LOOK_EVERY_S / _PIECES, stop_after=1))
            if told or self._ended.is_set():
                return

    def _listen(self) -> None:
        """Until it breaks."""
        import psycopg

        try:
            with connect(self._address) as connection:
                connection.execute(f"LISTEN {CHANNEL}")
                while not self._ended.is_set():
                    self.look()
                    self._wait(connection)
        except psycopg.Error as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise StateError(f"PostgreSQL at {self._address.shown} cannot be used: {lines[0][:200]}") from error


class KnownKeys:
    """A `KeyStore` that answers from memory."""

    def __init__(self, known: Known, keys: PostgresKeys) -> None:
        self._known = known
        self._keys = keys

    def add(self, key: Key) -> None:
        self._keys.add(key)
        self._known.look()

    def add_if_none_live(self, key: Key, *, now: float) -> bool:
        done = self._keys.add_if_none_live(key, now=now)
        self._known.look()
        return done

    def by_id(self, key_id: str) -> Key | None:
        return self._known.key(key_id)

    def list(self) -> tuple[Key, ...]:
        return self._keys.list()

    def revoke(self, key_id: str, *, at: float) -> Key | None:
        found = self._keys.revoke(key_id, at=at)
        self._known.look()
        return found

    def change(self, key_id: str, work: Callable[[Key], Key]) -> Key | None:
        found = self._keys.change(key_id, work)
        self._known.look()
        return found

    def version(self) -> Hashable:
        return self._known.changes

    def close(self) -> None:
        """Whoever watches is closed by whoever made it."""


class KnownRoutes:
    """A `RouteStore` that answers from memory. What is written while PostgreSQL is away fails at once."""

    def __init__(self, known: Known, routes: PostgresRoutes) -> None:
        self._known = known
        self._routes = routes

    def all(self) -> dict[str, RouteRow]:
        return self._known.all_routes()

    def put(self, route: str, digest: str, state: bytes, *, seen: int) -> int | None:
        self._check()
        version = self._routes.put(route, digest, state, seen=seen)
        self._known.look()
        return version

    def remove(self, route: str, *, seen: int) -> None:
        self._check()
        self._routes.remove(route, seen=seen)
        self._known.look()

    def close(self) -> None:
        """As of keys."""

    def _check(self) -> None:
        if self._known.trouble:
            raise StateError(self._known.trouble)
