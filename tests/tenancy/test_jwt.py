"""Tokens against a real issuer: which prove their holder, for how long, and what the refused are told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from tests.tenancy.issuer_server import AUDIENCE, NOW, Clock, LocalIssuer, local_issuer
from tests.tenancy.oidc_door import authenticator, identify

from inhouse.core import Identity
from inhouse.errors import Forbidden, Unauthorized
from inhouse.tenancy.auth import Authenticator
from inhouse.tenancy.jwt import JwtProver, check_claims
from inhouse.tenancy.oidc import ALGORITHMS, OidcSettings


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def issuer() -> Iterator[LocalIssuer]:
    with local_issuer() as issuer:
        issuer.publish("RS256", "ES256", "EdDSA", "ES384")
        yield issuer


@pytest.fixture
def auth(issuer: LocalIssuer) -> Authenticator:
    return authenticator(issuer, Clock())


@pytest.mark.parametrize("kind", ["RS256", "ES256", "EdDSA"])
def test_a_good_token_opens_in_either_header(auth: Authenticator, issuer: LocalIssuer, kind: str) -> None:
    """Tenant and role come from its claims, the name from issuer and subject."""
    token = issuer.token(kind)
    identity = identify(auth, token)
    assert (identity.tenant, identity.roles) == ("acme", frozenset({"developer"}))
    assert identity.key_id.startswith("oidc:")
    assert auth.identify(None, token.encode()) == identity
    assert identify(auth, issuer.token(kind, sub="someone@example.org")).key_id != identity.key_id


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_every_algorithm_in_the_table_works_when_it_is_listed(clock: Clock, algorithm: str) -> None:
    """And is refused by name when it is not."""
    with local_issuer() as issuer:
        issuer.publish(algorithm)
        token = issuer.token(algorithm)
        assert identify(authenticator(issuer, clock, algorithms=(algorithm,)), token).tenant == "acme"
        other = "ES256" if algorithm != "ES256" else "RS256"
        with pytest.raises(Unauthorized, match=f"not accepted here; accepted: {other}$"):
            identify(authenticator(issuer, clock, algorithms=(other,)), token)


@pytest.mark.parametrize("kind", [None, "JWT", "jwt", "at+jwt", "application/at+jwt"])
def test_usual_kinds_are_taken(auth: Authenticator, issuer: LocalIssuer, kind: str | None) -> None:
    """ID tokens and access tokens (RFC 9068)."""
    assert identify(auth, issuer.token(header={"typ": kind})).tenant == "acme"


@pytest.mark.parametrize(
    ("claims", "told"),
    [
        ({"exp": NOW - 31}, "has expired"),
        ({"exp": NOW - 30}, "has expired"),
        ({"exp": 0}, "has expired"),
        ({"exp": None}, "no claim 'exp'"),
        ({"exp": "soon"}, "'exp' is not a time"),
        ({"exp": True}, "'exp' is not a time"),
        ({"exp": -1}, "'exp' is not a time"),
        ({"exp": float("nan")}, "'exp' is not a time"),
        ({"exp": float("inf")}, "'exp' is not a time"),
        ({"exp": 10**400}, "'exp' is not a time"),
        ({"nbf": NOW + 31}, "not valid yet"),
        ({"nbf": float("nan")}, "'nbf' is not a time"),
        ({"iat": NOW + 31}, "not valid yet"),
        ({"iat": "x"}, "'iat' is not a time"),
        ({"aud": "other"}, "another audience"),
        ({"aud": ["other", "inhouse2", 7]}, "another audience"),
        ({"aud": []}, "another audience"),
        ({"aud": None}, "another audience"),
        ({"aud": {"inhouse": 1}}, "another audience"),
        ({"iss": "https://evil.example.org"}, "issuer that is not accepted"),
        ({"iss": None}, "issuer that is not accepted"),
        ({"iss": ["x"]}, "issuer that is not accepted"),
        ({"sub": None}, "no claim 'sub'"),
    ],
)
def test_claims_that_do_not_fit_are_refused(
    auth: Authenticator, issuer: LocalIssuer, claims: dict[str, Any], told: str
) -> None:
    """Although the signature holds; each with a sentence of its own."""
    with pytest.raises(Unauthorized, match=told):
        identify(auth, issuer.token(**claims))


def test_claims_are_held_to_the_issuer_whose_key_signed(issuer: LocalIssuer) -> None:
    """Also where the settings were not chosen by that very claim."""
    accepted = OidcSettings(issuer=issuer.url, audiences=(AUDIENCE,))
    assert check_claims(issuer.claims(), accepted, now=NOW) == NOW + 330
    for name in ("https://evil.example.org", issuer.url + "/", None, 7):
        with pytest.raises(Unauthorized, match="from another issuer"):
            check_claims(issuer.claims() | {"iss": name}, accepted, now=NOW)


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": NOW - 29.9},
        {"nbf": NOW + 30},
        {"iat": NOW + 30},
        {"aud": ["other", AUDIENCE]},
        {"exp": 2**53},
        {"nbf": None, "iat": None},
    ],
)
def test_claims_at_the_edge_are_taken(auth: Authenticator, issuer: LocalIssuer, claims: dict[str, Any]) -> None:
    """The leeway holds on both sides, to its last moment."""
    assert identify(auth, issuer.token(**claims)).tenant == "acme"


def test_without_leeway_the_second_counts(issuer: LocalIssuer, clock: Clock) -> None:
    """`exp` itself is too late (RFC 7519, 4.1.4), `nbf` itself is not too early."""
    auth = authenticator(issuer, clock, leeway_s=0)
    assert identify(auth, issuer.token(exp=NOW + 0.5, nbf=NOW)).tenant == "acme"
    with pytest.raises(Unauthorized, match="has expired"):
        identify(auth, issuer.token(exp=NOW))


def test_a_holder_without_rights_is_forbidden(auth: Authenticator, issuer: LocalIssuer) -> None:
    """Genuine and not entitled is 403, so that the holder does not fetch new tokens in vain."""
    with pytest.raises(Forbidden, match="no claim 'tenant'"):
        identify(auth, issuer.token(tenant=None))


class Counting(JwtProver):
    """Counts how often a token is really looked at."""

    looked = 0

    def prove(self, token: str) -> tuple[Identity, float]:
        self.looked += 1
        return super().prove(token)


@pytest.mark.parametrize(("lifetime_s", "remembered_s"), [(300, 60), (10, 40)])
def test_a_proven_token_is_remembered_for_a_while(
    issuer: LocalIssuer, clock: Clock, lifetime_s: float, remembered_s: float
) -> None:
    """For a minute at most, and never past its expiry with the leeway."""
    prover = Counting([OidcSettings(issuer=issuer.url, audiences=(AUDIENCE,))], clock=clock, run=lambda work: work())
    auth = Authenticator(None, tokens=prover, clock=clock)
    auth.refresh()
    token = issuer.token(exp=NOW + lifetime_s)
    for _ in range(3):
        identify(auth, token)
        clock.now = NOW + remembered_s - 0.1
        auth.refresh()
    assert prover.looked == 1
    clock.now = NOW + remembered_s
    if lifetime_s + 30 > remembered_s:
        identify(auth, token)
    else:
        with pytest.raises(Unauthorized, match="has expired"):
            identify(auth, token)
    assert prover.looked == 2


def test_two_issuers_do_not_vouch_for_each_other(issuer: LocalIssuer, clock: Clock) -> None:
    """Each is held to its own keys and settings; one subject at two issuers is two callers."""
    with local_issuer() as second:
        second.publish("ES256", number=1)
        accepted = [OidcSettings(issuer=one.url, audiences=(AUDIENCE,)) for one in (issuer, second)]
        prover = JwtProver(accepted, clock=clock, monotonic=clock, run=lambda work: work())
        auth = Authenticator(None, tokens=prover, clock=clock)
        auth.refresh()
        assert identify(auth, issuer.token()) != identify(auth, second.token(number=1))
        with pytest.raises(Unauthorized, match="does not publish"):
            identify(auth, second.token(iss=issuer.url, number=1))
        with pytest.raises(Unauthorized, match="signature is not valid"):
            identify(auth, second.token(iss=issuer.url, number=1, header={"kid": "ES256-0"}))


def test_without_issuers_a_token_is_told_so(issuer: LocalIssuer) -> None:
    """Rather than that its key is unknown."""
    with pytest.raises(Unauthorized, match="no issuer of tokens is set up"):
        identify(Authenticator(None), issuer.token())


def test_keys_work_beside_tokens(issuer: LocalIssuer, clock: Clock) -> None:
    """A static key may even look like a token."""
    prover = JwtProver([OidcSettings(issuer=issuer.url, audiences=(AUDIENCE,))], clock=clock, run=lambda work: work())
    auth = Authenticator(None, static_keys=["a.static.key-of-old", "another-static-key"], tokens=prover, clock=clock)
    assert auth.identify(None, b"a.static.key-of-old").key_id == "static-1"
    assert auth.identify(None, b"another-static-key").key_id == "static-2"
    with pytest.raises(Unauthorized, match="not known here"):
        auth.identify(None, b"sk-ih-aaaaaaaaaa-" + b"A" * 43)


def test_without_the_extra_the_start_says_what_to_install(issuer: LocalIssuer) -> None:
    """A stack with an issuer and without PyJWT stops the start with the command to run."""
    script = (
        "import sys; sys.modules['jwt'] = None\n"
        "from inhouse.errors import StackError\n"
        "from inhouse.tenancy.oidc import OidcSettings, token_prover\n"
        "try: token_prover([OidcSettings(issuer='https://id.example.org', audiences=('a',))])\n"
        "except StackError as error: print(error.where, error.message, error.hint)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, timeout=60, capture_output=True, text=True)
    assert "issuers" in done.stdout
    assert "pip install 'inhouse[oidc]'" in done.stdout
