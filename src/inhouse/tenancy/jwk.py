"""A published key set (JWKS, RFC 7517) as keys that may check signatures. Pure; brings in PyJWT and cryptography.

A key is bound to one algorithm here, by its type and curve and by what it says of itself, so a token's header can
never choose how a key is used: an RSA key checks no HMAC and an encryption key no signature. A key that is unfit is
left out, the others stay.
"""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm

from inhouse.tenancy.oidc import ALGORITHMS

RSA_BITS_MIN = 2048
"""RFC 7518, 3.3."""
RSA_BITS_MAX = 8192
"""Beyond it, checking one signature takes the event loop for milliseconds."""

_PUBLIC = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}
_SECRET = ("d", "k", "p", "q")


@dataclass(frozen=True, slots=True)
class KeySet:
    """The fit keys of one issuer by key id and algorithm."""

    keys: Mapping[tuple[str | None, str], jwt.PyJWK] = field(repr=False)
    ids: frozenset[str]
    """Every key id of the document, those of unfit keys too."""
    prints: frozenset[bytes] = field(repr=False)
    """One hash for each fit key: tells what has gone when a new set arrives."""

    def find(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        """A token without a key id is served only where one key alone can be meant."""
        if key_id is not None:
            return self.keys.get((key_id, algorithm))
        fitting = [key for (_, fits), key in self.keys.items() if fits == algorithm]
        return fitting[0] if len(fitting) == 1 else None


def parse_key_set(document: Mapping[str, Any], algorithms: Iterable[str]) -> KeySet:
    """Raises `ValueError` for what is no key set. One without a fit key is one: then nobody can prove anything."""
    entries = document.get("keys")
    if not isinstance(entries, list):
        raise ValueError("the document has no list `keys`")
    keys: dict[tuple[str | None, str], jwt.PyJWK] = {}
    ids, prints = set(), set()
    for entry in entries:
        if not isinstance(entry, dict):
            continue
        key_id = entry.get("kid")
        if isinstance(key_id, str):
            ids.add(key_id)
        elif key_id is not None:
            continue
        public = _public_part(entry)
        for algorithm in algorithms if public else ():
            key = _bound(entry, public, algorithm)
            if key is not None and keys.setdefault((key_id, algorithm), key) is key:
                prints.add(_print(key_id, algorithm, public))
    return KeySet(keys=keys, ids=frozenset(ids), prints=frozenset(prints))


def _public_part(entry: dict[str, Any]) -> dict[str, str]:
    """Type and public numbers; empty for a key that must not check signatures."""
    kind = entry.get("kty")
    names = _PUBLIC.get(kind) if isinstance(kind, str) else None
    if names is None or any(name in entry for name in _SECRET):  # a private key that was published proves nothing
        return {}
    operations = entry.get("key_ops", ["verify"])
    if entry.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return {}
    public = {name: entry.get(name) for name in ("kty", *names)}
    if not all(isinstance(value, str) and value.isascii() for value in public.values()):
        return {}
    texts = {name: str(value) for name, value in public.items()}
    return texts if kind != "RSA" or RSA_BITS_MIN <= _bits(texts["n"]) <= RSA_BITS_MAX else {}


def _bits(number: str) -> int:
    try:
        return int.from_bytes(urlsafe_b64decode(number + "=" * (-len(number) % 4))).bit_length()
    except ValueError:
        return 0


def _bound(entry: dict[str, Any], public: dict[str, str], algorithm: str) -> jwt.PyJWK | None:
    kind, curve = ALGORITHMS[algorithm]
    if public["kty"] != kind or public.get("crv") != curve or entry.get("alg", algorithm) != algorithm:
        return None
    try:
        return jwt.PyJWK(public, algorithm)
    except (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, TypeError):
        return None


def _print(key_id: str | None, algorithm: str, public: dict[str, str]) -> bytes:
    return hashlib.sha256(json.dumps([key_id, algorithm, public], sort_keys=True).encode()).digest()
