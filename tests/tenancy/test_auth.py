"""Who is let in, who is not, and what the refused are told."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.core import Identity
from inhouse.errors import StackError, StateError, Unauthorized, Unavailable
from inhouse.store.contract import Key
from inhouse.store.sqlite import FILE_NAME, SqliteStore
from inhouse.tenancy import keys
from inhouse.tenancy.auth import Authenticator

STATIC = "a-static-key-of-the-operator"


class Clock:
    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path) as store:
        yield store


def minted(store: SqliteStore, lifetime_s: float | None = None) -> tuple[str, Key]:
    made = keys.mint(store, note="", lifetime_s=lifetime_s, rights=keys.Rights(tenant="acme"), now=1000.0)
    return made.key, made.record


def test_a_key_is_taken_from_either_header(store: SqliteStore) -> None:
    """Bearer in any case and with any spacing, or x-api-key; the identity comes from the store, first and again."""
    key, record = minted(store)
    auth = Authenticator(store, clock=Clock())
    raw = key.encode()
    for _ in range(2):
        for headers in (
            (b"Bearer " + raw, None),
            (b"bearer " + raw, None),
            (b"BEARER    " + raw + b" ", None),
            (None, raw),
            (None, b" " + raw + b"\t"),
            (b"Basic dXNlcjpwYXNz", raw),
            (b"Bearer " + raw, b"something else"),
        ):
            assert auth.identify(*headers) == Identity(record.id, "acme", frozenset())


def test_what_one_header_proved_does_not_prove_another(store: SqliteStore) -> None:
    """A scheme that was ignored beside a good x-api-key is worth nothing alone, nor is a Bearer line as x-api-key."""
    key, _ = minted(store)
    auth = Authenticator(store, clock=Clock())
    raw = key.encode()
    auth.identify(b"Basic dXNlcjpwYXNz", raw)
    auth.identify(b"Bearer " + raw, None)
    for headers in ((b"Basic dXNlcjpwYXNz", None), (None, b"Bearer " + raw), (raw, None), (b"x" + raw, None)):
        with pytest.raises(Unauthorized):
            auth.identify(*headers)


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ((None, None), "no API key was sent; send it as"),
        ((b"", None), "not of the form `Bearer <key>`"),
        ((b"Basic dXNlcjpwYXNz", None), "not of the form `Bearer <key>`"),
        ((b"Bearer", None), "is empty"),
        ((b"Bearer   ", None), "is empty"),
        ((None, b""), "is empty"),
        ((b"Bearer two words", None), "spaces or characters"),
        ((b"Bearer \xff\xfe", None), "spaces or characters"),
        ((b"Bearer nul\x00byte", None), "spaces or characters"),
        ((b"Bearer " + b"a" * 9000, None), "longer than 8192 bytes"),
        ((b"Bearer wrong", None), "not known here"),
        ((b"Bearer sk-ih-aaaaaaaaaa-" + b"A" * 43, None), "not known here"),
    ],
)
def test_the_refused_are_told_what_to_do(
    store: SqliteStore, headers: tuple[bytes | None, bytes | None], told: str
) -> None:
    """Each kind of mistake has a message of its own."""
    with pytest.raises(Unauthorized, match=told):
        Authenticator(store, static_keys=[STATIC]).identify(*headers)


@given(authorization=st.none() | st.binary(max_size=80), x_api_key=st.none() | st.binary(max_size=80))
def test_garbage_is_unauthorized_and_never_echoed(authorization: bytes | None, x_api_key: bytes | None) -> None:
    """Whatever bytes come, the answer is Unauthorized, and nothing of them longer than a few letters is in it."""
    auth = Authenticator(None, static_keys=[STATIC])
    with pytest.raises(Unauthorized) as caught:
        auth.identify(authorization, x_api_key)
    for header in (authorization, x_api_key):
        text = (header or b"").decode("latin-1").strip()
        if len(text) > 12:
            assert text not in caught.value.message


@given(data=st.data())
def test_no_other_text_than_the_key_opens(data: st.DataObject) -> None:
    """Cut, changed or extended at any place, a key is refused: there is no prefix match."""
    auth = Authenticator(None, static_keys=[STATIC])
    at = data.draw(st.integers(0, len(STATIC)))
    other = data.draw(st.sampled_from([STATIC[:at], STATIC[at:], STATIC[:at] + "x" + STATIC[at:], STATIC.upper()]))
    if other != STATIC:
        with pytest.raises(Unauthorized):
            auth.identify(b"Bearer " + other.encode(), None)
    assert auth.identify(b"Bearer " + STATIC.encode(), None).key_id == "static-1"


def test_a_changed_character_anywhere_is_refused(store: SqliteStore) -> None:
    """Also when the id is right and only the secret's last character differs."""
    key, _ = minted(store)
    auth = Authenticator(store, clock=Clock())
    for at in range(len(key)):
        changed = key[:at] + ("A" if key[at] != "A" else "B") + key[at + 1 :]
        with pytest.raises(Unauthorized) as caught:
            auth.identify(b"Bearer " + changed.encode(), None)
        assert changed[17:] not in caught.value.message


def test_an_expired_key_is_refused_at_the_second(store: SqliteStore) -> None:
    """Also one that was proven before: the time is looked at on every request."""
    key, _ = minted(store, lifetime_s=60)
    clock = Clock(1059.9)
    auth = Authenticator(store, clock=clock)
    auth.identify(None, key.encode())
    clock.now = 1060.0
    for _ in range(2):
        with pytest.raises(Unauthorized, match=r"expired on 1970-01-01 00:17 UTC"):
            auth.identify(None, key.encode())


def test_a_revocation_holds_from_the_next_refresh(store: SqliteStore) -> None:
    """Through the same store as through another, the refused are told when it was."""
    key, record = minted(store)
    auth = Authenticator(store, clock=Clock())
    auth.identify(None, key.encode())
    keys.revoke(store, record.id, now=2000.0)
    auth.refresh()
    with pytest.raises(Unauthorized, match=r"revoked on 1970-01-01 00:33 UTC"):
        auth.identify(None, key.encode())


def test_state_of_a_key_is_told_only_to_its_holder(store: SqliteStore) -> None:
    """Someone who knows the id alone does not learn whether the key is revoked or expired."""
    _, record = minted(store, lifetime_s=1)
    keys.revoke(store, record.id, now=2000.0)
    with pytest.raises(Unauthorized, match="not known here"):
        Authenticator(store).identify(None, f"sk-ih-{record.id}-{'A' * 43}".encode())


def test_another_process_revokes(store: SqliteStore, tmp_path: Path) -> None:
    """A revocation by another process is seen at the next refresh; without a change nothing is asked again."""
    key, record = minted(store)
    auth = Authenticator(store, clock=Clock())
    auth.identify(None, key.encode())
    auth.refresh()
    script = (
        "import sys, pathlib\n"
        "from inhouse.store.sqlite import SqliteStore\n"
        "from inhouse.tenancy import keys\n"
        "with SqliteStore(pathlib.Path(sys.argv[1])) as store:\n"
        "    keys.revoke(store, sys.argv[2], now=2000.0)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path), record.id], check=True, timeout=30)
    auth.refresh()
    with pytest.raises(Unauthorized, match="revoked"):
        auth.identify(None, key.encode())


class Counting(SqliteStore):
    """A store that counts how often it is asked for a key."""

    asked = 0

    def by_id(self, key_id: str) -> Key | None:
        self.asked += 1
        return super().by_id(key_id)


def test_a_proven_key_is_not_looked_up_again(tmp_path: Path) -> None:
    """The store is asked once per key and change, not once per request."""
    with Counting(tmp_path) as store:
        key, _ = minted(store)
        auth = Authenticator(store, clock=Clock())
        for _ in range(5):
            auth.identify(None, key.encode())
            auth.refresh()
        assert store.asked == 1


def test_what_is_remembered_is_bounded(tmp_path: Path) -> None:
    """The least recently used key is forgotten first, and forgetting costs a lookup, never a refusal."""
    with Counting(tmp_path) as store:
        first, second, third = (minted(store)[0].encode() for _ in range(3))
        auth = Authenticator(store, clock=Clock(), remembered_max=2)
        for key in (first, second, first, third, first):
            auth.identify(None, key)
        assert store.asked == 3
        auth.identify(None, second)
        assert store.asked == 4


def test_a_failing_store_refuses_without_blaming_the_key(tmp_path: Path) -> None:
    """A damaged store is the gateway's fault: 503 without its path, and what was proven before no longer counts."""
    with SqliteStore(tmp_path) as store:
        key, _ = minted(store)
        auth = Authenticator(store, clock=Clock())
        auth.identify(None, key.encode())
        store.close()
        with pytest.raises(StateError):
            auth.refresh()
        with pytest.raises(Unavailable) as caught:
            auth.identify(None, key.encode())
        assert FILE_NAME not in caught.value.message


def test_static_keys_need_no_store() -> None:
    """Each is a caller of its own; the text itself is not kept."""
    auth = Authenticator(None, static_keys=[STATIC, "sk-0123456789abcdef"])
    assert auth.identify(None, STATIC.encode()) == Identity("static-1")
    assert auth.identify(b"Bearer sk-0123456789abcdef", None) == Identity("static-2")
    auth.refresh()
    assert STATIC not in repr([getattr(auth, name) for name in dir(auth)])
    assert hashlib.sha256(STATIC.encode()).hexdigest() not in repr(auth.identify(None, STATIC.encode()))


@pytest.mark.parametrize(
    "key", ["", "short", "x" * 15, "sixteen chars with spaces", "sechzehn-zeichen-ü", "line\nbreak" * 3]
)
def test_a_static_key_that_cannot_serve_stops_the_start(key: str) -> None:
    """Too short, or not possible in a header: the error names the variable and not the key."""
    with pytest.raises(StackError) as caught:
        Authenticator(None, static_keys=[key])
    assert caught.value.where == "INHOUSE_API_KEY"
    assert not key or key not in caught.value.message
