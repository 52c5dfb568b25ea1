"""PostgreSQL as a store: made once by however many start, told twice without counting twice, away and back."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from inhouse.errors import StateError
from inhouse.store import postgres_schema
from inhouse.store.audit_chain import Head
from inhouse.store.audit_files import DAY_S
from inhouse.store.contract import Key
from inhouse.store.known import Known
from inhouse.store.ledger import UsageFilter, UsageRow
from inhouse.store.postgres_audit import PostgresAudit
from inhouse.store.postgres_keys import PostgresKeys
from inhouse.store.postgres_link import PostgresAddress, PostgresLink
from inhouse.store.postgres_schema import KNOWN_VERSION, version_of
from inhouse.store.postgres_usage import PostgresBook
from inhouse.store.usage_buffer import SUMMED_UP, BufferedBook
from ledgers import fresh_postgres
from services import Service, postgres_server

ROW = UsageRow(20_000, "acme", "k", "chat", 1, 10, 4, 5, 7)


@pytest.fixture
def address(postgres: Service) -> PostgresAddress:
    return fresh_postgres(postgres)


@pytest.fixture
def link(address: PostgresAddress) -> Iterator[PostgresLink]:
    with contextlib.closing(PostgresLink(address)) as made:
        yield made


def key(key_id: str) -> Key:
    return Key(key_id, bytes(32), "", "acme", frozenset(), 1.0)


def test_many_that_start_at_once_make_the_schema_once(address: PostgresAddress) -> None:
    """All of them can use it, and it is at the known version."""

    def start(number: int) -> int:
        with contextlib.closing(PostgresLink(address)) as link, link.connection() as connection:
            return version_of(connection)

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(start, range(6))) == {KNOWN_VERSION}


def test_a_schema_of_a_newer_version(link: PostgresLink, address: PostgresAddress) -> None:
    """It is left alone, and the message says what to do."""
    with link.connection() as connection:
        connection.execute("INSERT INTO inhouse_migrations VALUES (999, now())")
    with (
        contextlib.closing(PostgresLink(address)) as other,
        pytest.raises(StateError, match=r"version 999.*newer inhouse"),
        other.connection(),
    ):
        pass


def test_a_password_is_not_shown(postgres: Service) -> None:
    """Where the server cannot be reached, its place is told without the way in."""
    link = PostgresLink(PostgresAddress("postgresql://me:hidden@127.0.0.1:1/db", "secret"))
    with pytest.raises(StateError, match=r"postgresql://127\.0\.0\.1:1/db") as caught, link.connection():
        pass
    assert "hidden" not in str(caught.value)
    assert "hidden" not in repr(PostgresAddress("postgresql://me:hidden@h/db", "secret"))


class Losing(PostgresLink):
    """Loses the answer to the end of each transaction that it is told to: it is done and looks as if it were not."""

    lose = False

    @contextlib.contextmanager
    def transaction(self) -> Iterator[psycopg.Connection[Any]]:
        with super().transaction() as connection:
            yield connection
        if self.lose:
            raise StateError("lost")


def test_a_batch_of_use_whose_answer_was_lost(address: PostgresAddress) -> None:
    """Told again it is not counted again; the next one is."""
    link = Losing(address)
    book = PostgresBook(link)
    link.lose = True
    for _ in range(2):
        with pytest.raises(StateError):
            book.count([ROW])
    link.lose = False
    book.count([ROW])
    assert book.usage(UsageFilter()) == (ROW,)
    book.count([ROW])
    assert book.usage(UsageFilter())[0].requests == 2
    book.close()


def test_use_is_kept_while_nobody_can_write_it(address: PostgresAddress) -> None:
    """It is summed up, and beyond the limit of rows keys are summed up as one: no token is lost."""
    link = Losing(address)
    book = BufferedBook(PostgresBook(link), rows_max=3)
    link.lose = True
    for number in range(10):
        book.count([UsageRow(20_000, "acme", f"k{number}", "chat", 1, 10, 0, 5, 0)])
    assert book.rows_waiting <= 5
    link.lose = False
    rows = book.usage(UsageFilter())
    assert sum(row.requests for row in rows) == 10
    assert sum(row.prompt_tokens for row in rows) == 100
    assert SUMMED_UP in {row.key_id for row in rows}
    book.close()


def bodies(*names: object) -> list[bytes]:
    return [json.dumps({"time": 1, "name": name}).encode() for name in names]


def names(audit: PostgresAudit) -> list[Any]:
    return [record.get("name", record.get("act")) for record in map(json.loads, audit.oldest())]


def test_the_audit_of_many_writers_is_one_chain(address: PostgresAddress) -> None:
    """No gap and no fork; read from both ends; the head can be noted and asked for later."""

    def write(number: int) -> Head:
        with contextlib.closing(PostgresAudit(PostgresLink(address), keep_s=DAY_S)) as audit:
            for turn in range(5):
                head = audit.append(bodies(f"{number}-{turn}", turn))
            return head

    with ThreadPoolExecutor(4) as pool:
        noted = max(pool.map(write, range(4)), key=lambda head: head.seq)
    with contextlib.closing(PostgresAudit(PostgresLink(address))) as audit:
        verdict = audit.verify(noted=noted)
        assert (verdict.records, verdict.first, verdict.head, verdict.problems) == (40, 1, noted, ())
        assert [json.loads(line)["seq"] for line in audit.newest(before=10)] == list(range(9, 0, -1))


def test_a_record_of_the_audit_that_was_changed_or_taken_away(link: PostgresLink) -> None:
    """Is named, as is an end that was cut off."""
    audit = PostgresAudit(link)
    audit.append(bodies(*range(6)))
    with link.connection() as connection:
        changed = "replace(encode(line, 'escape'), ': 1', ': 9')::bytea"
        connection.execute(f"UPDATE inhouse_audit SET line = {changed} WHERE seq = 2")
        connection.execute("DELETE FROM inhouse_audit WHERE seq IN (4, 6)")
    problems = " ".join(audit.verify().problems)
    assert "record 2 was changed" in problems
    assert "record 4 is missing" in problems
    assert "ends at record 5, and it reached record 6" in problems


def test_records_of_the_audit_that_are_too_old(link: PostgresLink) -> None:
    """Go as whole days; a record says which, and the chain stays whole."""
    now_s = [20_000.0 * DAY_S]
    audit = PostgresAudit(link, keep_s=2 * DAY_S, clock=lambda: now_s[0])
    audit.append(bodies("old", "old"))
    now_s[0] += 4 * DAY_S
    audit.append(bodies("new"))
    assert names(audit) == ["audit.expired", "new"]
    verdict = audit.verify()
    assert (verdict.first, verdict.problems) == (3, ())


def test_an_append_to_the_audit_whose_answer_was_lost(address: PostgresAddress) -> None:
    """Tried again, with more behind it, its records are there once."""
    link = Losing(address)
    audit = PostgresAudit(link)
    audit.append(bodies("a"))
    link.lose = True
    with pytest.raises(StateError):
        audit.append(bodies("b", "c"))
    link.lose = False
    audit.append(bodies("b", "c", "d"))
    assert names(audit) == ["a", "b", "c", "d"]
    assert audit.verify().problems == ()
    audit.close()


def eventually(true: Any, wait_s: float = 10.0) -> float:
    """Looks until it is true; how long it took."""
    begun_s = time.monotonic()
    while not true():
        assert time.monotonic() - begun_s < wait_s
        time.sleep(0.01)
    return time.monotonic() - begun_s


def test_a_key_that_is_made_or_revoked_elsewhere(address: PostgresAddress) -> None:
    """Is known within a second, without being asked for."""
    told: list[float] = []
    with contextlib.closing(Known(address, stale_s=60)) as known, contextlib.closing(PostgresLink(address)) as link:
        known.on_change = lambda: told.append(time.monotonic())
        elsewhere, keys = PostgresKeys(link), known.keys
        assert keys.by_id("aaaaaaaaaa") is None
        before = keys.version()
        elsewhere.add(key("aaaaaaaaaa"))
        assert eventually(lambda: keys.by_id("aaaaaaaaaa") is not None) < 1.0
        assert keys.version() != before
        elsewhere.revoke("aaaaaaaaaa", at=5.0)
        assert eventually(lambda: keys.by_id("aaaaaaaaaa").revoked_at == 5.0) < 1.0
        assert len(told) >= 2


def test_keys_while_postgresql_is_away(tmp_path: Path) -> None:
    """Known ones go on for the time that was set, unknown ones cannot be judged; all is well when it is back."""
    now_s = [0.0]
    with postgres_server(tmp_path) as server:
        address = PostgresAddress(server.url, timeout_s=2.0)
        with contextlib.closing(Known(address, stale_s=30.0, clock=lambda: now_s[0])) as known:
            known.keys.add(key("aaaaaaaaaa"))
            server.kill()
            eventually(lambda: known.trouble)
            assert known.keys.by_id("aaaaaaaaaa") == key("aaaaaaaaaa")
            with pytest.raises(StateError, match="PostgreSQL at"):
                known.keys.by_id("bbbbbbbbbb")
            with pytest.raises(StateError):
                known.routes.put("app", "d", b"1", seen=0)
            now_s[0] += 31.0
            for refused in (known.keys.version, lambda: known.keys.by_id("aaaaaaaaaa")):
                with pytest.raises(StateError, match="keys were last seen 31 s ago"):
                    refused()
            server.start()
            eventually(lambda: not known.trouble)
            assert known.keys.by_id("bbbbbbbbbb") is None
            assert known.keys.by_id("aaaaaaaaaa") == key("aaaaaaaaaa")


def test_a_key_that_was_removed_by_hand(address: PostgresAddress) -> None:
    """Is not known any more, as after a restore; the others are."""
    with contextlib.closing(Known(address, stale_s=60)) as known, contextlib.closing(PostgresLink(address)) as link:
        for key_id in ("aaaaaaaaaa", "bbbbbbbbbb"):
            known.keys.add(key(key_id))
        with link.connection() as connection:
            connection.execute("DELETE FROM inhouse_keys WHERE id = 'aaaaaaaaaa'")
        eventually(lambda: known.keys.by_id("aaaaaaaaaa") is None)
        assert known.keys.by_id("bbbbbbbbbb") == key("bbbbbbbbbb")


def test_a_schema_of_the_first_version(address: PostgresAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is migrated; its keys stay, and are known when they change."""
    monkeypatch.setattr(postgres_schema, "MIGRATIONS", postgres_schema.MIGRATIONS[:1])
    monkeypatch.setattr(postgres_schema, "KNOWN_VERSION", 1)
    with contextlib.closing(PostgresLink(address)) as link, link.connection() as connection:
        connection.execute(
            "INSERT INTO inhouse_keys (id, hash, note, tenant, roles, created_at, models, limits) "
            "VALUES ('aaaaaaaaaa', %s, '', 'acme', '[]', 1.0, '[]', '{}')",
            (bytes(32),),
        )
    monkeypatch.undo()
    with contextlib.closing(Known(address, stale_s=60)) as known:
        assert known.keys.by_id("aaaaaaaaaa") == key("aaaaaaaaaa")
        known.keys.revoke("aaaaaaaaaa", at=5.0)
        revoked = known.keys.by_id("aaaaaaaaaa")
        assert revoked is not None
        assert revoked.revoked_at == 5.0
