"""The contract of every store of keys. A new one is one line in `STORES`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inhouse.store.contract import Key, KeyStore
from inhouse.store.ledger import Limits
from inhouse.store.postgres_keys import PostgresKeys
from inhouse.store.postgres_link import PostgresLink
from inhouse.store.sqlite import SqliteStore
from ledgers import fresh_postgres

Open = Callable[[], KeyStore]


def _sqlite(folder: Path, fixture: Callable[[str], Any]) -> Open:
    return lambda: SqliteStore(folder)


def _postgres(folder: Path, fixture: Callable[[str], Any]) -> Open:
    address = fresh_postgres(fixture("postgres"))
    return lambda: PostgresKeys(PostgresLink(address))


STORES: dict[str, Callable[[Path, Callable[[str], Any]], Open]] = {"sqlite": _sqlite, "postgres": _postgres}


@pytest.fixture(params=STORES)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the same store any number of times, as several processes would."""
    stores: list[KeyStore] = []
    make = STORES[request.param](tmp_path, request.getfixturevalue)

    def open_one() -> KeyStore:
        stores.append(make())
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: Callable[[], KeyStore]) -> KeyStore:
    return opened()


def key(key_id: str = "aaaaaaaaaa", **fields: object) -> Key:
    return Key(
        **{
            "id": key_id,
            "hash": bytes(range(32)),
            "note": "a note with 'quotes' and ünïcode",
            "tenant": "acme",
            "roles": frozenset({"admin", "auditor"}),
            "created_at": 1.5,
            **fields,
        }
    )


def test_a_key_comes_back_as_it_went_in(store: KeyStore) -> None:
    """Every field survives, the optional ones set or not."""
    whole = key(
        "bbbbbbbbbb",
        expires_at=99.25,
        revoked_at=50.5,
        roles=frozenset(),
        models=("chat", "org/big-model"),
        limits=Limits(tokens_per_day=50_000, money_per_month=99_500_000, concurrent_requests=1),
        rotated_at=40.25,
        old_hash=bytes(range(32, 64)),
        old_until=41.0,
    )
    for given in (key(), whole):
        store.add(given)
        assert store.by_id(given.id) == given
    assert store.by_id("cccccccccc") is None


def test_an_id_is_taken_once(store: KeyStore) -> None:
    """A second key of the same id is refused and the first stays as it was."""
    store.add(key())
    with pytest.raises(ValueError, match="aaaaaaaaaa"):
        store.add(key(tenant="other"))
    assert store.list() == (key(),)


def test_ids_match_whole_and_exactly(store: KeyStore) -> None:
    """Neither a part of an id, nor a pattern, nor another case finds a key."""
    store.add(key())
    for text in ("aaaa", "aaaaaaaaa%", "AAAAAAAAAA", "aaaaaaaaaa ", "' OR 1=1 --", ""):
        assert store.by_id(text) is None
        assert store.revoke(text, at=2.0) is None


def test_keys_are_listed_by_age(store: KeyStore) -> None:
    for key_id, created_at in (("bbbbbbbbbb", 2.0), ("aaaaaaaaaa", 3.0), ("cccccccccc", 1.0)):
        store.add(key(key_id, created_at=created_at))
    assert [known.id for known in store.list()] == ["cccccccccc", "bbbbbbbbbb", "aaaaaaaaaa"]


def test_the_first_revocation_stands(store: KeyStore) -> None:
    """Revoking again neither fails nor moves the time."""
    store.add(key())
    assert store.revoke("aaaaaaaaaa", at=10.0) == key(revoked_at=10.0)
    assert store.revoke("aaaaaaaaaa", at=20.0) == key(revoked_at=10.0)
    assert store.by_id("aaaaaaaaaa") == key(revoked_at=10.0)


def test_only_a_live_key_stands_in_the_way_of_a_first_one(store: KeyStore) -> None:
    """Revoked and expired keys count as none; at the very second of its expiry a key is dead."""
    store.add(key("bbbbbbbbbb", revoked_at=1.0))
    store.add(key("cccccccccc", expires_at=5.0))
    assert not store.add_if_none_live(key(), now=4.9)
    assert store.add_if_none_live(key(), now=5.0)
    assert not store.add_if_none_live(key("dddddddddd"), now=5.0)
    assert store.by_id("dddddddddd") is None


def test_version_stays_while_nothing_changes(opened: Callable[[], KeyStore]) -> None:
    """Reads, here and elsewhere, do not move it."""
    store, other = opened(), opened()
    before = store.version()
    store.list()
    other.list()
    other.by_id("aaaaaaaaaa")
    assert store.version() == before


def test_version_moves_with_every_change(opened: Callable[[], KeyStore]) -> None:
    """Whoever changed a key, and through which connection, the next `version` differs."""
    store, other = opened(), opened()
    seen = [store.version()]
    for change in (
        lambda: store.add(key("aaaaaaaaaa")),
        lambda: other.add(key("bbbbbbbbbb")),
        lambda: store.revoke("bbbbbbbbbb", at=1.0),
        lambda: other.revoke("aaaaaaaaaa", at=1.0),
        lambda: store.change("bbbbbbbbbb", lambda known: replace(known, note="another")),
        lambda: other.change("bbbbbbbbbb", lambda known: replace(known, note="a third")),
    ):
        change()
        assert store.version() != seen[-1]
        seen.append(store.version())


def test_a_change_is_made_from_what_is_there(opened: Callable[[], KeyStore]) -> None:
    """It begins with the newest record, whoever wrote it, and only that key changes."""
    store, other = opened(), opened()
    for key_id in ("aaaaaaaaaa", "bbbbbbbbbb"):
        store.add(key(key_id))
    other.revoke("aaaaaaaaaa", at=3.0)
    changed = store.change("aaaaaaaaaa", lambda known: replace(known, hash=bytes(32), old_hash=known.hash))
    assert changed == key(revoked_at=3.0, hash=bytes(32), old_hash=bytes(range(32)))
    assert other.by_id("aaaaaaaaaa") == changed
    assert other.by_id("bbbbbbbbbb") == key("bbbbbbbbbb")
    assert store.change("cccccccccc", lambda known: known) is None


def test_a_change_that_fails_changes_nothing(store: KeyStore) -> None:
    """What the change raises comes out, and the store is as usable as before."""
    store.add(key())
    before = store.version()

    def refuse(known: Key) -> Key:
        raise LookupError(known.id)

    with pytest.raises(LookupError, match="aaaaaaaaaa"):
        store.change("aaaaaaaaaa", refuse)
    assert store.version() == before
    assert store.by_id("aaaaaaaaaa") == key()
    assert store.revoke("aaaaaaaaaa", at=1.0) is not None
