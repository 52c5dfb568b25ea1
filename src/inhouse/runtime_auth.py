"""Puts together who is let in: keys of the store, declared keys, tokens of issuers. A part of `runtime`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from inhouse.config import IssuerSpec, Stack
from inhouse.core import KeyMinted, Report
from inhouse.store.contract import KeyStore
from inhouse.store.stores import Stores
from inhouse.telemetry.alarm import Alarm
from inhouse.telemetry.audit import Audit
from inhouse.telemetry.line import Level
from inhouse.telemetry.log import Log
from inhouse.tenancy.auth import Authenticator
from inhouse.tenancy.declared import DeclaredKeys
from inhouse.tenancy.keys import first_key
from inhouse.tenancy.oidc import IssuerReport, OidcSettings, token_prover


def authenticator(
    stack: Stack,
    environ: Mapping[str, str],
    store: KeyStore,
    log: Log,
    alarm: Alarm,
    audit: Audit,
    report: Callable[[Report], None],
) -> Authenticator:
    def tell(issuer: IssuerReport) -> None:
        level: Level = "info" if issuer.state == "ready" and issuer.reason is None else "warning"
        facts = {"state": issuer.state, "keys": issuer.keys, "reason": issuer.reason}
        log.event(level, "token issuer", issuer=issuer.issuer, **facts)

    def tell_of_file(key_id: str, reason: str | None) -> None:
        log.event("info" if reason is None else "warning", "declared key", key_id=key_id, reason=reason)

    declared = DeclaredKeys(stack.keys, environ, tell=tell_of_file)
    declared.check_apart_from(store)
    own = environ.get("INHOUSE_API_KEY")
    issuers = [_issuer(spec) for spec in stack.issuers.values()]
    tokens = token_prover(issuers, tell=tell) if issuers else None
    auth = Authenticator(
        store, static_keys=[own] if own else [], declared=declared, tokens=tokens, clock=time.time, tell=alarm.state
    )
    if stack.auth.enabled and not own and not declared:
        minted = first_key(store, now=time.time())
        if minted is not None:
            audit.act("key.made", tenant=minted.record.tenant, target=minted.record.id)
            report(KeyMinted(minted.key, minted.record.id, Stores.of(stack, environ).where))
    return auth


def _issuer(spec: IssuerSpec) -> OidcSettings:
    required: dict[str, tuple[str, ...]] = {}
    for claim, value in (pair.split("=") for pair in spec.required_claims):
        required[claim] = (*required.get(claim, ()), value)
    return OidcSettings(
        issuer=spec.issuer,
        audiences=tuple(spec.audiences),
        algorithms=tuple(spec.algorithms),
        leeway_s=spec.leeway,
        tenant_claim=spec.tenant_claim,
        default_tenant=spec.default_tenant,
        roles_claim=spec.roles_claim,
        role_map=dict(pair.split("=") for pair in spec.roles),
        default_role=spec.default_role,
        required_claims=required,
        jwks_ttl_s=spec.jwks_ttl,
        jwks_grace_s=spec.jwks_grace,
        fetch_timeout_s=spec.fetch_timeout,
        ca_file=spec.ca_file,
    )
