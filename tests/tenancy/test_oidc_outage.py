"""An issuer that is down, slow, or answers nonsense: nobody is let in for it, and nobody is thrown out too early."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest
from tests.tenancy.issuer_server import AUDIENCE, DISCOVERY, NOW, Clock, LocalIssuer, local_issuer
from tests.tenancy.oidc_door import Door

from inhouse.errors import Unavailable
from inhouse.tenancy.fetch import DOCUMENT_BYTES_MAX
from inhouse.tenancy.jwt import JwtProver
from inhouse.tenancy.oidc import OidcSettings

LONG = NOW + 100_000


@pytest.fixture
def issuer() -> Iterator[LocalIssuer]:
    with local_issuer() as issuer:
        issuer.publish("ES256")
        yield issuer


def test_an_issuer_that_is_down_at_the_start_is_asked_again(issuer: LocalIssuer) -> None:
    """After 1, 2, 4, 8 s and then every 10 s; tokens are told how long; when it is there, they open."""
    issuer.down()
    door = Door(issuer.url)
    token = issuer.token(exp=LONG)
    assert door.retry_after_s(token) == 1
    door.wait(1)
    assert door.retry_after_s(token) == 2
    door.wait(60)
    assert len(issuer.asked) <= 11
    assert 1 <= door.retry_after_s(token) <= 10
    issuer.up()
    door.wait(10)
    assert door.opens(token)


def test_an_issuer_that_goes_down_is_outlived_for_the_grace(issuer: LocalIssuer) -> None:
    """Cached keys serve for ttl and grace, then every token is asked to come back, remembered ones too."""
    door = Door(issuer.url, ttl_s=100, grace_s=200)
    token = issuer.token(exp=LONG)
    issuer.down()
    door.wait(99)
    assert door.state == "ready"
    assert door.opens(token)
    door.wait(1)
    assert door.state == "stale"
    door.wait(199)
    assert door.opens(token)
    assert door.opens(issuer.token(exp=LONG, sub="new"))
    door.wait(1)
    assert door.state == "lost"
    assert 1 <= door.retry_after_s(token) <= 10
    issuer.up()
    door.wait(10)
    assert door.opens(token)


def test_unknown_keys_of_an_issuer_that_is_down_are_asked_to_wait(issuer: LocalIssuer) -> None:
    """Whether the key exists cannot be known then: 503, neither a pass nor a 401."""
    door = Door(issuer.url)
    issuer.down()
    door.wait(60)
    assert 1 <= door.retry_after_s(issuer.token(number=1)) <= 10
    assert door.opens(issuer.token())


def test_a_laptop_that_slept_past_the_grace_does_not_pass_anyone(issuer: LocalIssuer) -> None:
    """Between waking up and the first refresh, keys of long ago do not serve."""
    door = Door(issuer.url, held=True)
    door.waiting.pop()()
    token = issuer.token(exp=LONG)
    assert door.opens(token)
    door.clock.now += 4000
    assert door.retry_after_s(token) == 1
    door.waiting.pop()()
    assert door.opens(token)


def test_a_fetch_that_never_returns_is_given_up(issuer: LocalIssuer) -> None:
    """After a minute another is started; should the old one still come back, it does not replace the newer keys."""
    door = Door(issuer.url, held=True)
    door.wait(59)
    assert len(door.waiting) == 1
    door.wait(1)
    assert len(door.waiting) == 2
    door.waiting[1]()
    assert door.opens(issuer.token())
    issuer.keys = []
    door.waiting[0]()
    door.auth.refresh()
    assert door.opens(issuer.token(sub="new"))


def test_each_change_of_state_is_told_once(issuer: LocalIssuer) -> None:
    """Pending, ready, failing, stale, lost, ready again: with the reason, and without repeating itself."""
    door = Door(issuer.url, ttl_s=100, grace_s=50)
    door.wait(50)
    issuer.down()
    door.wait(110)
    issuer.up()
    door.wait(20)
    reason = f"{issuer.url}{DISCOVERY} answered 503"
    assert [(report.state, report.reason) for report in door.told] == [
        ("ready", None),
        ("ready", reason),
        ("stale", reason),
        ("lost", reason),
        ("ready", None),
    ]


BIG = b'{"keys": [' + b" " * DOCUMENT_BYTES_MAX + b"]}"


@pytest.mark.parametrize(
    ("path", "answer", "told"),
    [
        (DISCOVERY, (302, {"Location": "/keys"}, b""), "answered 302, a redirect, which is not followed"),
        ("/keys", (307, {"Location": "https://evil.example.org/"}, b""), "answered 307, a redirect"),
        (DISCOVERY, (404, {}, b"secret"), "answered 404"),
        ("/keys", (500, {}, b"secret"), "answered 500"),
        ("/keys", (200, {}, BIG), "is longer than 262144 bytes"),
        (DISCOVERY, (200, {}, BIG), "is longer than 262144 bytes"),
        ("/keys", (200, {}, b"<html>secret"), "did not answer with JSON"),
        ("/keys", (200, {}, b"\xff\xfe"), "did not answer with JSON"),
        ("/keys", (200, {}, b"[" * 100_000), "did not answer with JSON"),
        ("/keys", (204, {}, b""), "did not answer with JSON"),
        ("/keys", (200, {}, b"[]"), "did not answer with a JSON object"),
        ("/keys", (200, {}, b"{}"), "is not a key set: the document has no list `keys`"),
        ("/keys", (200, {}, b'{"keys": {}}'), "is not a key set"),
        (DISCOVERY, (200, {}, b"{}"), "speaks for another issuer"),
    ],
)
def test_an_answer_that_is_no_key_set_changes_nothing(
    issuer: LocalIssuer, path: str, answer: tuple[int, dict[str, str], bytes], told: str
) -> None:
    """At the start nobody is let in; later the keys that are there serve on. The reason holds no content."""
    token = issuer.token(exp=LONG)
    issuer.answers[path] = answer
    door = Door(issuer.url)
    assert door.retry_after_s(token) == 1
    issuer.up()
    door.wait(2)
    assert door.opens(token)
    issuer.answers[path] = answer
    door.wait(250)
    assert door.opens(token)
    reason = door.prover.reports()[0].reason
    assert reason is not None
    assert told in reason
    assert "secret" not in reason


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"issuer": "https://other.example.org"}, "speaks for another issuer"),
        ({"jwks_uri": None}, "names no `jwks_uri`"),
        ({"jwks_uri": "http://keys.example.org/"}, "not an https address"),
        ({"jwks_uri": "file:///etc/passwd"}, "not an https address"),
        ({"jwks_uri": "/keys"}, "not an https address"),
    ],
)
def test_discovery_that_leads_astray_is_not_followed(issuer: LocalIssuer, change: dict[str, object], told: str) -> None:
    """Another issuer's document, or keys over an open line or from a file."""
    issuer.discovery |= change
    door = Door(issuer.url)
    assert door.retry_after_s(issuer.token()) == 1
    assert told in str(door.prover.reports()[0].reason)
    assert "/keys" not in issuer.asked


def test_an_issuer_that_does_not_listen_is_a_reason_not_an_error() -> None:
    """A refused connection, told with the address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    door = Door(f"http://127.0.0.1:{port}")
    assert f"http://127.0.0.1:{port}{DISCOVERY} cannot be reached" in str(door.prover.reports()[0].reason)


def test_a_system_without_threads_is_a_reason_not_an_error(issuer: LocalIssuer) -> None:
    """Tokens are asked to wait; the refresh that also sees revoked keys goes on; with threads again, they open."""
    clock, full = Clock(), [True]

    def run(work: Callable[[], None]) -> None:
        if full[0]:
            raise RuntimeError("can't start new thread")
        work()

    prover = JwtProver([OidcSettings(issuer=issuer.url, audiences=(AUDIENCE,))], monotonic=clock, run=run)
    prover.refresh()
    with pytest.raises(Unavailable):
        prover.prove(issuer.token())
    assert prover.reports()[0].reason == "no thread could be started to fetch keys"
    full[0] = False
    clock.now += 10
    prover.refresh()
    assert prover.reports()[0].state == "ready"
