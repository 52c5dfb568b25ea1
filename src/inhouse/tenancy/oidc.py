"""What is accepted from an issuer of tokens, and which caller its claims describe. Pure.

A caller's `key_id` is `oidc:<issuer>:<subject>`, both parts hashes: logs, usage and metrics never hold an e-mail
address or a user name. It is a pseudonym: who knows a subject can compute it.

Not here: whether a token is genuine (`jwt`), where keys come from (`issuer`). Needs no library beyond Python's own, so
a config can be checked without the extra `oidc`.
"""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from inhouse.core import Identity
from inhouse.errors import Forbidden, StackError, Unauthorized
from inhouse.tenancy.fetch import url_fault
from inhouse.tenancy.roles import ROLES

ALGORITHMS: dict[str, tuple[str, str | None]] = {
    "RS256": ("RSA", None),
    "RS384": ("RSA", None),
    "RS512": ("RSA", None),
    "PS256": ("RSA", None),
    "PS384": ("RSA", None),
    "PS512": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}
"""Signing algorithm → type and curve of the key that it needs. Nothing with a shared secret is ever added here."""

State = Literal["pending", "ready", "stale", "lost"]

LEEWAY_S_MAX = 300.0
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_WHERE = "issuers"


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """One issuer and what its tokens mean here. Raises `StackError` for values that would let in too many or nobody.

    Claims are named by a path with dots (`realm_access.roles`); a claim whose own name has dots is found too.
    """

    issuer: str
    """As the tokens' `iss` has it, to the letter."""
    audiences: tuple[str, ...]
    """A token is accepted if its `aud` has one of these."""
    algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA")
    leeway_s: float = 30.0
    """How far the issuer's clock may be off."""
    tenant_claim: str = "tenant"
    default_tenant: str | None = None
    """The tenant of tokens without the claim; without it they are refused."""
    roles_claim: str | None = None
    """Without it every token has `default_role`, or `developer`."""
    role_map: Mapping[str, str] = field(default_factory=dict)
    """Value of the claim → role. Values that are not here count for nothing."""
    default_role: str | None = None
    """The role of tokens whose claim maps to none; without it they are refused."""
    required_claims: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Claim → accepted values; each must be there."""
    jwks_ttl_s: float = 300.0
    """How long fetched keys count as current. They are fetched again after four fifths of it."""
    jwks_grace_s: float = 3600.0
    """How long keys serve on past that while the issuer cannot be reached."""
    fetch_timeout_s: float = 5.0
    ca_file: Path | None = None
    """Authorities that vouch for the issuer, in place of the system's."""

    def __post_init__(self) -> None:
        faults = _faults(self)
        if faults:
            raise StackError("; ".join(faults), where=_WHERE)


@dataclass(frozen=True, slots=True)
class IssuerReport:
    """How an issuer's keys stand; `reason` is the last failure where the last attempt failed."""

    issuer: str
    state: State
    """`pending`: never fetched. `stale`: past their time, in grace. `lost`: past their grace, tokens are refused."""
    keys: int
    reason: str | None = None


class TokenProver(Protocol):
    """What the authenticator asks about a token. `jwt.JwtProver` is the one that ships."""

    def prove(self, token: str) -> tuple[Identity, float]:
        """The caller and until when (seconds since 1970) that may be remembered.

        Raises `Unauthorized`, `Forbidden`, `Unavailable`."""

    def refresh(self) -> Hashable:
        """Called about once a second. Equal to the last answer while nothing that was proven has been taken back."""

    def reports(self) -> tuple[IssuerReport, ...]: ...


def token_prover(
    issuers: Sequence[OidcSettings],
    *,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
    tell: Callable[[IssuerReport], None] | None = None,
) -> TokenProver:
    """`tell` hears each change of an issuer's state. Raises `StackError` where the extra `oidc` is not installed."""
    try:
        from inhouse.tenancy.jwt import JwtProver  # PyJWT is an extra, and a slow import
    except ModuleNotFoundError as error:
        raise StackError(
            f"tokens cannot be checked, the Python package '{error.name}' is missing",
            where=_WHERE,
            hint="install it with `pip install 'inhouse[oidc]'`",
        ) from error
    return JwtProver(issuers, clock=clock, monotonic=monotonic, tell=tell)


def identity_of(claims: Mapping[str, Any], settings: OidcSettings) -> Identity:
    """The caller that a genuine token's claims describe. Raises `Unauthorized` without a subject, `Forbidden`."""
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject:
        raise Unauthorized("this token has no claim 'sub', so its holder cannot be told from others")
    for path, accepted in settings.required_claims.items():
        if not _values(claims, path) & set(accepted):
            raise Forbidden(f"this token's claim '{path}' has no value that is accepted here")
    return Identity(
        key_id=f"oidc:{_hash(settings.issuer)[:8]}:{_hash(settings.issuer, subject)[:24]}",
        tenant=_tenant(claims, settings),
        roles=_roles(claims, settings),
    )


def claim_at(claims: Mapping[str, Any], path: str) -> object:
    """The value at `path`, None where there is none. The longest name goes first, so names with dots are found."""
    if path in claims:
        return claims[path]
    cut = path.rfind(".")
    while cut > 0:
        inner = claims.get(path[:cut])
        if isinstance(inner, Mapping):
            found = claim_at(inner, path[cut + 1 :])
            if found is not None:
                return found
        cut = path.rfind(".", 0, cut)
    return None


def _values(claims: Mapping[str, Any], path: str) -> set[str]:
    """A claim's texts. `scope` and its short form hold words (RFC 9068, 2.2.3); any other text is one value."""
    value = claim_at(claims, path)
    if isinstance(value, str):
        return set(value.split()) if path in ("scope", "scp") else {value}
    return {one for one in value if isinstance(one, str)} if isinstance(value, list) else set()


def _tenant(claims: Mapping[str, Any], settings: OidcSettings) -> str:
    value = claim_at(claims, settings.tenant_claim)
    if value is None:
        if settings.default_tenant is None:
            raise Forbidden(
                f"this token has no claim '{settings.tenant_claim}', which says the tenant; ask the issuer's "
                "administrator to add it"
            )
        return settings.default_tenant
    if not isinstance(value, str) or not _TENANT.fullmatch(value):
        raise Forbidden(
            f"this token's claim '{settings.tenant_claim}' is not the name of a tenant: one text of at most 64 "
            "letters, digits, dots, dashes and underscores"
        )
    return value


def _roles(claims: Mapping[str, Any], settings: OidcSettings) -> frozenset[str]:
    if settings.roles_claim is None:
        return frozenset({settings.default_role or "developer"})
    given = _values(claims, settings.roles_claim)
    roles = frozenset(role for value, role in settings.role_map.items() if value in given)
    if roles:
        return roles
    if settings.default_role is None:
        raise Forbidden(f"none of the values of this token's claim '{settings.roles_claim}' gives a role here")
    return frozenset({settings.default_role})


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _faults(settings: OidcSettings) -> list[str]:
    fault = url_fault(settings.issuer)
    if fault is None and ("?" in settings.issuer or "#" in settings.issuer):
        fault = "contains a query or a fragment"
    faults = [f"the issuer {fault}"] if fault else []
    if not settings.audiences or not all(settings.audiences):
        faults.append("`audiences` is empty: tokens for any other program would be accepted; name this gateway's own")
    if not settings.algorithms:
        faults.append(f"`algorithms` is empty; usual are {', '.join(('RS256', 'ES256', 'EdDSA'))}")
    for name in settings.algorithms:
        if name.lower() == "none" or name.upper().startswith("HS"):
            faults.append(
                f"the algorithm {name} is never accepted: "
                + ("it has no signature" if name.lower() == "none" else "its key is a secret that is shared")
            )
        elif name not in ALGORITHMS:
            faults.append(f"there is no algorithm {name}; there are {', '.join(ALGORITHMS)}")
    roles = {*settings.role_map.values(), settings.default_role or "developer"}
    faults += [f"there is no role '{role}'; there are {', '.join(ROLES)}" for role in sorted(roles - ROLES.keys())]
    if settings.roles_claim is not None and not settings.role_map and settings.default_role is None:
        faults.append("`roles_claim` is set and `role_map` is empty: every token would be refused")
    if settings.roles_claim is None and settings.role_map:
        faults.append("`role_map` is set and `roles_claim` is not: no token would get a role from it")
    if settings.default_tenant is not None and not _TENANT.fullmatch(settings.default_tenant):
        faults.append("`default_tenant` is at most 64 letters, digits, dots, dashes and underscores")
    limits = {
        "leeway_s": (settings.leeway_s, 0, LEEWAY_S_MAX),
        "jwks_ttl_s": (settings.jwks_ttl_s, 10, 86_400),
        "jwks_grace_s": (settings.jwks_grace_s, 0, 7 * 86_400),
        "fetch_timeout_s": (settings.fetch_timeout_s, 0.1, 30),
    }
    for name, (value, least, most) in limits.items():
        if not (math.isfinite(value) and least <= value <= most):
            faults.append(f"`{name}` is between {least:g} and {most:g} seconds")
    if settings.ca_file is not None and not settings.ca_file.is_file():
        faults.append("`ca_file` is not a file")
    return faults
