"""Tokens of an issuer at the real door, beside keys."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from tests.tenancy.issuer_server import LocalIssuer, local_issuer

from serving import KEY, Gateway, serving

STACK = """
issuers:
  home:
    issuer: {url}
    audiences: [inhouse]
    roles_claim: groups
    roles: [llm-users=developer, controllers=auditor]
"""


@pytest.fixture(scope="module")
def issuer() -> Iterator[LocalIssuer]:
    with local_issuer() as running:
        running.publish("ES256")
        yield running


@pytest.fixture(scope="module")
def door(issuer: LocalIssuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving(tmp_path_factory.mktemp("tokens"), STACK.format(url=issuer.url)) as running:
        yield running


def ask(door: Gateway, credential: str) -> tuple[int, dict[str, object]]:
    """POSTs a chat; a 503 while the issuer's keys are fetched is asked again until there is another answer."""
    body = json.dumps({"model": "demo", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 3})
    headers = {"authorization": f"Bearer {credential}", "content-type": "application/json"}
    deadline_s = time.monotonic() + 20
    while True:
        request = urllib.request.Request(door.base_url + "/chat/completions", body.encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                status, told = error.code, json.load(error)
        if status != 503 or time.monotonic() > deadline_s:
            return status, told


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"groups": ["llm-users"], "exp": 1.0}, 401),
        ({"groups": ["llm-users"], "aud": "another"}, 401),
        ({"groups": ["strangers"]}, 403),
        ({"groups": ["controllers"]}, 403),
    ],
    ids=["expired", "for another audience", "without a role here", "an auditor may not infer"],
)
def test_a_token_that_does_not_get_in(
    door: Gateway, issuer: LocalIssuer, claims: dict[str, object], status: int
) -> None:
    """Each is told why in the API's own shape, and the token is not repeated."""
    token = issuer.token(**{"exp": time.time() + 300, **claims})
    found, told = ask(door, token)
    assert found == status
    assert set(told["error"]) == {"message", "type", "param", "code"}  # type: ignore[arg-type]
    assert token not in json.dumps(told)


def test_a_token_and_a_key_get_in_side_by_side(door: Gateway, issuer: LocalIssuer) -> None:
    """Both are answered; the log names the tenant of the token and no personal data."""
    good = issuer.token(exp=time.time() + 300, groups=["llm-users"])
    assert ask(door, good)[0] == 200
    assert ask(door, KEY)[0] == 200
    door.stop()
    log = "".join(door.log)
    assert '"tenant":"acme"' in log
    assert "mia@example.org" not in log
    assert good not in log
