"""Keys are made, rotated and taken back here; `auth` checks them.

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
from dataclasses import dataclass, field, replace

import msgspec

from inhouse.core import Identity
from inhouse.errors import BadRequest, Conflict, NotFound
from inhouse.store.contract import Key, KeyStore
from inhouse.store.ledger import Limits

PREFIX = "sk-ih-"
ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
ID_LENGTH = 10
NOTE_LENGTH_MAX = 200
GRACE_S = 15 * 60.0
"""How long the old text of a rotated key opens, unless one says otherwise: time to bring the new one to its place."""
GRACE_S_MAX = 30 * 86400.0
FIRST_KEY_NOTE = "first start"

_KEY_FORM = re.compile(rf"{PREFIX}([a-z2-7]{{{ID_LENGTH}}})-([A-Za-z0-9_-]{{43}})")
_ID_FORM = re.compile(rf"[a-z2-7]{{{ID_LENGTH}}}")


@dataclass(frozen=True, slots=True)
class Rights:
    """What a key may do: whose it is, and what it may use within what its tenant may."""

    tenant: str = "default"
    roles: frozenset[str] = frozenset()
    models: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Minted:
    """A new key, or a new text of one: the only moment at which its text exists."""

    key: str = field(repr=False)
    record: Key


def mint(
    store: KeyStore,
    *,
    note: str,
    lifetime_s: float | None = None,
    rights: Rights = Rights(),
    now: float,
) -> Minted:
    """Make and keep a new key. Raises `BadRequest` for a note or lifetime that cannot be, `StateError`."""
    minted = _made(note, lifetime_s, rights, now)
    store.add(minted.record)
    return minted


def first_key(store: KeyStore, *, now: float) -> Minted | None:
    """A key for the first start; None where a live one exists. Of processes that start at once, one gets it."""
    minted = _made(FIRST_KEY_NOTE, None, Rights(), now)
    return minted if store.add_if_none_live(minted.record, now=now) else None


def rotate(store: KeyStore, key_or_id: str, *, grace_s: float, lifetime_s: float | None = None, now: float) -> Minted:
    """A new text for a key, with the id and the rights that it has; the old text opens for `grace_s` more.

    Of an earlier rotation nothing opens any more. `lifetime_s` gives it a new expiry, from now. Raises `NotFound`,
    `Conflict` for a key that is revoked or expired, `BadRequest` for a time that cannot be.
    """
    _check_lifetime(lifetime_s)
    if not 0 <= grace_s <= GRACE_S_MAX:
        raise BadRequest(
            f"an old key cannot be accepted for {grace_s:g} s more; give 0 to {GRACE_S_MAX:.0f} s", param="grace"
        )
    secret = secrets.token_urlsafe(32)

    def renewed(key: Key) -> Key:
        if key.revoked_at is not None:
            raise Conflict(f"the key '{key.id}' is revoked and stays so; `inhouse keys create` makes another")
        if lifetime_s is None and not key.live(now):
            raise Conflict(f"the key '{key.id}' is expired; give it a new lifetime with `--expires`")
        return replace(
            key,
            hash=hash_of(secret),
            expires_at=key.expires_at if lifetime_s is None else now + lifetime_s,
            rotated_at=now,
            old_hash=key.hash,
            old_until=now + grace_s,
        )

    key_id = id_in(key_or_id)
    record = store.change(key_id, renewed) if _ID_FORM.fullmatch(key_id) else None
    if record is None:
        raise NotFound(_unknown(store, key_id))
    return Minted(f"{PREFIX}{key_id}-{secret}", record)


def revoke(store: KeyStore, key_or_id: str, *, now: float) -> Key:
    """The record afterwards. An earlier revocation stands: then `revoked_at` is not `now`. Raises `NotFound`."""
    key_id = id_in(key_or_id)
    revoked = store.revoke(key_id, at=now) if _ID_FORM.fullmatch(key_id) else None
    if revoked is None:
        raise NotFound(_unknown(store, key_id))
    return revoked


def id_in(key_or_id: str) -> str:
    """The id in a key's text; any other text as it is."""
    parts = split(key_or_id)
    return parts[0] if parts else key_or_id


def identity_of(key: Key) -> Identity:
    """The caller that a key proves."""
    limits = msgspec.structs.asdict(key.limits).items()
    return Identity(
        key_id=key.id,
        tenant=key.tenant,
        roles=key.roles,
        models=key.models,
        limits=tuple((name, limit) for name, limit in limits if limit is not None),
    )


def split(key: str) -> tuple[str, str] | None:
    """Id and secret; None where the text is not of the form of a key."""
    match = _KEY_FORM.fullmatch(key)
    return (match[1], match[2]) if match else None


def hash_of(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _made(note: str, lifetime_s: float | None, rights: Rights, now: float) -> Minted:
    if len(note) > NOTE_LENGTH_MAX or not note.isprintable():
        raise BadRequest(f"a key's note is one line of at most {NOTE_LENGTH_MAX} printable characters", param="note")
    _check_lifetime(lifetime_s)
    key_id = "".join(secrets.choice(ID_ALPHABET) for _ in range(ID_LENGTH))
    secret = secrets.token_urlsafe(32)
    record = Key(
        id=key_id,
        hash=hash_of(secret),
        note=note,
        tenant=rights.tenant,
        roles=rights.roles,
        models=rights.models,
        limits=rights.limits,
        created_at=now,
        expires_at=None if lifetime_s is None else now + lifetime_s,
    )
    return Minted(f"{PREFIX}{key_id}-{secret}", record)


def _check_lifetime(lifetime_s: float | None) -> None:
    if lifetime_s is not None and not (math.isfinite(lifetime_s) and lifetime_s > 0):
        raise BadRequest(f"a key cannot live for {lifetime_s} s; give a time above zero", param="expires")


def _unknown(store: KeyStore, key_id: str) -> str:
    """Echoes only what has the form of an id, lest a secret reaches a terminal or a log."""
    if not _ID_FORM.fullmatch(key_id):
        return f"that is not the id of a key ({ID_LENGTH} small letters and digits); `inhouse keys list` shows the ids"
    near = difflib.get_close_matches(key_id, [key.id for key in store.list()], n=1)
    return f"there is no key '{key_id}'" + (
        f"; did you mean '{near[0]}'?" if near else "; `inhouse keys list` shows those that exist"
    )
