"""Which published keys may check a signature."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tenancy.issuer_server import b64, jwk, private_key

from inhouse.tenancy.jwk import parse_key_set
from inhouse.tenancy.oidc import ALGORITHMS

USUAL = ("RS256", "ES256", "EdDSA")


def fits(entry: dict[str, Any], algorithms: tuple[str, ...] = tuple(ALGORITHMS)) -> set[str]:
    return {algorithm for _, algorithm in parse_key_set({"keys": [entry]}, algorithms).keys}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("RS256", {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
        ("ES256", {"ES256"}),
        ("ES384", {"ES384"}),
        ("ES512", {"ES512"}),
        ("EdDSA", {"EdDSA"}),
    ],
)
def test_a_key_fits_the_algorithms_of_its_type_and_curve(kind: str, expected: set[str]) -> None:
    """Where it names one itself, only that; and none that is not listed."""
    key = private_key(kind)
    assert fits(jwk(key)) == expected
    assert fits(jwk(key, alg=kind)) == {kind}
    assert fits(jwk(key), ()) == set()


@pytest.mark.parametrize(
    "more",
    [
        {"use": "enc"},
        {"use": 7},
        {"key_ops": ["encrypt"]},
        {"key_ops": "verify"},
        {"alg": "RSA-OAEP"},
        {"alg": "HS256"},
        {"alg": 7},
        {"kid": 7},
        {"kty": "oct", "k": "AAAA"},
        {"kty": "EC"},
        {"kty": ["RSA"]},
        {"kty": None},
        {"d": "AAAA"},
        {"n": 7},
        {"n": "!"},
        {"n": ""},
        {"n": "ü"},
        {"e": None},
        {"e": "AA"},
        {"n": b64(bytes([255]) * 1025)},
    ],
)
def test_an_unfit_key_is_left_out(more: dict[str, Any]) -> None:
    """Encryption keys, secrets, private keys, wrong types: left out, and the fit key beside it stays."""
    unfit = jwk(private_key("RS256"), kid="unfit") | more
    found = parse_key_set({"keys": [unfit, "text", None, [], jwk(private_key("ES256"), kid="fit")]}, USUAL)
    assert set(found.keys) == {("fit", "ES256")}


def test_a_short_rsa_key_is_left_out() -> None:
    """Below 2048 bits it can be broken (RFC 7518, 3.3)."""
    assert fits(jwk(private_key("RSA1024"))) == set()


def test_a_point_that_is_not_on_the_curve_is_left_out() -> None:
    """Also one of another curve's length."""
    entry = jwk(private_key("ES256"))
    assert fits(entry | {"x": b64(bytes(32))}) == set()
    assert fits(entry | {"crv": "P-384"}) == set()
    assert fits(jwk(private_key("EdDSA")) | {"crv": "X25519"}) == set()
    assert fits(jwk(private_key("EdDSA")) | {"x": "AAAA"}) == set()


def test_a_token_without_a_key_id_needs_a_single_key() -> None:
    """With two that fit, none is guessed."""
    first, second = jwk(private_key("ES256"), kid="1"), jwk(private_key("ES256", 1), kid="2")
    one = parse_key_set({"keys": [first, jwk(private_key("RS256"), kid="3")]}, USUAL)
    assert one.find(None, "ES256") is one.find("1", "ES256")
    assert parse_key_set({"keys": [first, second]}, USUAL).find(None, "ES256") is None
    assert one.find("1", "RS256") is None
    assert parse_key_set({"keys": [jwk(private_key("ES256"))]}, USUAL).find("1", "ES256") is None


_value = (
    st.none() | st.integers() | st.text(max_size=8) | st.binary(max_size=70).map(b64) | st.lists(st.text(max_size=3))
)
_kinds = st.sampled_from(["RSA", "EC", "OKP", "oct", "P-256", "P-521", "Ed25519", "sig", "RS256", "ES512", "EdDSA"])
_names = st.sampled_from(["kty", "crv", "n", "e", "x", "y", "kid", "use", "alg", "key_ops"])


@given(entries=st.lists(st.dictionaries(_names, _kinds | _value), max_size=3))
def test_any_entries_give_a_key_set(entries: list[dict[str, Any]]) -> None:
    """Whatever an issuer publishes, there is no other error."""
    parse_key_set({"keys": entries}, tuple(ALGORITHMS))
