"""Keys are made and taken back here; `auth` checks them.

A key's text is `sk-ih-<id>-<secret>`. The id is public: it names the key in lists, logs and `revoke`. The secret is 256
random bits in URL-safe base64 and exists only in the text; the store keeps its SHA-256. A slow password hash would
protect nothing here: 256 random bits cannot be guessed at any speed.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from inhouse.errors import BadRequest, NotFound
from inhouse.store.contract import Key, KeyStore
from inhouse.store.sqlite import SqliteStore

PREFIX = "sk-ih-"
ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
ID_LENGTH = 10
NOTE_LENGTH_MAX = 200
FIRST_KEY_NOTE = "first start"

_KEY_FORM = re.compile(rf"{PREFIX}([a-z2-7]{{{ID_LENGTH}}})-([A-Za-z0-9_-]{{43}})")
_ID_FORM = re.compile(rf"[a-z2-7]{{{ID_LENGTH}}}")


@dataclass(frozen=True, slots=True)
class Minted:
    """A new key: the only moment at which its text exists."""

    key: str = field(repr=False)
    record: Key


def mint(
    store: KeyStore,
    *,
    note: str,
    lifetime_s: float | None = None,
    tenant: str = "default",
    roles: frozenset[str] = frozenset(),
    now: float,
) -> Minted:
    """Make and keep a new key. Raises `BadRequest` for a note or lifetime that cannot be, `StateError`."""
    minted = _made(note, lifetime_s, tenant, roles, now)
    store.add(minted.record)
    return minted


def first_key(store: KeyStore, *, now: float) -> Minted | None:
    """A key for the first start; None where a live one exists. Of processes that start at once, one gets it."""
    minted = _made(FIRST_KEY_NOTE, None, "default", frozenset(), now)
    return minted if store.add_if_none_live(minted.record, now=now) else None


def revoke(store: KeyStore, key_or_id: str, *, now: float) -> Key:
    """The record afterwards. An earlier revocation stands: then `revoked_at` is not `now`. Raises `NotFound`."""
    parts = split(key_or_id)
    key_id = parts[0] if parts else key_or_id
    revoked = store.revoke(key_id, at=now) if _ID_FORM.fullmatch(key_id) else None
    if revoked is None:
        raise NotFound(_unknown(store, key_id))
    return revoked


@contextmanager
def temporary_key(state_dir: Path, note: str, lifetime_s: float) -> Iterator[str]:
    """A key's text for the time of the block. Should this process be killed in it, `lifetime_s` ends the key."""
    with SqliteStore(state_dir) as store:
        minted = mint(store, note=note, lifetime_s=lifetime_s, now=time.time())
        try:
            yield minted.key
        finally:
            store.revoke(minted.record.id, at=time.time())


def split(key: str) -> tuple[str, str] | None:
    """Id and secret; None where the text is not of the form of a key."""
    match = _KEY_FORM.fullmatch(key)
    return (match[1], match[2]) if match else None


def hash_of(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _made(note: str, lifetime_s: float | None, tenant: str, roles: frozenset[str], now: float) -> Minted:
    if len(note) > NOTE_LENGTH_MAX or not note.isprintable():
        raise BadRequest(f"a key's note is one line of at most {NOTE_LENGTH_MAX} printable characters", param="note")
    if lifetime_s is not None and not (math.isfinite(lifetime_s) and lifetime_s > 0):
        raise BadRequest(f"a key cannot live for {lifetime_s} s; give a time above zero", param="lifetime_s")
    key_id = "".join(secrets.choice(ID_ALPHABET) for _ in range(ID_LENGTH))
    secret = secrets.token_urlsafe(32)
    record = Key(
        id=key_id,
        hash=hash_of(secret),
        note=note,
        tenant=tenant,
        roles=roles,
        created_at=now,
        expires_at=None if lifetime_s is None else now + lifetime_s,
    )
    return Minted(f"{PREFIX}{key_id}-{secret}", record)


def _unknown(store: KeyStore, key_id: str) -> str:
    """Echoes only what has the form of an id, lest a secret reaches a terminal or a log."""
    if not _ID_FORM.fullmatch(key_id):
        return f"that is not the id of a key ({ID_LENGTH} small letters and digits); `inhouse keys list` shows the ids"
    near = difflib.get_close_matches(key_id, [key.id for key in store.list()], n=1)
    return f"there is no key '{key_id}'" + (
        f"; did you mean '{near[0]}'?" if near else "; `inhouse keys list` shows those that exist"
    )
