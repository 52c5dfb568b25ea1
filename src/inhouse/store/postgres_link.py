"""The way to PostgreSQL: one connection for each store, made anew after it broke, and the schema made once for all.

Blocking, for threads: nothing here belongs into an event loop. Every wait has an end on this side, since a network may
swallow what it is given. After a failure the next calls fail at once for `_PAUSE_S`.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from inhouse.errors import StateError

if TYPE_CHECKING:
    import psycopg

_PAUSE_S = 0.2
_WAIT_S = 0.1


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """Where it is and how to be let in. `url` may hold a user and a password, and is never shown."""

    url: str = field(repr=False)
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    timeout_s: float = 3.0

    @property
    def shown(self) -> str:
        """For messages: without user and password."""
        parts = urlsplit(self.url)
        return f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}"


class PostgresLink:
    """One connection at a time, used by one thread at a time; others wait. Methods raise `StateError`."""

    def __init__(self, address: PostgresAddress) -> None:
        self._address = address
        self._lock = threading.RLock()
        self._connection: psycopg.Connection[Any] | None = None
        self._again_s = 0.0
        self._reason = ""
        self.version_met = 0
        """Of the schema, before it was brought to ours."""

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection[Any]]:
        """What is done in the block is done as a whole, or not. Nobody knows which where its end got lost."""
        with self.connection() as connection, connection.transaction():
            yield connection

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        """Each statement for itself."""
        with self._lock:
            import_psycopg()
            import psycopg

            if time.monotonic() < self._again_s:
                raise StateError(self._reason)
            try:
                connection = self._connection or self._connect()
                yield connection
            except psycopg.OperationalError as error:
                self._drop()
                self._again_s = time.monotonic() + _PAUSE_S
                raise StateError(self._told(error)) from error
            except psycopg.errors.IntegrityError:
                raise
            except psycopg.Error as error:
                self._drop()
                raise StateError(self._told(error)) from error

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _connect(self) -> psycopg.Connection[Any]:
        connection = connect(self._address)
        try:
            from inhouse.store.postgres_schema import migrate

            self.version_met = migrate(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _told(self, error: Exception) -> str:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        self._reason = f"PostgreSQL at {self._address.shown} cannot be used: {lines[0][:200]}"
        return self._reason


def connect(address: PostgresAddress) -> psycopg.Connection[Any]:
    """A connection in autocommit. Raises psycopg.Error."""
    options: dict[str, Any] = {
        "application_name": "inhouse",
        "connect_timeout": max(2, math.ceil(address.timeout_s)),  # libpq takes no less than 2
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
    }
    if address.password is not None:
        options["password"] = address.password
    if address.ca_file is not None:
        options |= {"sslmode": "verify-full", "sslrootcert": str(address.ca_file)}
    connection: Any = _impatient().connect(address.url, autocommit=True, prepare_threshold=None, **options)
    connection.patience_s = address.timeout_s
    found: psycopg.Connection[Any] = connection
    return found


def import_psycopg() -> None:
    """Raises StateError where the library is not installed."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise StateError(
            "the store in PostgreSQL needs the extra 'postgres': pip install 'inhouse[postgres]'"
        ) from None


def _impatient() -> Any:
    """A connection that waits for `patience_s` at most; psycopg's own waits for ever."""
    import psycopg

    class Impatient(psycopg.Connection[Any]):
        patience_s = 10.0

        def wait(self, gen: Any, interval: float = _WAIT_S, *_: Any, **__: Any) -> Any:
            return super().wait(_bounded(gen, time.monotonic() + self.patience_s), interval=interval)

    return Impatient


def _bounded(waiting: Any, end_s: float) -> Generator[Any, Any, Any]:
    import psycopg

    try:
        wish = next(waiting)
        while True:
            ready = yield wish
            if not ready and time.monotonic() > end_s:
                raise psycopg.OperationalError("it does not answer in time")
            wish = waiting.send(ready)
    except StopIteration as end:
        return end.value
