"""A provider that others wrote: its discovery, its key set, and an ID token from its login, taken as they come."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import re
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator

import pytest

from inhouse.errors import Unauthorized
from inhouse.tenancy.auth import Authenticator
from inhouse.tenancy.jwt import JwtProver
from inhouse.tenancy.oidc import OidcSettings

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """`oidc-provider-mock` as a child process, so that its warnings are its own."""
    if importlib.util.find_spec("oidc_provider_mock") is None and not os.environ.get("CI"):
        pytest.skip("the package oidc-provider-mock is not installed")
    command = [sys.executable, "-u", "-m", "oidc_provider_mock", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if found := re.search(r"http://(?:localhost|127\.0\.0\.1):(\d+)", line):
                break
        else:
            pytest.fail("the provider did not start")
        yield int(found[1])
        child.kill()


def ask(port: int, method: str, path: str, body: str = "", **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("localhost", port, timeout=20)
    connection.request(method, path, body, {"Host": f"localhost:{port}"} | headers)
    response = connection.getresponse()
    response.content = response.read()  # type: ignore[attr-defined]
    connection.close()
    return response


def id_token(port: int, audience: str) -> str:
    """Logs a user in by the authorization code flow, as a client of the provider does."""
    user = {"tenant": "acme", "realm_access": {"roles": ["llm-admins"]}}
    ask(port, "PUT", "/users/mia", json.dumps(user), **{"Content-Type": "application/json"})
    query = {
        "client_id": audience,
        "redirect_uri": "http://localhost/back",
        "response_type": "code",
        "scope": "openid",
    }
    path = "/oauth2/authorize?" + urllib.parse.urlencode(query)
    back = ask(port, "POST", path, "sub=mia", **FORM).getheader("Location")
    assert back is not None
    code = urllib.parse.parse_qs(urllib.parse.urlsplit(back).query)["code"][0]
    exchange = {"grant_type": "authorization_code", "code": code, "redirect_uri": query["redirect_uri"]}
    exchange |= {"client_id": audience, "client_secret": "any"}
    answer = ask(port, "POST", "/oauth2/token", urllib.parse.urlencode(exchange), **FORM)
    token = json.loads(answer.content)["id_token"]  # type: ignore[attr-defined]
    assert isinstance(token, str)
    return token


def test_a_login_at_a_provider_opens_the_gateway(port: int) -> None:
    """Discovery, keys, signature and claims of an implementation that is not ours; another audience stays out."""
    accepted = OidcSettings(
        issuer=f"http://localhost:{port}",
        audiences=("inhouse",),
        roles_claim="realm_access.roles",
        role_map={"llm-admins": "admin"},
    )
    auth = Authenticator(None, tokens=JwtProver([accepted], run=lambda work: work()))
    auth.refresh()
    identity = auth.identify(b"Bearer " + id_token(port, "inhouse").encode(), None)
    assert (identity.tenant, identity.roles) == ("acme", frozenset({"admin"}))
    assert "mia" not in identity.key_id
    with pytest.raises(Unauthorized, match="another audience"):
        auth.identify(b"Bearer " + id_token(port, "another-program").encode(), None)
