"""The ledger in the state file, beside the keys: exact between all processes of one machine, whichever of them dies.

Theory of operation. A reservation and its settlement are one short write transaction each (`BEGIN IMMEDIATE`: from its
first look to its last change nobody else writes). It takes the accounts of the scopes, decides with the same pure code
as every ledger, and writes them back with the reservation's row. So at every commit the accounts hold exactly what the
rows of open reservations say. Accounts are remembered while SQLite's `data_version` says that no other connection has
written; one that fails to be written is forgotten.

Owners. A reservation belongs to a process (`ledger_owner`). `sweep` charges in full what dead ones had reserved: nobody
knows what they used, and a quota must hold.

Durability. `synchronous = NORMAL`: a killed process loses nothing. A power cut may lose what came after the last
checkpoint; `checkpoint()`, called in a thread about once a second, bounds that and keeps the write-ahead log from being
copied in the middle of a request.

Tables: ledger_accounts (scope → msgpack of `Account`), ledger_owners (id, name of the lock), ledger_reservations (id:
that of the owner times 2³² plus a number of its own → msgpack of the scopes, day, amounts), usage (day, tenant,
key, model → sums).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from inhouse.errors import StateError
from inhouse.store import folder, usage_sql
from inhouse.store.ledger import (
    NONE,
    Amounts,
    Demand,
    LimitName,
    Now,
    Refusal,
    Renewal,
    Renewed,
    Reservation,
    UsageFilter,
    UsageRow,
    Use,
)
from inhouse.store.ledger_account import Account
from inhouse.store.ledger_booking import (
    Pairs,
    advance,
    charge_lost,
    give_back,
    one_request,
    refuse,
    renew,
    renewed,
    take,
)
from inhouse.store.ledger_owner import Estate, Owner, claim
from inhouse.store.sqlite import FILE_NAME, PAGE_BYTES, SqliteStore

_T = TypeVar("_T")

_WAL_PAGES_MAX = 8192
_ACCOUNTS_REMEMBERED_MAX = 10_000
_OWN = 1 << 32
_PAUSE_S, _PAUSE_S_MAX = 20e-6, 1e-3
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Account).decode
_decode_scopes = msgspec.msgpack.Decoder(tuple[str, ...]).decode

_PUT = "INSERT INTO ledger_accounts (scope, state) VALUES {} ON CONFLICT (scope) DO UPDATE SET state = excluded.state"


class SqliteLedger:
    """A `Ledger` for all processes that share a state folder. Making one creates or migrates the file.

    `busy_s` bounds how long a transaction waits for another process's; `bytes_max` how large the file may grow.
    """

    def __init__(self, state_dir: Path, *, busy_s: float = 1.0, bytes_max: int = 1 << 40) -> None:
        self._state_dir = state_dir
        self._path = state_dir / FILE_NAME
        self._busy_s = busy_s
        self._pages_max = max(1, bytes_max // PAGE_BYTES)
        self._lock = threading.RLock()
        self._owner: Owner | None = None
        self._owner_id = 0
        self._number = 0
        self._remembered: dict[str, Account] = {}
        self._version = -1
        self._connection = self._connect()
        self._file = self._identity()

    def reserve(self, demands: Sequence[Demand], tokens: int, money: int, now: Now) -> Reservation | Refusal:
        with self._lock, folder.telling_sqlite_errors(self._path):
            if self._owner is None:
                self._register()
            with _Transaction(self) as transaction:
                accounts = self._accounts([demand.scope for demand in demands])
                pairs = [(accounts[demand.scope], demand) for demand in demands]
                mended = advance(pairs, now)
                refusal = refuse(pairs, one_request(tokens, money), now)
                if refusal is not None:
                    if mended:
                        self._keep(accounts)
                        transaction.commit()
                    return refusal
                self._number += 1
                reservation = take(pairs, tokens, money, now, self._owner_id * _OWN + self._number)
                self._keep(accounts)
                self._connection.execute(
                    "INSERT INTO ledger_reservations VALUES (?, ?, ?, ?, ?, 0, 1)",
                    (reservation.number, _encode(reservation.scopes), reservation.day, tokens, money),
                )
                transaction.commit()
                return reservation

    def settle(self, reservation: Reservation, tokens: int, money: int, now: Now) -> None:
        with self._lock, folder.telling_sqlite_errors(self._path), _Transaction(self) as transaction:
            gone = self._connection.execute("DELETE FROM ledger_reservations WHERE id = ?", (reservation.number,))
            if gone.rowcount:
                self._give_back(reservation, tokens, money, now)
                transaction.commit()

    def renew(self, renewals: Sequence[Renewal], now: Now) -> list[Renewed | Refusal]:
        with self._lock, folder.telling_sqlite_errors(self._path):
            if self._owner is None:
                self._register()
            with _Transaction(self) as transaction:
                answers = [self._renew(renewal, now) for renewal in renewals]
                transaction.commit()
            return answers

    def _renew(self, renewal: Renewal, now: Now) -> Renewed | Refusal:
        accounts = self._accounts([demand.scope for demand in renewal.demands])
        pairs: Pairs = [(accounts[demand.scope], demand) for demand in renewal.demands]
        advance(pairs, now)
        if renewal.number and not self._is_known(renewal.number):
            charge_lost(pairs, renewal)
            self._keep(accounts)
            return renewed(pairs, 0, NONE, now)
        granted, refusal = renew(pairs, renewal, now)
        number = self._write_lease(renewal, renewal.held - renewal.spent - renewal.freed + granted)
        self._keep(accounts)
        return refusal or renewed(pairs, number, granted, now)

    def _is_known(self, number: int) -> bool:
        found = self._connection.execute("SELECT 1 FROM ledger_reservations WHERE id = ?", (number,)).fetchone()
        return found is not None

    def _write_lease(self, renewal: Renewal, held: Amounts) -> int:
        """The row of what the lease holds from now on; its number, 0 where there is none."""
        number = renewal.number
        if held == NONE:
            if number:
                self._connection.execute("DELETE FROM ledger_reservations WHERE id = ?", (number,))
            return 0
        if not number:
            self._number += 1
            number = self._owner_id * _OWN + self._number
        scopes = _encode([demand.scope for demand in renewal.demands])
        self._connection.execute(
            "REPLACE INTO ledger_reservations VALUES (?, ?, ?, ?, ?, ?, ?)",
            (number, scopes, renewal.day, held.tokens, held.money, held.requests, held.open),
        )
        return number

    def sweep(self, now: Now) -> int:
        """Also takes the place among the owners at once, so that a start fails where nothing can be written."""
        with self._lock:
            with folder.telling_sqlite_errors(self._path):
                if self._identity() != self._file:
                    self._reopen()
                if self._owner is None:
                    self._register()
                owners = dict(self._rows("SELECT id, name FROM ledger_owners", ()))
                if owners.pop(self._owner_id, None) is None:  # somebody took the lock's file away
                    self._register(self._owner_id)
            return sum(self._settle_estate(owner_id, name, now) for owner_id, name in owners.items())

    def live(self, scope: str, now: Now) -> dict[LimitName, Use]:
        with self._lock, folder.telling_sqlite_errors(self._path):
            account = self._patiently(lambda: self._accounts([scope])[scope])
        account.advance(now.steady_us)
        return account.live(now)

    def count(self, rows: Iterable[UsageRow]) -> None:
        values = [msgspec.structs.astuple(row) for row in rows]
        if not values:
            return
        with (
            self._lock,
            folder.telling_sqlite_errors(self._path),
            _Transaction(self) as transaction,
        ):
            self._connection.executemany(usage_sql.ADD, values)
            transaction.commit()

    def usage(self, wanted: UsageFilter) -> tuple[UsageRow, ...]:
        query, values = usage_sql.select(wanted)
        with self._lock, folder.telling_sqlite_errors(self._path):
            rows = self._rows(query, values)
        return tuple(UsageRow(*row) for row in rows)

    def checkpoint(self) -> None:
        """Syncs the log and copies it into the file, beside the requests. Waits for the disk: call it in a thread."""
        with (
            folder.telling_sqlite_errors(self._path),
            contextlib.closing(sqlite3.connect(self._path, timeout=0.0)) as connection,
        ):
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        with self._lock:
            if self._owner is not None:
                # a row that stays is taken away by the next sweep
                with contextlib.suppress(sqlite3.Error), _Transaction(self) as transaction:
                    self._connection.execute(
                        "DELETE FROM ledger_owners WHERE id = ?1 AND NOT EXISTS "
                        "(SELECT 1 FROM ledger_reservations WHERE id BETWEEN ?1 * ?2 AND (?1 + 1) * ?2 - 1)",
                        (self._owner_id, _OWN),
                    )
                    transaction.commit()
                self._owner.close()
                self._owner = None
            self._connection.close()

    def _accounts(self, scopes: Sequence[str]) -> dict[str, Account]:
        """Scopes without an account get an empty one."""
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version != self._version or len(self._remembered) > _ACCOUNTS_REMEMBERED_MAX:
            self._remembered.clear()
            self._version = version
        for scope in scopes:
            if scope not in self._remembered:
                self._remembered[scope] = self._read(scope)
        return {scope: self._remembered[scope] for scope in scopes}

    def _read(self, scope: str) -> Account:
        row = self._connection.execute("SELECT state FROM ledger_accounts WHERE scope = ?", (scope,)).fetchone()
        try:
            return Account() if row is None else _decode(row[0])
        except msgspec.DecodeError as error:
            raise StateError(
                f"the account of '{scope}' in {self._path} is damaged ({error}); restore the file from a backup"
            ) from error

    def _keep(self, accounts: dict[str, Account]) -> None:
        row = [part for scope, account in accounts.items() for part in (scope, _encode(account))]
        self._connection.execute(_PUT.format(", ".join(["(?, ?)"] * len(accounts))), row)

    def _give_back(self, reservation: Reservation, tokens: int, money: int, now: Now) -> None:
        accounts = self._accounts(reservation.scopes)
        give_back(accounts.values(), reservation, tokens, money, now)
        self._keep(accounts)

    def _settle_estate(self, owner_id: int, name: str, now: Now) -> int:
        estate = claim(self._state_dir, name)
        if estate is None:
            return 0
        with _closing(estate), folder.telling_sqlite_errors(self._path), _Transaction(self) as transaction:
            rows = self._connection.execute(
                "DELETE FROM ledger_reservations WHERE id BETWEEN ? AND ? "
                "RETURNING scopes, day, tokens, money, requests, open",
                (owner_id * _OWN, (owner_id + 1) * _OWN - 1),
            ).fetchall()
            for scopes, day, tokens, money, requests, places in rows:
                accounts = self._accounts(_decode_scopes(scopes))
                for account in accounts.values():
                    spent = Amounts(requests=requests, tokens=tokens, money=money)
                    account.settle(spent, Amounts(open=places), day, now.steady_us)
                self._keep(accounts)
            self._connection.execute("DELETE FROM ledger_owners WHERE id = ?", (owner_id,))
            transaction.commit()
            return len(rows)

    def _rows(self, query: str, values: Sequence[object]) -> list[Any]:
        return self._patiently(lambda: self._connection.execute(query, values).fetchall())

    def _patiently(self, work: Callable[[], _T]) -> _T:
        """Until no other process is in the way. SQLite itself waits for milliseconds where others need microseconds."""
        pause_s, waited_s = _PAUSE_S, 0.0
        while True:
            try:
                return work()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or waited_s >= self._busy_s:
                    raise
            time.sleep(pause_s)
            waited_s += pause_s
            pause_s = min(2 * pause_s, _PAUSE_S_MAX)

    def _register(self, known_id: int | None = None) -> None:
        owner = Owner(self._state_dir)
        try:
            with _Transaction(self) as transaction:
                cursor = self._connection.execute(
                    "INSERT INTO ledger_owners (id, name) VALUES (?, ?)", (known_id, owner.name)
                )
                transaction.commit()
        except BaseException:
            owner.close()
            raise
        if self._owner is not None:
            self._owner.close()
        self._owner, self._owner_id = owner, int(cursor.lastrowid or 0)

    def _connect(self) -> sqlite3.Connection:
        SqliteStore(self._state_dir).close()  # makes and migrates the file
        with folder.telling_sqlite_errors(self._path):
            connection = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=rw",
                uri=True,
                timeout=self._busy_s,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                connection.execute("PRAGMA trusted_schema = OFF")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES_MAX}")
                connection.execute(f"PRAGMA max_page_count = {self._pages_max}")
                connection.execute("PRAGMA busy_timeout = 0")
            except BaseException:
                connection.close()
                raise
        return connection

    def _reopen(self) -> None:
        """Another file was put in this one's place, by a restore: go on with that one, as another owner."""
        outdated, self._connection = self._connection, self._connect()
        outdated.close()
        self._remembered.clear()
        self._file = self._identity()
        if self._owner is not None:
            self._owner.close()
            self._owner = None

    def _identity(self) -> tuple[int, int]:
        with folder.telling_os_errors(self._path):
            status = os.stat(self._path)
        return status.st_dev, status.st_ino


class _Transaction:
    """A write transaction that is rolled back, and forgotten, unless it is committed. Half the cost of a generator."""

    __slots__ = ("_ledger",)

    def __init__(self, ledger: SqliteLedger) -> None:
        self._ledger = ledger

    def __enter__(self) -> _Transaction:
        self._ledger._patiently(self._begin)
        return self

    def _begin(self) -> None:
        self._ledger._connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self._ledger._connection.execute("COMMIT")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._ledger._remembered.clear()
        if self._ledger._connection.in_transaction:
            self._ledger._connection.execute("ROLLBACK")


@contextlib.contextmanager
def _closing(estate: Estate) -> Iterator[None]:
    settled = False
    try:
        yield
        settled = True
    finally:
        estate.close(settled=settled)
