"""Where the state of a stack is, and its stores opened: only here is known which of them lies where.

| | alone | with `store.redis` | with `store.postgres` | with both |
|---|---|---|---|---|
| limits | state folder | Redis | PostgreSQL | Redis |
| answers kept for later | memory | Redis | memory | Redis |
| keys, use, routes by hand | state folder | state folder | PostgreSQL | PostgreSQL |
| audit | files of the state folder | the same | PostgreSQL | PostgreSQL |
| files, batches | state folder, or a bucket | the same | PostgreSQL and a bucket, or a shared folder | the same |
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from inhouse.config import AuditSpec, Stack, StoreSpec, state_folder
from inhouse.config.batches import BatchesSpec
from inhouse.config.secrets import read_secret
from inhouse.store.audit_files import AuditFiles
from inhouse.store.audit_log import AuditLog, AuditOfFolder, AuditSink
from inhouse.store.batches import Batches
from inhouse.store.batches_sqlite import SqliteConnection
from inhouse.store.blobs import Blobs, DiskBlobs
from inhouse.store.contract import KeyStore
from inhouse.store.ledger import Ledger
from inhouse.store.ledger_asked import AskedLedger
from inhouse.store.ledger_claimed import Bank, Book, ClaimedLedger
from inhouse.store.ledger_leased import LeasedLedger
from inhouse.store.ledger_sqlite import SqliteLedger
from inhouse.store.routes import RouteStore, SqliteRoutes
from inhouse.store.sqlite import SqliteStore
from inhouse.store.usage_buffer import BufferedBook

if TYPE_CHECKING:
    from inhouse.store.hints import Hints
    from inhouse.store.known import Known
    from inhouse.store.postgres_link import PostgresAddress, PostgresLink
    from inhouse.store.redis_link import Link
    from inhouse.store.redis_scripts import RedisScripts


@dataclass(frozen=True, slots=True)
class Opened:
    """The stores of a gateway. `checkpoint` is to be called about once a second, in a thread."""

    keys: KeyStore
    routes: RouteStore
    ledger: AskedLedger | LeasedLedger
    checkpoint: Callable[[], None] | None = None
    known: Known | None = None
    book: BufferedBook | None = None

    def troubles(self) -> dict[str, str]:
        """What is away and why, by what suffers from it; what is local is told where it fails."""
        found = {}
        if isinstance(self.ledger, AskedLedger):
            found["quotas"] = self.ledger.trouble
        if self.known is not None:
            found["keys"] = self.known.trouble
        if self.book is not None:
            found["usage"] = self.book.trouble
        return found

    def close(self) -> None:
        with contextlib.ExitStack() as exits:
            if self.known is not None:
                exits.callback(self.known.close)
            exits.callback(self.keys.close)
            exits.callback(self.routes.close)
            exits.callback(self.ledger.close)


@dataclass(frozen=True, slots=True)
class Stores:
    """Opens a store anew each time; whoever does closes it. Every method may raise StateError or StackError."""

    state_dir: Path
    store: StoreSpec = field(default_factory=StoreSpec)
    environ: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, stack: Stack, environ: Mapping[str, str]) -> Stores:
        return cls(state_folder(stack, environ), stack.store, environ)

    @property
    def where(self) -> str:
        """Where keys are, for people."""
        return self.postgres_address().shown if self.store.postgres.is_set else str(self.state_dir)

    @property
    def audit_where(self) -> str:
        return self.where if self.store.postgres.is_set else str(self.state_dir / "audit")

    def keys(self) -> KeyStore:
        if self.store.postgres.is_set:
            from inhouse.store.postgres_keys import PostgresKeys

            return PostgresKeys(self._postgres())
        return SqliteStore(self.state_dir)

    def batches(self) -> Batches:
        if self.store.postgres.is_set:
            from inhouse.store.batches_postgres import PostgresConnection

            return Batches(PostgresConnection(self._postgres()))
        return Batches(SqliteConnection(self.state_dir))

    def blobs(self, spec: BatchesSpec) -> Blobs:
        if spec.s3_bucket is not None:
            from inhouse.store.blobs_s3 import S3Blobs

            return S3Blobs(spec)
        return DiskBlobs(spec.folder or self.state_dir / "files")

    def ledger(self) -> Ledger:
        """For a command, or a look at it: asks each time."""
        bank = self._bank()
        return SqliteLedger(self.state_dir) if bank is None else self._claimed(bank, self._book())

    def audit_sink(self, spec: AuditSpec) -> AuditSink:
        if self.store.postgres.is_set:
            from inhouse.store.postgres_audit import PostgresAudit

            return PostgresAudit(self._postgres(), keep_s=spec.keep)
        return AuditFiles(self.state_dir, segment_bytes_max=spec.segment_bytes_max, keep_s=spec.keep)

    def audit_log(self) -> AuditLog:
        if self.store.postgres.is_set:
            from inhouse.store.postgres_audit import PostgresAudit

            return PostgresAudit(self._postgres())
        return AuditOfFolder(self.state_dir)

    def gateway(self) -> Opened:
        """For a gateway: requests are served out of leases, and nothing that they need waits for a network."""
        with contextlib.ExitStack() as exits:
            known: Known | None = None
            keys: KeyStore
            routes: RouteStore
            if self.store.postgres.is_set:
                from inhouse.store.known import Known

                known = Known(self.postgres_address(), stale_s=self.store.away.known_keys)
                exits.callback(known.close)
                keys, routes = known.keys, known.routes
            else:
                keys = SqliteStore(self.state_dir)
                exits.callback(keys.close)
                routes = SqliteRoutes(self.state_dir)
                exits.callback(routes.close)
            bank = self._bank()
            if bank is None:
                local = SqliteLedger(self.state_dir)
                opened = Opened(keys, routes, LeasedLedger(local), local.checkpoint)
            else:
                book = self._book()
                checkpoint = book.checkpoint if isinstance(book, SqliteLedger) else None
                buffered = None
                if known is not None:
                    book = buffered = BufferedBook(book, rows_max=self.store.away.usage_rows_max)
                asked = AskedLedger(self._claimed(bank, book))
                opened = Opened(keys, routes, asked, checkpoint, known, buffered)
            exits.pop_all()
            return opened

    def postgres_address(self) -> PostgresAddress:
        """With its secrets."""
        from inhouse.store.postgres_link import PostgresAddress

        spec, where = self.store.postgres, "store.postgres"
        url = spec.url or ""
        if url.startswith(("env:", "file:")):
            url = read_secret(url, self.environ, f"{where}.url")
        password = None if spec.password is None else read_secret(spec.password, self.environ, f"{where}.password")
        return PostgresAddress(url, password, spec.ca_file, spec.timeout)

    def redis_link(self) -> Link:
        from inhouse.store.redis_link import link_of

        return link_of(self.store.redis, self.environ, "store.redis")

    def redis_scripts(self) -> RedisScripts:
        from inhouse.store.redis_scripts import RedisScripts

        return RedisScripts(self.redis_link())

    def hints(self) -> Hints | None:
        """None where gateways have nothing through which to tell each other."""
        if not self.store.redis.is_set:
            return None
        from inhouse.store.hints import Hints

        return Hints(self.redis_scripts(), prefix=self.store.redis.prefix)

    def _postgres(self) -> PostgresLink:
        from inhouse.store.postgres_link import PostgresLink

        return PostgresLink(self.postgres_address())

    def _bank(self) -> Bank | None:
        """None: limits are kept in the state folder."""
        if self.store.redis.is_set:
            from inhouse.store.ledger_redis import RedisBank

            return RedisBank(self.redis_scripts(), prefix=self.store.redis.prefix, lease_s=self.store.lease)
        if self.store.postgres.is_set:
            from inhouse.store.ledger_postgres import PostgresBank

            return PostgresBank(self._postgres(), lease_s=self.store.lease)
        return None

    def _book(self) -> Book:
        if self.store.postgres.is_set:
            from inhouse.store.postgres_usage import PostgresBook

            return PostgresBook(self._postgres())
        return SqliteLedger(self.state_dir)

    def _claimed(self, bank: Bank, book: Book) -> ClaimedLedger:
        return ClaimedLedger(bank, book, lease_s=self.store.lease)
