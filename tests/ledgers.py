"""Every ledger there is, for the suites that hold of all of them. A new one is a line in `LEDGERS`."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg

from inhouse.config import RedisSpec
from inhouse.store.ledger import Ledger
from inhouse.store.ledger_asked import AskedLedger
from inhouse.store.ledger_claimed import ClaimedLedger
from inhouse.store.ledger_leased import LeasedLedger
from inhouse.store.ledger_memory import MemoryLedger
from inhouse.store.ledger_postgres import PostgresBank
from inhouse.store.ledger_redis import RedisBank
from inhouse.store.ledger_sqlite import SqliteLedger
from inhouse.store.postgres_link import PostgresAddress, PostgresLink
from inhouse.store.postgres_usage import PostgresBook
from inhouse.store.redis_link import link_of
from inhouse.store.redis_scripts import RedisScripts
from services import Service

LEASE_S = 1e6
"""Far longer than any test turns its clock."""
Fixture = Callable[[str], Any]


def redis_ledger(
    service: Service, *, prefix: str = "", lease_s: float = LEASE_S, server_clock: bool = False
) -> ClaimedLedger:
    """Use is counted in memory. Without a `prefix` it shares with nobody."""
    scripts = RedisScripts(link_of(RedisSpec(url=service.url, timeout=5.0), {}, "store.redis"))
    prefix = prefix or secrets.token_hex(6)
    return ClaimedLedger(
        RedisBank(scripts, prefix=prefix, lease_s=lease_s, server_clock=server_clock), MemoryLedger(), lease_s=lease_s
    )


def fresh_postgres(service: Service) -> PostgresAddress:
    """A schema of its own."""
    schema = f"t{secrets.token_hex(6)}"
    with psycopg.connect(service.url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
    return PostgresAddress(f"{service.url}?options=-csearch_path%3D{schema}", timeout_s=10.0)


def postgres_ledger(address: PostgresAddress, *, lease_s: float = LEASE_S, server_clock: bool = False) -> ClaimedLedger:
    bank = PostgresBank(PostgresLink(address), lease_s=lease_s, server_clock=server_clock)
    return ClaimedLedger(bank, PostgresBook(PostgresLink(address)), lease_s=lease_s)


LEDGERS: dict[str, Callable[[Path, Fixture], Ledger]] = {
    "memory": lambda folder, fixture: MemoryLedger(),
    "sqlite": lambda folder, fixture: SqliteLedger(folder),
    "leased sqlite": lambda folder, fixture: LeasedLedger(SqliteLedger(folder)),
    "redis": lambda folder, fixture: redis_ledger(fixture("redis")),
    "leased redis": lambda folder, fixture: LeasedLedger(redis_ledger(fixture("redis"))),
    "postgres": lambda folder, fixture: postgres_ledger(fresh_postgres(fixture("postgres"))),
    "leased postgres": lambda folder, fixture: LeasedLedger(postgres_ledger(fresh_postgres(fixture("postgres")))),
    "asked redis": lambda folder, fixture: AskedLedger(redis_ledger(fixture("redis"))),
}


@contextlib.contextmanager
def opened(name: str, folder: Path, fixture: Fixture) -> Iterator[Ledger]:
    with contextlib.closing(LEDGERS[name](folder, fixture)) as made:
        yield made
