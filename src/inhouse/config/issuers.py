"""The section of the stack about token issuers (JWT, OIDC). What the settings do: `tenancy/oidc.py`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from inhouse.config.fields import Duration, Section, setting

_PAIR = r"[^=]+=[^=]+"


def _pairs(pairs: list[str]) -> list[str]:
    for pair in pairs:
        if not re.fullmatch(_PAIR, pair):
            raise ValueError("not a pair such as llm-admins=admin")
    return pairs


Pairs = Annotated[list[str], AfterValidator(_pairs)]


class IssuerSpec(Section):
    """One issuer whose tokens are accepted beside keys."""

    issuer: str = setting(
        ...,
        "The issuer of tokens, to the letter as their claim `iss` has it.",
        example="https://login.example/realms/a",
    )
    audiences: list[str] = setting(
        ..., "A token is accepted if its `aud` has one of these.", example=["inhouse"], min_length=1
    )
    algorithms: list[str] = setting(
        ["RS256", "ES256", "EdDSA"], "Signing algorithms that are accepted; `none` and HMAC never are."
    )
    leeway: Duration = setting(30.0, "How far the issuer's clock may be off.", unit="seconds", ge=0, le=300)
    tenant_claim: str = setting("tenant", "The claim that says the tenant, as a path with dots.")
    default_tenant: str | None = setting(
        None, "Tenant of tokens without that claim; without it they are refused.", example="staff"
    )
    roles_claim: str | None = setting(
        None,
        "The claim that holds roles; without it every token has `default_role`, or `developer`.",
        example="realm_access.roles",
    )
    roles: Pairs = setting(
        [],
        "Value of that claim to role, as `value=role`; other values count for nothing.",
        example=["llm-admins=admin"],
    )
    default_role: str | None = setting(
        None, "Role of tokens whose claim maps to none; without it they are refused.", example="developer"
    )
    required_claims: Pairs = setting(
        [],
        "Claims that must be there, as `claim=value`; of several for one claim, one is enough.",
        example=["org=acme"],
    )
    jwks_ttl: Duration = setting(300.0, "How long fetched keys count as current.", unit="seconds", ge=10, le=86400)
    jwks_grace: Duration = setting(
        3600.0, "How long they serve on while the issuer cannot be reached.", unit="seconds", ge=0, le=604800
    )
    fetch_timeout: Duration = setting(5.0, "Longest pause of the issuer during a fetch.", unit="seconds", ge=0.1, le=30)
    ca_file: Path | None = setting(
        None, "Authorities that vouch for the issuer, in place of the system's.", example="./ca.pem"
    )
