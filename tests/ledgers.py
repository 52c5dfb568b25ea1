"""Every ledger there is, for the suites that hold of all of them. A new one is a line in `LEDGERS`."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import redis

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
from services import Service, free_port, redis_server


@dataclass(frozen=True)
class Cluster:
    url: str


@contextlib.contextmanager
def redis_cluster(folder: Path, nodes: int = 3) -> Iterator[Cluster]:
    """Masters that share the slots, each on a port of its own."""
    with contextlib.ExitStack() as exits:
        servers = []
        for number in range(nodes):
            own = folder / f"node-{number}"
            own.mkdir()
            options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--cluster-node-timeout", "5000")
            servers.append(exits.enter_context(redis_server(own, *options)))
        clients = [exits.enter_context(redis.Redis.from_url(server.url)) for server in servers]
        ends = [16384 * number // nodes for number in range(nodes + 1)]
        for number, client in enumerate(clients):
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", ends[number], ends[number + 1] - 1)
            client.execute_command("CONFIG", "SET", "cluster-allow-reads-when-down", "no")
        first = clients[0]
        for server, client in list(zip(servers, clients, strict=True))[1:]:
            bus = client.execute_command("CONFIG", "GET", "cluster-port")
            told = bus[b"cluster-port"] if isinstance(bus, dict) else bus[1]
            first.execute_command("CLUSTER", "MEET", "127.0.0.1", server.port, int(told))
        end_s = time.monotonic() + 30
        for client in clients:
            while b"cluster_state:ok" not in _info(client) or b"cluster_known_nodes:%d" % nodes not in _info(client):
                assert time.monotonic() < end_s, "the nodes did not meet"
                time.sleep(0.05)
        yield Cluster(f"redis+cluster://127.0.0.1:{servers[0].port}")


def _info(client: Any) -> bytes:
    told = client.execute_command("CLUSTER", "INFO")
    return told if isinstance(told, bytes) else b"\r\n".join(b"%b:%b" % pair for pair in told.items())


LEASE_S = 1e6
"""Far longer than any test turns its clock."""
Fixture = Callable[[str], Any]


def redis_ledger(
    service: Service | Cluster, *, prefix: str = "", lease_s: float = LEASE_S, server_clock: bool = False
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
    "redis cluster": lambda folder, fixture: redis_ledger(fixture("redis_cluster")),
    "leased redis cluster": lambda folder, fixture: LeasedLedger(redis_ledger(fixture("redis_cluster"))),
    "postgres": lambda folder, fixture: postgres_ledger(fresh_postgres(fixture("postgres"))),
    "leased postgres": lambda folder, fixture: LeasedLedger(postgres_ledger(fresh_postgres(fixture("postgres")))),
    "valkey": lambda folder, fixture: redis_ledger(fixture("valkey")),
    "asked redis": lambda folder, fixture: AskedLedger(redis_ledger(fixture("redis"))),
}


@contextlib.contextmanager
def opened(name: str, folder: Path, fixture: Fixture) -> Iterator[Ledger]:
    with contextlib.closing(LEDGERS[name](folder, fixture)) as made:
        yield made
