"""Where the state of a stack is, and its stores opened: only here is known which of them lies where.

| | state folder | with `store.redis` | with `store.postgres` |
|---|---|---|---|
| limits | SQLite | Redis | PostgreSQL, unless there is Redis |
| use, keys, routes by hand | SQLite | SQLite | PostgreSQL |
| audit | files | files | PostgreSQL |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from inhouse.config import Stack, StoreSpec, state_folder
from inhouse.store.contract import KeyStore
from inhouse.store.ledger import Ledger
from inhouse.store.ledger_asked import AskedLedger
from inhouse.store.ledger_claimed import Book, ClaimedLedger
from inhouse.store.ledger_leased import LeasedLedger
from inhouse.store.ledger_sqlite import SqliteLedger
from inhouse.store.routes import RouteStore, SqliteRoutes
from inhouse.store.sqlite import SqliteStore


@dataclass(frozen=True, slots=True)
class Opened:
    """The ledger of a gateway. `checkpoint` is to be called about once a second, in a thread."""

    ledger: AskedLedger | LeasedLedger
    checkpoint: Callable[[], None] | None


@dataclass(frozen=True, slots=True)
class Stores:
    """Opens a store anew each time; whoever does closes it. Every method may raise StateError or StackError."""

    state_dir: Path
    store: StoreSpec = field(default_factory=StoreSpec)
    environ: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, stack: Stack, environ: Mapping[str, str]) -> Stores:
        return cls(state_folder(stack, environ), stack.store, environ)

    def keys(self) -> KeyStore:
        return SqliteStore(self.state_dir)

    def routes(self) -> RouteStore:
        return SqliteRoutes(self.state_dir)

    def ledger(self) -> Ledger:
        """For a command, or a look at it: asks each time."""
        return self._shared(self._book()) if self.store.redis.is_set else SqliteLedger(self.state_dir)

    def gateway_ledger(self) -> Opened:
        """For a gateway: requests are served out of leases."""
        if self.store.redis.is_set:
            book = self._book()
            checkpoint = book.checkpoint if isinstance(book, SqliteLedger) else None
            return Opened(AskedLedger(self._shared(book)), checkpoint)
        local = SqliteLedger(self.state_dir)
        return Opened(LeasedLedger(local), local.checkpoint)

    def _book(self) -> Book:
        return SqliteLedger(self.state_dir)

    def _shared(self, book: Book) -> ClaimedLedger:
        from inhouse.store.ledger_redis import RedisBank
        from inhouse.store.redis_link import link_of
        from inhouse.store.redis_scripts import RedisScripts

        spec, lease_s = self.store.redis, self.store.lease
        scripts = RedisScripts(link_of(spec, self.environ, "store.redis"))
        bank = RedisBank(scripts, prefix=spec.prefix, lease_s=lease_s)
        return ClaimedLedger(bank, book, lease_s=lease_s)
