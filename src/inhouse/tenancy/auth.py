"""Which caller a request's credentials prove. The one place that compares secrets.

Theory of operation. A header that proved itself once is remembered by its SHA-256, so the usual request costs one hash
and one dict lookup. What is not remembered is taken apart, looked up by the key's public id and its secret's hash
compared in constant time. Only success is remembered, in a bounded number of entries; the oldest unused one goes first.
Expiry is looked at every time. `refresh()`, called every second by the owner, forgets everything when any process
changed the store, or when an issuer of tokens took a key back: a revocation holds at the next refresh.

A text of three parts with dots between is a token (JWT), which `tokens` proves; anything else is a key of ours.

Not here: roles and quotas, which build on the `Identity`; how a token is proven (`jwt`).
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from inhouse.core import Identity
from inhouse.errors import StackError, StateError, StateUnavailable, Unauthorized
from inhouse.store.contract import Key, KeyStore
from inhouse.tenancy import keys

if TYPE_CHECKING:
    from inhouse.tenancy.declared import DeclaredKeys
    from inhouse.tenancy.oidc import TokenProver

STATIC_KEY_LENGTH_MIN = 16
HEADER_BYTES_MAX = 8192
_NO_HASH = bytes(32)
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")  # without a signature too: `jwt` says why not

_HOW = "send it as `Authorization: Bearer <key>` or `x-api-key: <key>`"
_ANOTHER = "`inhouse keys create` makes a new one"


class Authenticator:
    """Proves callers against a store of keys, keys declared in the stack, static keys and issuers of tokens.

    `static_keys` come from the environment and belong to the tenant `default`; they cannot be revoked. Raises
    `StackError` for one that is too short or could not be sent in a header. `tell` hears why the store failed.
    """

    def __init__(
        self,
        store: KeyStore | None,
        *,
        static_keys: Iterable[str] = (),
        declared: DeclaredKeys | None = None,
        tokens: TokenProver | None = None,
        clock: Callable[[], float] = time.time,
        tell: Callable[[str], None] = lambda reason: None,
        remembered_max: int = 10_000,
    ) -> None:
        self._store = store
        self._declared = declared
        self._declared_version = 0
        self._tokens = tokens
        self._proofs: Hashable = None
        self._clock = clock
        self._tell = tell
        self._static = tuple(
            (keys.hash_of(_checked(key)), Identity(key_id=f"static-{number}"))
            for number, key in enumerate(static_keys, start=1)
        )
        self._remembered: OrderedDict[bytes, tuple[Identity, float | None]] = OrderedDict()
        self._remembered_max = remembered_max
        self._version = None if store is None else store.version()

    def identify(self, authorization: bytes | None, x_api_key: bytes | None) -> Identity:
        """The caller; the arguments are raw header values. Raises `Unauthorized`, `Forbidden`, `StateUnavailable`.

        `Authorization` goes first; `x-api-key` counts where it is missing or of another scheme than Bearer.
        """
        presented = x_api_key if authorization is None else authorization
        if presented is None:
            raise Unauthorized(f"no API key was sent; {_HOW}; {_ANOTHER}", why="missing")
        if len(presented) > HEADER_BYTES_MAX:
            raise Unauthorized(
                f"the header with the API key is longer than {HEADER_BYTES_MAX} bytes; {_HOW}", why="malformed"
            )
        digest = proof_of(authorization, x_api_key)
        known = self._remembered.get(digest)
        if known is not None:
            identity, expires_at = known
            if expires_at is None or self._clock() < expires_at:
                self._remembered.move_to_end(digest)
                return identity
            del self._remembered[digest]
        key = presented.strip(b" \t") if authorization is None else _bearer(authorization)
        if key is None:
            if x_api_key is not None:
                return self.identify(None, x_api_key)
            raise Unauthorized(f"the Authorization header is not of the form `Bearer <key>`; {_HOW}", why="malformed")
        identity, expires_at = self._prove(_text(key))
        self._remembered[digest] = identity, expires_at
        if len(self._remembered) > self._remembered_max:
            self._remembered.popitem(last=False)
        return identity

    def again(self, proof: bytes) -> Identity | None:
        """The caller that a proof (`proof_of`) has shown before, while that still holds; None: `identify`."""
        known = self._remembered.get(proof)
        if known is None:
            return None
        identity, expires_at = known
        if expires_at is not None and self._clock() >= expires_at:
            return None
        self._remembered.move_to_end(proof)
        return identity

    def refresh(self) -> None:
        """Forget what was proven if the store or a key of an issuer has changed since the last call.

        Where the store cannot be asked, too: raises `StateError`.
        """
        if self._tokens is not None:
            proofs = self._tokens.refresh()
            if proofs != self._proofs:
                self._remembered.clear()
                self._proofs = proofs
        if self._declared is not None:
            changes = self._declared.refresh()
            if changes != self._declared_version:
                self._remembered.clear()
                self._declared_version = changes
        if self._store is None:
            return
        try:
            version = self._store.version()
        except StateError:
            self._remembered.clear()
            raise
        if version != self._version:
            self._remembered.clear()
            self._version = version

    def _prove(self, presented: str) -> tuple[Identity, float | None]:
        whole_hash = keys.hash_of(presented)
        declared = None if self._declared is None else self._declared.find(whole_hash)
        if declared is not None:
            if not declared.live(self._clock()):
                raise Unauthorized(
                    f"this API key expired on {_day(declared.expires_at or 0)}; {_ANOTHER}",
                    why="expired",
                    key_id=declared.id,
                )
            return keys.identity_of(declared), declared.expires_at
        for static_hash, identity in self._static:
            if hmac.compare_digest(static_hash, whole_hash):
                return identity, None
        if _TOKEN.fullmatch(presented):
            if self._tokens is None:
                raise Unauthorized(f"this looks like a JWT, and no issuer of tokens is set up here; {_ANOTHER}")
            return self._tokens.prove(presented)
        parts = keys.split(presented)
        key = None if parts is None else self._by_id(parts[0])
        secret_hash = _NO_HASH if parts is None else keys.hash_of(parts[1])
        fits = key is not None and hmac.compare_digest(key.hash, secret_hash)
        fitted = key is not None and key.old_hash is not None and hmac.compare_digest(key.old_hash, secret_hash)
        if key is None or not (fits or fitted):
            raise Unauthorized(f"this API key is not known here; check that it was copied whole; {_ANOTHER}")
        if key.revoked_at is not None:
            raise Unauthorized(
                f"this API key was revoked on {_day(key.revoked_at)}; {_ANOTHER}", why="revoked", key_id=key.id
            )
        if not key.live(self._clock()):
            raise Unauthorized(
                f"this API key expired on {_day(key.expires_at or 0)}; {_ANOTHER}", why="expired", key_id=key.id
            )
        ends_at = key.expires_at
        if not fits:  # the secret before the last rotation
            ends_at = min(key.old_until or 0.0, math.inf if ends_at is None else ends_at)
            if self._clock() >= ends_at:
                raise Unauthorized(
                    f"this API key was replaced on {_day(key.rotated_at or 0)}, its old text no longer counts; "
                    "use the new one, or `inhouse keys rotate` makes another",
                    why="expired",
                    key_id=key.id,
                )
        return keys.identity_of(key), ends_at

    def _by_id(self, key_id: str) -> Key | None:
        if self._store is None:
            return None
        try:
            return self._store.by_id(key_id)
        except StateError as error:
            self._tell(error.message)
            raise StateUnavailable(
                "API keys cannot be checked now, the gateway cannot read its state; its log says why", retry_after_s=5
            ) from error


def proof_of(authorization: bytes | None, x_api_key: bytes | None) -> bytes:
    """What a caller's headers are remembered by, once they have proven who it is."""
    if authorization is not None:
        return hashlib.sha256(authorization).digest()
    # the same bytes in the other header are another proof
    return hashlib.sha256(x_api_key or b"").digest() + b"x"


def _bearer(authorization: bytes) -> bytes | None:
    """What follows `Bearer`; None for another scheme (RFC 9110, 11.4: schemes know no case)."""
    scheme, _, rest = authorization.strip(b" \t").partition(b" ")
    return rest.strip(b" \t") if scheme.lower() == b"bearer" else None


def _text(key: bytes) -> str:
    if not key:
        raise Unauthorized(f"the API key that was sent is empty; {_HOW}; {_ANOTHER}", why="malformed")
    if not all(0x21 <= byte <= 0x7E for byte in key):
        raise Unauthorized(
            f"the API key that was sent contains spaces or characters that no key has; {_HOW}", why="malformed"
        )
    return key.decode("ascii")


def _checked(key: str) -> str:
    if len(key) < STATIC_KEY_LENGTH_MIN:
        raise StackError(
            f"the key in INHOUSE_API_KEY has {len(key)} characters, at least {STATIC_KEY_LENGTH_MIN} are needed",
            where="INHOUSE_API_KEY",
            hint="`openssl rand -hex 32` makes a good one",
        )
    if not all("\x21" <= character <= "\x7e" for character in key):
        raise StackError(
            "the key in INHOUSE_API_KEY contains spaces or characters that cannot be sent in a header; "
            "use letters, digits and signs of ASCII",
            where="INHOUSE_API_KEY",
        )
    return key


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
