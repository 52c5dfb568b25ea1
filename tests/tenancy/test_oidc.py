"""What the settings of an issuer accept, and which caller claims describe."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.errors import Forbidden, StackError, Unauthorized
from inhouse.tenancy.oidc import ALGORITHMS, OidcSettings, claim_at, identity_of, token_prover

PLAIN = OidcSettings(issuer="https://id.example.org/realms/main", audiences=("inhouse",))
ROLED = dataclasses.replace(
    PLAIN, roles_claim="realm_access.roles", role_map={"llm-admins": "admin", "llm-users": "developer"}
)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"issuer": "http://id.example.org"}, "must start with https://"),
        ({"issuer": "ftp://localhost"}, "must start with https://"),
        ({"issuer": "file:///etc/passwd"}, "not a URL with a host"),
        ({"issuer": "id.example.org"}, "not a URL with a host"),
        ({"issuer": "https://[::1"}, "not a URL"),
        ({"issuer": "https://id.example.org:port"}, "not a URL"),
        ({"issuer": "https://me:pass@id.example.org"}, "user name or password"),
        ({"issuer": "https://id.example.org?x=1"}, "query or a fragment"),
        ({"issuer": "https://id.example.org/a b"}, "cannot have"),
        ({"issuer": "https://id.example.org\n"}, "cannot have"),
        ({"audiences": ()}, "`audiences` is empty"),
        ({"audiences": ("",)}, "`audiences` is empty"),
        ({"algorithms": ()}, "`algorithms` is empty"),
        ({"algorithms": ("RS256", "none")}, "the algorithm none is never accepted: it has no signature"),
        ({"algorithms": ("nOnE",)}, "never accepted"),
        ({"algorithms": ("HS256",)}, "the algorithm HS256 is never accepted: its key is a secret"),
        ({"algorithms": ("hs512",)}, "never accepted"),
        ({"algorithms": ("ES256K",)}, "there is no algorithm ES256K; there are RS256"),
        ({"default_role": "root"}, "there is no role 'root'; there are admin, operator"),
        ({"roles_claim": "groups", "role_map": {"g": "boss"}}, "there is no role 'boss'"),
        ({"roles_claim": "groups"}, "every token would be refused"),
        ({"role_map": {"g": "admin"}}, "`roles_claim` is not"),
        ({"default_tenant": "two words"}, "`default_tenant` is"),
        ({"leeway_s": -1}, "`leeway_s` is between 0 and 300 seconds"),
        ({"leeway_s": float("nan")}, "`leeway_s` is between"),
        ({"jwks_ttl_s": 1}, "`jwks_ttl_s` is between 10 and 86400"),
        ({"jwks_grace_s": float("inf")}, "`jwks_grace_s` is between"),
        ({"fetch_timeout_s": 0}, "`fetch_timeout_s` is between"),
        ({"ca_file": Path("/does/not/exist")}, "`ca_file` is not a file"),
    ],
)
def test_settings_that_cannot_serve_stop_the_start(change: dict[str, Any], told: str) -> None:
    """Each with a sentence of its own; what would let everybody in is refused although it was asked for."""
    with pytest.raises(StackError, match=told) as caught:
        dataclasses.replace(PLAIN, **change)
    assert caught.value.where == "issuers"


def test_all_mistakes_are_told_together() -> None:
    """One start, one list."""
    with pytest.raises(StackError, match=r"must start with https.*; `audiences` is empty.*HS256"):
        OidcSettings(issuer="http://id.example.org", audiences=(), algorithms=("HS256",))


@pytest.mark.parametrize("issuer", ["http://127.0.0.1:9400", "http://localhost/realm/", "http://[::1]:80"])
def test_plain_http_is_for_this_machine(issuer: str) -> None:
    """A developer's issuer needs no certificate."""
    assert OidcSettings(issuer=issuer, audiences=("a",)).issuer == issuer


def test_no_algorithm_has_a_shared_secret() -> None:
    """The table of what can be switched on holds public-key signatures only."""
    assert {kind for kind, _ in ALGORITHMS.values()} == {"RSA", "EC", "OKP"}


def test_an_issuer_named_twice_stops_the_start() -> None:
    """Which settings would count is not left to chance."""
    with pytest.raises(StackError, match="is there twice"):
        token_prover([PLAIN, dataclasses.replace(PLAIN, audiences=("other",))])


def test_a_callers_name_holds_no_personal_data() -> None:
    """Issuer and subject are hashed; the same holder has the same name, another issuer's holder another."""
    first = identity_of({"sub": "mia@example.org", "tenant": "acme"}, PLAIN)
    assert first.key_id.startswith("oidc:")
    assert "mia" not in first.key_id
    assert first == identity_of({"sub": "mia@example.org", "tenant": "acme", "jti": "x"}, PLAIN)
    other = dataclasses.replace(PLAIN, issuer="https://other.example.org")
    names = {
        first.key_id,
        identity_of({"sub": "mia@example.org", "tenant": "acme"}, other).key_id,
        identity_of({"sub": "mia@example.orG", "tenant": "acme"}, PLAIN).key_id,
    }
    assert len(names) == 3
    assert all(len(name) == len("oidc:") + 8 + 1 + 24 for name in names)


@pytest.mark.parametrize("subject", [None, "", 7, ["mia"]])
def test_a_token_without_a_subject_is_refused(subject: object) -> None:
    """Holders that cannot be told apart would share quotas and audit entries."""
    with pytest.raises(Unauthorized, match="'sub'"):
        identity_of({"sub": subject, "tenant": "acme"}, PLAIN)


@pytest.mark.parametrize(
    ("path", "claims", "expected"),
    [
        ("tenant", {"tenant": "acme"}, "acme"),
        ("org.unit.name", {"org": {"unit": {"name": "acme"}}}, "acme"),
        ("https://example.org/tenant", {"https://example.org/tenant": "acme"}, "acme"),
        ("https://example.org/app.id", {"https://example.org/app": {"id": "acme"}}, "acme"),
        ("resource_access.my.client.roles", {"resource_access": {"my.client": {"roles": "acme"}}}, "acme"),
        ("a.b", {"a.b": "exact", "a": {"b": "nested"}}, "exact"),
        ("a.b", {"a": "flat"}, None),
        ("a.b", {"a": {"c": 1}}, None),
        ("a.", {"a": {"": "acme"}}, "acme"),
        (".", {}, None),
    ],
)
def test_a_claim_is_found_by_its_path(path: str, claims: dict[str, Any], expected: object) -> None:
    """Nested claims, names with dots, and both mixed."""
    assert claim_at(claims, path) == expected


def test_a_missing_tenant_is_refused_unless_there_is_a_default() -> None:
    """The refusal names the claim and who can add it."""
    with pytest.raises(Forbidden, match=r"no claim 'tenant'.*administrator"):
        identity_of({"sub": "mia"}, PLAIN)
    assert identity_of({"sub": "mia"}, dataclasses.replace(PLAIN, default_tenant="staff")).tenant == "staff"


@pytest.mark.parametrize("value", ["", "two words", "a/b", "../x", "ä", "x" * 65, 7, True, ["acme"], {"a": 1}, "a\n"])
def test_a_tenant_that_cannot_be_one_is_refused(value: object) -> None:
    """Also where there is a default: a claim that is there and wrong is not silently passed over."""
    with pytest.raises(Forbidden, match="not the name of a tenant"):
        identity_of({"sub": "mia", "tenant": value}, dataclasses.replace(PLAIN, default_tenant="staff"))


@pytest.mark.parametrize(
    ("value", "roles"),
    [
        (["llm-admins"], {"admin"}),
        (["other", "llm-users", "llm-admins", 7, None], {"admin", "developer"}),
        ("llm-users", {"developer"}),
    ],
)
def test_mapped_values_become_roles(value: object, roles: set[str]) -> None:
    """Lists and single texts; what is not mapped counts for nothing."""
    assert identity_of({"sub": "m", "tenant": "t", "realm_access": {"roles": value}}, ROLED).roles == roles


@pytest.mark.parametrize("value", [[], ["admin"], "llm-users llm-admins", {"llm-admins": True}, 7, None])
def test_a_token_without_a_mapped_role_is_refused_or_has_the_default(value: object) -> None:
    """An issuer's own role called `admin` is not ours, and words in a text are not values of their own."""
    claims = {"sub": "m", "tenant": "t", "realm_access": {"roles": value}}
    with pytest.raises(Forbidden, match=r"claim 'realm_access.roles' gives a role"):
        identity_of(claims, ROLED)
    assert identity_of(claims, dataclasses.replace(ROLED, default_role="auditor")).roles == {"auditor"}


def test_without_a_roles_claim_every_token_is_a_developer() -> None:
    """As keys are; the default can be another."""
    claims = {"sub": "m", "tenant": "t", "roles": ["admin"]}
    assert identity_of(claims, PLAIN).roles == {"developer"}
    assert identity_of(claims, dataclasses.replace(PLAIN, default_role="auditor")).roles == {"auditor"}


def test_scopes_are_words() -> None:
    """RFC 9068: `scope` is one text of words."""
    settings = dataclasses.replace(PLAIN, roles_claim="scope", role_map={"llm:admin": "admin"})
    assert identity_of({"sub": "m", "tenant": "t", "scope": "openid llm:admin"}, settings).roles == {"admin"}


def test_required_claims_keep_others_customers_out() -> None:
    """A public issuer signs for everybody; each claim must have one of its accepted values, to the letter."""
    settings = dataclasses.replace(PLAIN, required_claims={"hd": ("example.org",), "groups": ("a", "b")})
    good = {"sub": "m", "tenant": "t", "hd": "example.org", "groups": ["x", "b"]}
    assert identity_of(good, settings).tenant == "t"
    for change in ({"hd": "evil.org"}, {"hd": "evil.org example.org"}, {"hd": None}, {"groups": ["x"]}, {"groups": 1}):
        with pytest.raises(Forbidden, match="no value that is accepted here") as caught:
            identity_of(good | change, settings)
        assert "evil" not in caught.value.message


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_names = st.sampled_from(["sub", "tenant", "realm_access", "roles", "aud"]) | st.text(max_size=5)


@given(claims=st.dictionaries(_names, _json, max_size=5))
def test_any_claims_give_a_caller_or_a_refusal(claims: dict[str, Any]) -> None:
    """Never another error, and never a role that is not ours."""
    try:
        identity = identity_of(claims, ROLED)
    except (Forbidden, Unauthorized):
        return
    assert identity.roles <= {"admin", "developer"}
    assert identity.roles
