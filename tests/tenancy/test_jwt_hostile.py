"""Tokens that somebody forged, changed or made up: none of them opens, and none is repeated in an answer."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.tenancy.issuer_server import (
    Clock,
    LocalIssuer,
    b64,
    hmac_sign,
    local_issuer,
    part,
    private_key,
    public_pem,
    sign,
)
from tests.tenancy.oidc_door import authenticator, identify

from inhouse.errors import ApiError, Unauthorized
from inhouse.tenancy.auth import Authenticator


@pytest.fixture(scope="module")
def issuer() -> Iterator[LocalIssuer]:
    with local_issuer() as issuer:
        issuer.publish("RS256", "ES256", "EdDSA", "ES384")
        yield issuer


@pytest.fixture
def auth(issuer: LocalIssuer) -> Authenticator:
    return authenticator(issuer, Clock())


@pytest.mark.parametrize("kind", ["RS256", "ES256", "EdDSA"])
def test_a_forged_token_is_refused(auth: Authenticator, issuer: LocalIssuer, kind: str) -> None:
    """Another key's signature, changed claims, changed header, a cut or foreign signature: all are worth nothing."""
    head, body, signature = issuer.token(kind).split(".")
    forged = f"{head}.{part(issuer.claims(tenant='rival'))}"
    flipped = bytearray(urlsafe_b64decode(signature + "=="))
    flipped[-1] ^= 1
    for token in (
        f"{forged}.{signature}",
        f"{forged}.{b64(sign(kind, private_key(kind, 9), forged.encode()))}",
        f"{head}.{body}.{b64(bytes(flipped))}",
        f"{head}.{body}.{signature[:-4]}",
        f"{head}.{body}.{b64(bytes(64))}",
        f"{part({'alg': kind, 'kid': f'{kind}-0', 'x': 1})}.{body}.{signature}",
    ):
        with pytest.raises(Unauthorized, match="signature is not valid"):
            identify(auth, token)


def test_a_token_without_a_signature_is_refused(auth: Authenticator, issuer: LocalIssuer) -> None:
    """`alg: none` in any spelling, with and without a third part; also with a proper algorithm and nothing signed."""
    body = part(issuer.claims())
    for name in ("none", "None", "NONE", "nOnE", ""):
        for end in ("", "AAAA"):
            with pytest.raises(Unauthorized, match="algorithm is not accepted"):
                identify(auth, f"{part({'alg': name})}.{body}.{end}")
    with pytest.raises(Unauthorized, match="signature is not valid"):
        identify(auth, f"{part({'alg': 'ES256', 'kid': 'ES256-0'})}.{body}.")


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512", "RS256"])
def test_a_public_key_is_no_shared_secret(auth: Authenticator, issuer: LocalIssuer, algorithm: str) -> None:
    """HMAC with the published key as its secret, in its forms, is refused whatever the header calls it."""
    key = private_key("RS256")
    message = f"{part({'alg': algorithm, 'kid': 'RS256-0'})}.{part(issuer.claims())}"
    for secret in (public_pem(key), public_pem(key).strip(), json.dumps(issuer.keys[0]).encode(), b""):
        with pytest.raises(Unauthorized):
            identify(auth, f"{message}.{b64(hmac_sign(secret, message.encode()))}")


def test_a_key_serves_no_other_algorithm_than_its_own(auth: Authenticator, issuer: LocalIssuer) -> None:
    """An RSA key named in a token of elliptic curves, and the other way round; nor another hash than is listed."""
    for header in ({"alg": "ES256", "kid": "RS256-0"}, {"alg": "RS256", "kid": "ES256-0"}):
        with pytest.raises(Unauthorized, match="does not publish"):
            identify(auth, issuer.token("ES256", header=header))
    with pytest.raises(Unauthorized, match="not accepted here"):
        identify(auth, issuer.token("RS256", header={"alg": "RS512"}))


def test_a_key_in_the_header_is_not_looked_at(auth: Authenticator, issuer: LocalIssuer) -> None:
    """A token cannot bring its own key, nor name an address of one: no such address is ever asked."""
    before = list(issuer.asked)
    for header in (
        {"jwk": {"kty": "EC"}, "kid": "ES256-0"},
        {"jku": f"{issuer.url}/evil", "kid": "ES256-0"},
        {"x5u": f"{issuer.url}/evil", "x5c": ["AAAA"], "kid": "ES256-0"},
    ):
        message = f"{part({'alg': 'ES256'} | header)}.{part(issuer.claims())}"
        with pytest.raises(Unauthorized, match="signature is not valid"):
            identify(auth, f"{message}.{b64(sign('ES256', private_key('ES256', 9), message.encode()))}")
    assert issuer.asked == before


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ({"crit": ["exp"]}, "extensions"),
        ({"b64": False, "crit": ["b64"]}, "extensions"),
        ({"b64": False}, "extensions"),
        ({"typ": "dpop+jwt"}, "no proof of identity"),
        ({"typ": "logout+jwt"}, "no proof of identity"),
        ({"typ": 7}, "no proof of identity"),
        ({"kid": 7}, "header is not readable"),
        ({"alg": None}, "header is not readable"),
        ({"alg": ["ES256"]}, "header is not readable"),
    ],
)
def test_a_header_that_asks_for_the_unknown_is_refused(
    auth: Authenticator, issuer: LocalIssuer, header: dict[str, Any], told: str
) -> None:
    """Although the signature holds."""
    with pytest.raises(Unauthorized, match=told):
        identify(auth, issuer.token(header=header))


def test_the_forged_learn_nothing_of_the_rules(auth: Authenticator, issuer: LocalIssuer) -> None:
    """The signature is judged before claims: one answer for every forged token, whatever it claims."""
    for claims in ({"aud": "other"}, {"exp": 1}, {"tenant": None}, {"sub": None}):
        head, _, signature = issuer.token().split(".")
        with pytest.raises(Unauthorized, match="signature is not valid"):
            identify(auth, f"{head}.{part(issuer.claims(**claims))}.{signature}")


def test_a_token_over_the_limit_of_headers_is_refused(auth: Authenticator, issuer: LocalIssuer) -> None:
    """8192 bytes with `Bearer` in front, whatever is in it."""
    assert identify(auth, issuer.token(groups=["x" * 50] * 80)).tenant == "acme"
    with pytest.raises(Unauthorized, match="longer than 8192 bytes"):
        identify(auth, issuer.token(groups=["x" * 50] * 130))


def test_damaged_tokens_are_told_apart_from_forged_ones(auth: Authenticator, issuer: LocalIssuer) -> None:
    """What is no JSON, no object, too deep, or of another number of parts."""
    head, body, signature = issuer.token().split(".")
    deep = b64(b"[" * 5000)
    for token in (
        f"AAAA.{body}.{signature}",
        f"{head}.AAAA.{signature}",
        f"{head}.{deep}.{signature}",
        f"{deep}.{body}.{signature}",
        f"{head}.{b64(b'[1]')}.{signature}",
        f"{head}.{b64(b'1' * 5000)}.{signature}",
    ):
        with pytest.raises(Unauthorized, match="is damaged"):
            identify(auth, token)
    for token in (f"{head}.{body}", f"{head}.{body}.{signature}.{signature}", f"{head}.{body}.{signature}="):
        with pytest.raises(Unauthorized, match="not known here"):
            identify(auth, token)


_segment = st.text("abcABC019-_", max_size=12) | st.binary(max_size=40).map(b64)
_value = st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.lists(st.text(max_size=3), max_size=2)
_names = st.sampled_from(["alg", "kid", "typ", "crit", "iss", "aud", "exp", "nbf", "sub", "tenant"])
_object = st.dictionaries(_names, _value, max_size=6).map(part)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(head=_object | _segment, body=_object | _segment, signature=_segment)
def test_garbage_is_refused_and_nothing_else(auth: Authenticator, head: str, body: str, signature: str) -> None:
    """Whatever three parts come, the answer is Unauthorized."""
    with pytest.raises(Unauthorized):
        identify(auth, f"{head}.{body}.{signature}")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_a_changed_token_is_refused(auth: Authenticator, issuer: LocalIssuer, data: st.DataObject) -> None:
    """One character changed, left out or put in, anywhere."""
    token = issuer.token("EdDSA")
    at = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.sampled_from("Ab9_.-"))
    changed = data.draw(
        st.sampled_from([token[:at] + letter + token[at + 1 :], token[:at] + token[at + 1 :], token[:at] + letter])
    )
    if changed != token:
        with pytest.raises(ApiError):
            identify(auth, changed)
