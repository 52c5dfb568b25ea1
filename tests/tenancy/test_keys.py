"""Making keys and taking them back."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from inhouse.config import Stack
from inhouse.errors import BadRequest, Conflict, NotFound, Unauthorized
from inhouse.store.ledger import Limits
from inhouse.store.sqlite import SqliteStore
from inhouse.store.stores import Stores
from inhouse.tenancy import keys
from inhouse.tenancy.auth import Authenticator
from inhouse.tenancy.desk import KeyDesk


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path) as store:
        yield store


def test_a_key_has_the_promised_form_and_its_text_is_nowhere_kept(store: SqliteStore, tmp_path: Path) -> None:
    """`sk-ih-<10>-<256 bits>`; neither the database nor a repr contains the secret."""
    minted = keys.mint(store, note="laptop", lifetime_s=60, now=1000.0)
    assert re.fullmatch(r"sk-ih-[a-z2-7]{10}-[A-Za-z0-9_-]{43}", minted.key)
    secret = minted.key.split("-", 3)[3]
    assert all(secret.encode() not in path.read_bytes() for path in tmp_path.iterdir())
    assert secret not in repr(minted)
    assert repr(minted.record.hash) not in repr(minted.record)
    assert store.list() == (minted.record,)
    assert minted.record.expires_at == 1060.0
    assert minted.record.tenant == "default"


def test_no_two_keys_are_alike(store: SqliteStore) -> None:
    texts = {keys.mint(store, note="", now=1.0).key for _ in range(50)}
    assert len(texts) == len({text.split("-", 3)[3] for text in texts}) == 50


@pytest.mark.parametrize("note", ["two\nlines", "\x1b[31mred", "x" * 201])
def test_a_note_that_could_harm_a_terminal_is_refused(store: SqliteStore, note: str) -> None:
    """Notes are shown in lists, so they are one printable line; nothing is kept of a refused one."""
    with pytest.raises(BadRequest, match="printable"):
        keys.mint(store, note=note, now=1.0)
    assert store.list() == ()


@pytest.mark.parametrize("lifetime_s", [0, -1, float("nan"), float("inf")])
def test_a_lifetime_is_above_zero_and_finite(store: SqliteStore, lifetime_s: float) -> None:
    with pytest.raises(BadRequest, match="above zero"):
        keys.mint(store, note="", lifetime_s=lifetime_s, now=1.0)


def test_a_key_is_revoked_by_its_id_or_its_text(store: SqliteStore) -> None:
    """People paste what they have; both name the key."""
    first, second = (keys.mint(store, note="", now=1.0) for _ in range(2))
    assert keys.revoke(store, first.record.id, now=2.0).revoked_at == 2.0
    assert keys.revoke(store, second.key, now=2.0).revoked_at == 2.0
    assert keys.revoke(store, second.key, now=3.0).revoked_at == 2.0


def test_an_unknown_id_names_the_nearest(store: SqliteStore) -> None:
    key_id = keys.mint(store, note="", now=1.0).record.id
    typo = ("b" if key_id[0] == "a" else "a") + key_id[1:]
    with pytest.raises(NotFound, match=rf"no key '{typo}'; did you mean '{key_id}'"):
        keys.revoke(store, typo, now=2.0)
    assert store.list()[0].revoked_at is None


def test_text_that_is_no_id_is_not_echoed(store: SqliteStore) -> None:
    """A key pasted with a typo does not end up in a terminal's history of output or a log."""
    with pytest.raises(NotFound) as caught:
        keys.revoke(store, "sk-ih-abcdefghij-half-of-a-secret", now=2.0)
    assert "secret" not in str(caught.value)
    assert "keys list" in str(caught.value)


def test_a_temporary_key_works_in_its_block_only(tmp_path: Path) -> None:
    """It is live inside and revoked after, also when the block fails; killed processes leave one that expires."""
    with SqliteStore(tmp_path) as store:
        auth = Authenticator(store)
        desk = KeyDesk(Stores(tmp_path), Stack())
        made = desk.temporary(note="inhouse chat", lifetime_s=60, rights=keys.Rights(), by="cli:me")
        with pytest.raises(RuntimeError), made as key:  # noqa: PT012
            header = b"Bearer " + key.encode()
            auth.refresh()
            assert auth.identify(header, None).tenant == "default"
            raise RuntimeError
        (record,) = store.list()
        assert record.revoked_at is not None
        assert record.expires_at == pytest.approx(record.created_at + 60)
        assert record.note == "inhouse chat"


def test_the_first_start_makes_one_key_and_later_ones_none(store: SqliteStore) -> None:
    """None while a live key exists; one again when all are revoked or expired."""
    first = keys.first_key(store, now=1.0)
    assert first is not None
    assert keys.first_key(store, now=2.0) is None
    keys.revoke(store, first.record.id, now=3.0)
    keys.mint(store, note="", lifetime_s=1, now=3.0)
    assert keys.first_key(store, now=3.5) is None
    assert keys.first_key(store, now=4.5) is not None


def test_of_starts_at_once_one_makes_the_key(tmp_path: Path) -> None:
    """However many processes start on an empty folder together, exactly one key exists and one process has it."""
    script = (
        "import sys, pathlib, time\n"
        "from inhouse.store.sqlite import SqliteStore\n"
        "from inhouse.tenancy import keys\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "with SqliteStore(pathlib.Path(sys.argv[1])) as store:\n"
        "    minted = keys.first_key(store, now=time.time())\n"
        "print(minted.key if minted else '')\n"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    for child in children:
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin
        child.stdin.write("go\n")
        child.stdin.flush()
    printed = [child.communicate(timeout=30)[0].strip() for child in children]
    assert [child.returncode for child in children] == [0] * 6
    (key,) = filter(None, printed)
    with SqliteStore(tmp_path) as store:
        (record,) = store.list()
        assert Authenticator(store, clock=time.time).identify(None, key.encode()).key_id == record.id


def rotated(store: SqliteStore, key: str, **options: float) -> keys.Minted:
    return keys.rotate(store, key, **{"grace_s": 60.0, "now": 100.0, **options})


def opens(store: SqliteStore, key: str, at: float) -> bool:
    try:
        Authenticator(store, clock=lambda: at).identify(b"Bearer " + key.encode(), None)
    except Unauthorized:
        return False
    return True


def test_a_rotated_key_is_the_same_key_with_another_secret(store: SqliteStore) -> None:
    """Id, note, rights and expiry stay; the text is new; the old one opens until its grace is over, to the second."""
    rights = keys.Rights("acme", frozenset({"operator"}), ("chat",), Limits(tokens_per_day=5))
    first = keys.mint(store, note="laptop", rights=rights, lifetime_s=1000, now=1.0)
    second = rotated(store, first.record.id)
    assert second.record == replace(
        first.record, hash=second.record.hash, rotated_at=100.0, old_hash=first.record.hash, old_until=160.0
    )
    assert store.by_id(first.record.id) == second.record
    assert second.key.startswith(f"sk-ih-{first.record.id}-")
    assert second.key != first.key
    assert [opens(store, first.key, at) for at in (100.0, 159.9, 160.0)] == [True, True, False]
    assert [opens(store, second.key, at) for at in (100.0, 1000.9, 1001.0)] == [True, True, False]
    assert not opens(store, first.key[:-1] + ("A" if first.key[-1] != "A" else "B"), 100.0)


def test_without_grace_the_old_text_is_over_at_once(store: SqliteStore) -> None:
    first = keys.mint(store, note="", now=1.0)
    rotated(store, first.key, grace_s=0.0)
    with pytest.raises(Unauthorized, match=r"replaced on 1970-01-01 00:01 UTC, its old text no longer counts"):
        Authenticator(store, clock=lambda: 100.0).identify(None, first.key.encode())


def test_a_second_rotation_ends_the_grace_of_the_first(store: SqliteStore) -> None:
    """There is at most one old text: someone who rotates because of a leak closes all that came before the last."""
    first = keys.mint(store, note="", now=1.0)
    second = rotated(store, first.key)
    third = rotated(store, second.key, now=101.0)
    assert [opens(store, minted.key, 102.0) for minted in (first, second, third)] == [False, True, True]


def test_a_grace_never_outlives_the_key(store: SqliteStore) -> None:
    first = keys.mint(store, note="", lifetime_s=120, now=1.0)
    rotated(store, first.key, grace_s=3600.0)
    assert [opens(store, first.key, at) for at in (120.9, 121.0)] == [True, False]


def test_a_revocation_takes_the_old_text_too(store: SqliteStore) -> None:
    first = keys.mint(store, note="", now=1.0)
    second = rotated(store, first.key)
    keys.revoke(store, second.key, now=101.0)
    assert not opens(store, first.key, 102.0)
    assert not opens(store, second.key, 102.0)


def test_what_cannot_be_rotated(store: SqliteStore) -> None:
    """A revoked key stays revoked; an expired one needs a new lifetime; an unknown one is named with the nearest."""
    gone, over = keys.mint(store, note="", now=1.0), keys.mint(store, note="", lifetime_s=5, now=1.0)
    keys.revoke(store, gone.key, now=2.0)
    with pytest.raises(Conflict, match="is revoked and stays so"):
        rotated(store, gone.key)
    with pytest.raises(Conflict, match="is expired; give it a new lifetime"):
        rotated(store, over.key)
    assert rotated(store, over.key, lifetime_s=50.0).record.expires_at == 150.0
    with pytest.raises(NotFound, match="no key 'aaaaaaaaaa'"):
        rotated(store, "aaaaaaaaaa")
    with pytest.raises(BadRequest, match="cannot be accepted"):
        rotated(store, over.key, grace_s=keys.GRACE_S_MAX + 1)
