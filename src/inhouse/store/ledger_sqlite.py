"""The ledger in the state file, beside the keys: exact between all processes of one machine, whichever of them dies.

Theory of operation. A reservation and its settlement are one short write transaction each (`BEGIN IMMEDIATE`: from its
first look to its last change nobody else writes). It reads the accounts of the scopes, decides with the same pure code
as every ledger, and writes them back with the reservation's row. So at every commit the accounts hold exactly what the
rows of open reservations say.

Owners. A reservation belongs to a process (`ledger_owner`). `sweep` charges in full what dead ones had reserved: nobody
knows what they used, and a quota must hold. The foreign key keeps a reservation from belonging to an owner whose estate
was settled.

Durability. `synchronous = NORMAL`: a killed process loses nothing. A power cut may lose what came after the last
checkpoint; `checkpoint()`, called in a thread about once a second, bounds that and keeps the write-ahead log from being
copied in the middle of a request.

Tables: ledger_accounts (scope → msgpack of `Account`), ledger_owners (id, name of the lock), ledger_reservations (owner
and number → scopes, period, amounts), usage (day, tenant, key, model → sums).
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from inhouse.errors import StateError
from inhouse.store import folder
from inhouse.store.ledger import Demand, LimitName, Now, Refusal, Reservation, UsageFilter, UsageRow, Use
from inhouse.store.ledger_account import Account
from inhouse.store.ledger_booking import give_back, refuse, take
from inhouse.store.ledger_owner import Estate, Owner, claim
from inhouse.store.sqlite import FILE_NAME, PAGE_BYTES, SqliteStore

_WAL_PAGES_MAX = 8192
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Account).decode

_PUT = "INSERT INTO ledger_accounts (scope, state) VALUES {} ON CONFLICT (scope) DO UPDATE SET state = excluded.state"
_GET = "SELECT scope, state FROM ledger_accounts WHERE scope IN ({})"
_ADD = """
    INSERT INTO usage (day, tenant, key_id, model, requests, prompt_tokens, cached_tokens, completion_tokens, money)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (day, tenant, key_id, model) DO UPDATE SET
        requests = requests + excluded.requests,
        prompt_tokens = prompt_tokens + excluded.prompt_tokens,
        cached_tokens = cached_tokens + excluded.cached_tokens,
        completion_tokens = completion_tokens + excluded.completion_tokens,
        money = money + excluded.money
"""


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
        self._connection = self._connect()
        self._file = self._identity()

    def reserve(self, demands: Sequence[Demand], tokens: int, money: int, now: Now) -> Reservation | Refusal:
        with self._lock, folder.telling_sqlite_errors(self._path):
            if self._owner is None:
                self._register()
            with _Transaction(self._connection) as transaction:
                accounts = self._accounts([demand.scope for demand in demands])
                pairs = [(accounts[demand.scope], demand) for demand in demands]
                refusal = refuse(pairs, tokens, money, now)
                if refusal is not None:
                    return refusal
                self._number += 1
                reservation = take(pairs, tokens, money, now, self._number)
                self._keep(accounts)
                self._connection.execute(
                    "INSERT INTO ledger_reservations VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        self._owner_id,
                        self._number,
                        json.dumps(reservation.scopes),
                        reservation.day,
                        reservation.month,
                        tokens,
                        money,
                    ),
                )
                transaction.commit()
                return reservation

    def settle(self, reservation: Reservation, tokens: int, money: int, now: Now) -> None:
        with (
            self._lock,
            folder.telling_sqlite_errors(self._path),
            _Transaction(self._connection) as transaction,
        ):
            gone = self._connection.execute(
                "DELETE FROM ledger_reservations WHERE owner = ? AND number = ?", (self._owner_id, reservation.number)
            )
            if gone.rowcount:
                self._give_back(reservation, tokens, money, now)
                transaction.commit()

    def sweep(self, now: Now) -> int:
        """Also takes the place among the owners at once, so that a start fails where nothing can be written."""
        with self._lock:
            with folder.telling_sqlite_errors(self._path):
                if self._identity() != self._file:
                    self._reopen()
                if self._owner is None:
                    self._register()
                others = self._connection.execute(
                    "SELECT id, name FROM ledger_owners WHERE id <> ?", (self._owner_id,)
                ).fetchall()
            return sum(self._settle_estate(owner_id, name, now) for owner_id, name in others)

    def live(self, scope: str, now: Now) -> dict[LimitName, Use]:
        with self._lock, folder.telling_sqlite_errors(self._path):
            account = self._accounts([scope])[scope]
        account.advance(now.steady_us)
        return account.live(now)

    def count(self, rows: Iterable[UsageRow]) -> None:
        values = [msgspec.structs.astuple(row) for row in rows]
        if not values:
            return
        with (
            self._lock,
            folder.telling_sqlite_errors(self._path),
            _Transaction(self._connection) as transaction,
        ):
            self._connection.executemany(_ADD, values)
            transaction.commit()

    def usage(self, wanted: UsageFilter) -> tuple[UsageRow, ...]:
        tests = {
            "day >= ?": wanted.since_day,
            "day <= ?": wanted.until_day,
            "tenant = ?": wanted.tenant,
            "key_id = ?": wanted.key_id,
            "model = ?": wanted.model,
        }
        given = {test: value for test, value in tests.items() if value is not None}
        where = " AND ".join(given) or "TRUE"
        with self._lock, folder.telling_sqlite_errors(self._path):
            rows = self._connection.execute(
                f"SELECT * FROM usage WHERE {where} ORDER BY day, tenant, key_id, model",  # noqa: S608
                tuple(given.values()),
            ).fetchall()
        return tuple(UsageRow(*row) for row in rows)

    def checkpoint(self) -> None:
        """Syncs the log and copies it into the file, beside the requests. It blocks on the disk: call it in a thread."""
        with (
            folder.telling_sqlite_errors(self._path),
            contextlib.closing(sqlite3.connect(self._path, timeout=0.0)) as connection,
        ):
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        with self._lock:
            if self._owner is not None:
                with contextlib.suppress(sqlite3.Error):  # a row that stays is taken away by the next sweep
                    self._connection.execute(
                        "DELETE FROM ledger_owners WHERE id = ? "
                        "AND NOT EXISTS (SELECT 1 FROM ledger_reservations WHERE owner = id)",
                        (self._owner_id,),
                    )
                self._owner.close()
                self._owner = None
            self._connection.close()

    def _accounts(self, scopes: Sequence[str]) -> dict[str, Account]:
        """Scopes without an account get an empty one, which is not kept yet."""
        found = self._connection.execute(_GET.format(", ".join("?" * len(scopes))), scopes).fetchall()
        try:
            known = {scope: _decode(state) for scope, state in found}
        except msgspec.DecodeError as error:
            raise StateError(
                f"an account of the ledger in {self._path} is damaged ({error}); restore the file from a backup"
            ) from error
        return {scope: known.get(scope) or Account() for scope in scopes}

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
        with _closing(estate), folder.telling_sqlite_errors(self._path), _Transaction(self._connection) as transaction:
            rows = self._connection.execute(
                "DELETE FROM ledger_reservations WHERE owner = ? RETURNING number, scopes, day, month, tokens, money",
                (owner_id,),
            ).fetchall()
            for number, scopes, day, month, tokens, money in rows:
                left = Reservation(
                    number=number, scopes=tuple(json.loads(scopes)), day=day, month=month, tokens=tokens, money=money
                )
                self._give_back(left, tokens, money, now)
            self._connection.execute("DELETE FROM ledger_owners WHERE id = ?", (owner_id,))
            transaction.commit()
            return len(rows)

    def _register(self) -> None:
        owner = Owner(self._state_dir)
        try:
            cursor = self._connection.execute("INSERT INTO ledger_owners (name) VALUES (?)", (owner.name,))
        except BaseException:
            owner.close()
            raise
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
                connection.execute("PRAGMA foreign_keys = ON")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES_MAX}")
                connection.execute(f"PRAGMA max_page_count = {self._pages_max}")
            except BaseException:
                connection.close()
                raise
        return connection

    def _reopen(self) -> None:
        """Another file was put in this one's place, by a restore: go on with that one, as another owner."""
        outdated, self._connection = self._connection, self._connect()
        outdated.close()
        self._file = self._identity()
        if self._owner is not None:
            self._owner.close()
            self._owner = None

    def _identity(self) -> tuple[int, int]:
        with folder.telling_os_errors(self._path):
            status = os.stat(self._path)
        return status.st_dev, status.st_ino


class _Transaction:
    """A write transaction that is rolled back unless `commit` is called. A class: half the cost of a generator."""

    __slots__ = ("_connection",)

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> _Transaction:
        self._connection.execute("BEGIN IMMEDIATE")
        return self

    def commit(self) -> None:
        self._connection.execute("COMMIT")

    def __exit__(self, *_: object) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


@contextlib.contextmanager
def _closing(estate: Estate) -> Iterator[None]:
    settled = False
    try:
        yield
        settled = True
    finally:
        estate.close(settled=settled)
