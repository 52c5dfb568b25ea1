"""Signed tokens (JWT, RFC 7519; practice of RFC 8725) proven against the keys of the issuers that are accepted.

PyJWT checks the signature; header rules, time and audience are checked here, where the clock is handed in. A token is
judged in this order: form, issuer, algorithm, key, signature, claims. Before the signature holds nothing of a token is
believed: its issuer only chooses which settings and keys to hold it against, and addresses or keys in its header are
never looked at. No message repeats anything of a token.

Not here: fetching keys (`issuer`), what claims mean (`oidc`), remembering what was proven (`auth`).
"""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt

from inhouse.core import Identity
from inhouse.errors import StackError, Unauthorized
from inhouse.tenancy.issuer import IssuerKeys, Run, in_thread
from inhouse.tenancy.oidc import IssuerReport, OidcSettings, identity_of

REMEMBERED_S_MAX = 60.0
"""A proven token is looked at afresh after this time at the latest."""
_SECONDS_MAX = 2.0**53
_TYPES = {"jwt", "at+jwt"}
_NEW = "get a new one from its issuer"

_signatures = jwt.PyJWS()


@dataclass(frozen=True, slots=True)
class Header:
    """What a token's header says, as yet unproven."""

    algorithm: str
    key_id: str | None


class JwtProver:
    """Proves tokens of any of `issuers`. `tell` hears each change of an issuer's state.

    Raises `StackError` where two settings name one issuer.
    """

    def __init__(
        self,
        issuers: Sequence[OidcSettings],
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        run: Run = in_thread,
        tell: Callable[[IssuerReport], None] | None = None,
    ) -> None:
        self._clock = clock
        self._tell = tell
        self._issuers: dict[str, tuple[OidcSettings, IssuerKeys]] = {}
        for settings in issuers:
            if settings.issuer in self._issuers:
                raise StackError(f"the issuer {settings.issuer} is there twice", where="auth.oidc")
            self._issuers[settings.issuer] = settings, IssuerKeys(settings, monotonic=monotonic, run=run)
        self._told: dict[str, IssuerReport] = {}

    def prove(self, token: str) -> tuple[Identity, float]:
        """See `oidc.TokenProver`."""
        parts = token.split(".")
        if len(parts) != 3:
            raise Unauthorized(f"this is not a signed token of three parts; {_NEW}")
        header = read_header(parts[0])
        settings, keys = self._issuer(parts[1])
        if header.algorithm not in settings.algorithms:
            raise Unauthorized(
                f"this token's signing algorithm is not accepted here; accepted: {', '.join(settings.algorithms)}"
            )
        claims = signed_claims(token, keys.key(header.key_id, header.algorithm), header.algorithm)
        now = self._clock()
        accepted_until = check_claims(claims, settings, now=now)
        identity = identity_of(claims, settings)
        return identity, min(accepted_until, now + REMEMBERED_S_MAX, now + keys.good_for_s)

    def refresh(self) -> Hashable:
        for _, keys in self._issuers.values():
            keys.refresh()
        for report in self.reports() if self._tell else ():
            if self._tell and self._told.get(report.issuer) != report:
                self._told[report.issuer] = report
                self._tell(report)
        return tuple(keys.version for _, keys in self._issuers.values())

    def reports(self) -> tuple[IssuerReport, ...]:
        return tuple(keys.report() for _, keys in self._issuers.values())

    def _issuer(self, unproven: str) -> tuple[OidcSettings, IssuerKeys]:
        name = _object(unproven).get("iss")
        found = self._issuers.get(name) if isinstance(name, str) else None
        if found is None:
            raise Unauthorized(f"this token is from an issuer that is not accepted here, or names none; {_NEW}")
        return found


def read_header(part: str) -> Header:
    """Raises `Unauthorized` for a token's first part that is unreadable or asks for what is not understood here."""
    header = _object(part)
    algorithm, key_id, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(algorithm, str) or not isinstance(key_id, str | None):
        raise Unauthorized(f"this token's header is not readable; {_NEW}")
    if "crit" in header or "b64" in header:  # RFC 7515, 4.1.11: what is critical and not understood is refused
        raise Unauthorized("this token asks for extensions that are not supported here")
    if not isinstance(kind, str) or kind.lower().removeprefix("application/") not in _TYPES:
        raise Unauthorized("this token is of a kind that is no proof of identity; send an access token or an ID token")
    return Header(algorithm, key_id)


def signed_claims(token: str, key: jwt.PyJWK, algorithm: str) -> dict[str, Any]:
    """The claims, once the signature holds. Raises `Unauthorized`."""
    try:
        payload = _signatures.decode(token, key, algorithms=[algorithm])
    except (jwt.PyJWTError, ValueError):
        raise Unauthorized(f"this token's signature is not valid; check that it was copied whole, or {_NEW}") from None
    return _parsed(payload)


def check_claims(claims: Mapping[str, Any], settings: OidcSettings, *, now: float) -> float:
    """Until when the token is accepted, leeway included. Raises `Unauthorized` for another issuer, audience or time."""
    if claims.get("iss") != settings.issuer:
        raise Unauthorized("this token is from another issuer")
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if not any(isinstance(one, str) and one in settings.audiences for one in audiences):
        raise Unauthorized("this token was made for another audience; ask its issuer for one that is meant for here")
    expires_at = _seconds(claims, "exp")
    if expires_at is None:
        raise Unauthorized("this token has no claim 'exp', so it would never expire; such tokens are not accepted")
    if now >= expires_at + settings.leeway_s:
        raise Unauthorized(f"this token has expired; {_NEW}", why="expired")
    for name in ("nbf", "iat"):
        begins_at = _seconds(claims, name)
        if begins_at is not None and now < begins_at - settings.leeway_s:
            raise Unauthorized(f"this token is not valid yet (claim '{name}'); check the clocks of issuer and gateway")
    return expires_at + settings.leeway_s


def _seconds(claims: Mapping[str, Any], name: str) -> float | None:
    """RFC 7519, 2: a NumericDate. Python's JSON also knows NaN and Infinity, which no comparison would catch."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _SECONDS_MAX:
        raise Unauthorized(f"this token's claim '{name}' is not a time in seconds")
    return float(value)


def _object(segment: str) -> dict[str, Any]:
    """A part of a token that is not proven yet."""
    try:
        return _parsed(urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    except ValueError:
        raise Unauthorized(f"this token is damaged; check that it was copied whole, or {_NEW}") from None


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Unauthorized(f"this token is damaged; check that it was copied whole, or {_NEW}")
    return found
