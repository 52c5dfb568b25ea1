"""The accounts of limits in PostgreSQL: one transaction for all claims of a round, exact between all gateways.

The rules are the pure ones of `ledger_claim`. A transaction locks the rows of all accounts that it touches, in the
order of their names: nobody else decides by them meanwhile, and no two wait for each other. Windows and days follow the
server's clock.

Tables: inhouse_accounts (scope → msgpack of `Account`), inhouse_leases (scope, id → msgpack of the lease's `Record`,
and the microsecond at which it is seen to: charged where nobody renewed it, forgotten where it holds nothing).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from inhouse.errors import StateError
from inhouse.store.ledger import NONE, Demand, Limits, Now
from inhouse.store.ledger_account import Account
from inhouse.store.ledger_booking import rates
from inhouse.store.ledger_claim import Claim, Record, charge, claim, is_of_day
from inhouse.store.ledger_claimed import Outcome
from inhouse.store.postgres_link import PostgresLink

if TYPE_CHECKING:
    import psycopg

_encode = msgspec.msgpack.Encoder().encode
_account = msgspec.msgpack.Decoder(Account).decode
_record = msgspec.msgpack.Decoder(Record).decode
_RECLAIMED_MAX = 256
_Places = dict[tuple[str, str], Record]


class PostgresBank:
    """A `Bank`. `keep_s` and `server_clock` as of `RedisBank`. It closes `link`."""

    def __init__(
        self, link: PostgresLink, *, lease_s: float, keep_s: float = 3600.0, server_clock: bool = True
    ) -> None:
        self.ahead_us = 0
        self.reclaimed = 0
        self._link = link
        self._lease_us, self._keep_us = round(lease_s * 1e6), round(keep_s * 1e6)
        self._server_clock = server_clock

    def claim(self, asked: Sequence[tuple[tuple[Demand, ...], Claim]], now: Now) -> list[Outcome]:
        scopes = sorted({demand.scope for demands, _ in asked for demand in demands})
        with self._link.transaction() as connection:
            accounts = self._locked(connection, scopes)
            at = self._now(connection, now)
            known = self._records(connection, scopes, [one.id for _, one in asked])
            changed = self._reclaim(connection, accounts, {one.id for _, one in asked}, at)
            outcomes = [self._claim(accounts, known, demands, one, now, at) for demands, one in asked]
            until_us = at.steady_us + self._lease_us
            leases = [(*place, until_us, _encode(known[place])) for place in known]
            self._write(connection, accounts, leases + changed)
        return outcomes

    def look(self, scope: str, now: Now) -> tuple[Account, Now]:
        with self._link.transaction() as connection:
            accounts = self._locked(connection, [scope])
            at = self._now(connection, now)
            changed = self._reclaim(connection, accounts, set(), at)
            if changed:
                self._write(connection, accounts, changed)
        return accounts[scope], at

    def ping(self) -> None:
        with self._link.connection() as connection:
            connection.execute("SELECT 1")

    def close(self) -> None:
        self._link.close()

    def _claim(
        self,
        accounts: dict[str, Account],
        known: _Places,
        demands: tuple[Demand, ...],
        one: Claim,
        now: Now,
        at: Now,
    ) -> Outcome:
        places = [(demand.scope, one.id) for demand in demands]
        records = [known.get(place) or Record(0, one.day) for place in places]
        if any(record.seq >= one.seq for record in records):
            raise StateError("a claim came to PostgreSQL after a newer one; it is told again")
        if self._server_clock:
            one = msgspec.structs.replace(one, spent_us=at.steady_us - (now.steady_us - one.spent_us))
            if (one.need != NONE or one.want != NONE) and not is_of_day(one.day, at):
                raise StateError("the clock of this machine is on another day (UTC) than PostgreSQL's; set it right")
        pairs = [(accounts[demand.scope], demand) for demand in demands]
        granted, refusal = claim(pairs, records, one, at)
        known.update(zip(places, records, strict=True))
        return Outcome(granted, refusal, *rates(pairs, at))

    def _locked(self, connection: psycopg.Connection[Any], scopes: list[str]) -> dict[str, Account]:
        query = "SELECT scope, state FROM inhouse_accounts WHERE scope = ANY(%s) ORDER BY scope FOR UPDATE"
        rows = connection.execute(query, (scopes,)).fetchall()
        if len(rows) < len(scopes):
            connection.execute(
                "INSERT INTO inhouse_accounts SELECT scope, %s FROM unnest(%s::text[]) AS scope ORDER BY scope "
                "ON CONFLICT DO NOTHING",
                (_encode(Account()), scopes),
            )
            rows = connection.execute(query, (scopes,)).fetchall()
        return {scope: _account(state) for scope, state in rows}

    def _now(self, connection: psycopg.Connection[Any], now: Now) -> Now:
        """After the locks: time goes on while one waits for them."""
        if not self._server_clock:
            return now
        begun_us = time.time_ns() // 1000
        row = connection.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").fetchone()
        at_us = int(row[0]) if row else begun_us
        self.ahead_us = at_us - (begun_us + time.time_ns() // 1000) // 2
        return Now(at_us, at_us)

    @staticmethod
    def _records(connection: psycopg.Connection[Any], scopes: list[str], ids: list[str]) -> _Places:
        rows = connection.execute(
            "SELECT scope, id, record FROM inhouse_leases WHERE scope = ANY(%s) AND id = ANY(%s)", (scopes, ids)
        ).fetchall()
        return {(scope, lease): _record(record) for scope, lease, record in rows}

    def _reclaim(
        self, connection: psycopg.Connection[Any], accounts: dict[str, Account], own: set[str], at: Now
    ) -> list[tuple[str, str, int, bytes]]:
        """Charges the leases of these accounts that ran out; their rows as they are then. Settled ones are deleted."""
        rows = connection.execute(
            "DELETE FROM inhouse_leases WHERE (scope, id) IN (SELECT scope, id FROM inhouse_leases "
            "WHERE scope = ANY(%s) AND until_us <= %s AND NOT id = ANY(%s) LIMIT %s) RETURNING scope, id, record",
            (list(accounts), at.steady_us, list(own), _RECLAIMED_MAX),
        ).fetchall()
        charged = []
        for scope, lease, raw in rows:
            record, account = _record(raw), accounts[scope]
            account.advance(at.steady_us)
            if charge([(account, Demand(scope, Limits()))], record, at):
                charged.append((scope, lease, at.steady_us + self._keep_us, _encode(record)))
        self.reclaimed += len(charged)
        return charged

    @staticmethod
    def _write(
        connection: psycopg.Connection[Any],
        accounts: dict[str, Account],
        leases: list[tuple[str, str, int, bytes]],
    ) -> None:
        with connection.cursor() as cursor:
            cursor.executemany(
                "UPDATE inhouse_accounts SET state = %s WHERE scope = %s",
                [(_encode(account), scope) for scope, account in accounts.items()],
            )
            cursor.executemany(
                "INSERT INTO inhouse_leases VALUES (%s, %s, %s, %s) "
                "ON CONFLICT (scope, id) DO UPDATE SET until_us = excluded.until_us, record = excluded.record",
                leases,
            )
