"""Keys of an issuer over time: fetched, kept, rotated, taken back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from tests.tenancy.issuer_server import AUDIENCE, DISCOVERY, NOW, Clock, LocalIssuer, local_issuer
from tests.tenancy.oidc_door import Door

from inhouse.tenancy.issuer import in_thread
from inhouse.tenancy.jwt import JwtProver
from inhouse.tenancy.oidc import IssuerReport, OidcSettings

LONG = NOW + 100_000


@pytest.fixture
def issuer() -> Iterator[LocalIssuer]:
    with local_issuer() as issuer:
        issuer.publish("ES256")
        yield issuer


def test_a_token_before_the_first_keys_is_asked_to_wait(issuer: LocalIssuer) -> None:
    """503 with Retry-After 1, never a pass and never a 401; with the keys there, it opens."""
    door = Door(issuer.url, held=True)
    token = issuer.token()
    assert door.retry_after_s(token) == 1
    assert door.state == "pending"
    assert len(door.waiting) == 1
    door.waiting.pop()()
    assert door.opens(token)
    assert door.state == "ready"


def test_keys_are_fetched_beside_the_caller(issuer: LocalIssuer) -> None:
    """In a thread of its own: the caller gets its answer while the issuer is still being asked."""
    done = threading.Event()
    threads: list[threading.Thread] = []

    def run(work: Callable[[], None]) -> None:
        def noted() -> None:
            threads.append(threading.current_thread())
            work()
            done.set()

        in_thread(noted)

    prover = JwtProver([OidcSettings(issuer=issuer.url, audiences=(AUDIENCE,))], clock=Clock(), run=run)
    prover.refresh()
    assert done.wait(20)
    assert threads[0] is not threading.current_thread()
    assert threads[0].daemon
    assert prover.prove(issuer.token())[0].tenant == "acme"


def test_keys_are_fetched_again_before_their_time_is_over(issuer: LocalIssuer) -> None:
    """At four fifths of the ttl, once, and not with each token."""
    door = Door(issuer.url)
    for _ in range(5):
        assert door.opens(issuer.token())
    door.wait(239)
    assert issuer.asked == [DISCOVERY, "/keys"]
    door.wait(1)
    assert issuer.asked == [DISCOVERY, "/keys"] * 2
    assert door.state == "ready"


def test_a_new_key_is_found_by_the_first_token_that_names_it(issuer: LocalIssuer) -> None:
    """The token is asked to wait a second, not refused: clients repeat a 503 and give up at a 401."""
    door = Door(issuer.url, held=True)
    door.waiting.pop()()
    issuer.publish("ES256", "EdDSA", number=1)
    door.wait(60)
    token = issuer.token(number=1)
    assert door.retry_after_s(token) == 1
    door.waiting.pop()()
    assert door.opens(token)


def test_unknown_keys_do_not_hammer_the_issuer(issuer: LocalIssuer) -> None:
    """However many tokens name however many unknown keys: one fetch in 10 s."""
    door = Door(issuer.url)
    issuer.asked.clear()
    door.wait(60)
    for second in range(30):
        for number in range(20):
            assert not door.opens(issuer.token(header={"kid": f"made-up-{second}-{number}"}))
        door.wait(1)
    assert issuer.asked.count("/keys") <= 4
    assert door.opens(issuer.token())


def test_an_unknown_key_just_after_a_fetch_is_looked_for_a_little_later(issuer: LocalIssuer) -> None:
    """Refused first, since the issuer was asked just now; the next fetch comes 10 s after the last all the same."""
    door = Door(issuer.url)
    issuer.publish("ES256", number=1)
    door.wait(2)
    assert not door.opens(issuer.token(number=1))
    door.wait(9)
    assert issuer.asked.count("/keys") == 2
    assert door.opens(issuer.token(number=1))


def test_a_key_that_was_taken_back_is_refused_after_the_ttl(issuer: LocalIssuer) -> None:
    """Also for a token that was proven and remembered a moment ago."""
    door = Door(issuer.url)
    token = issuer.token(exp=LONG)
    issuer.publish("ES256", number=1)
    for _ in range(30):
        assert door.opens(token)
        door.wait(7)
    door.wait(40)
    assert not door.opens(token)
    assert door.opens(issuer.token(number=1))


def test_a_remembered_token_is_forgotten_with_its_key(issuer: LocalIssuer) -> None:
    """At the fetch, not at the end of the minute that it would be remembered for."""
    door = Door(issuer.url)
    door.wait(230)
    token = issuer.token(exp=LONG)
    assert door.opens(token)
    issuer.publish("EdDSA")
    door.wait(10)
    assert not door.opens(token)


def test_a_key_changed_under_its_name_is_a_new_key(issuer: LocalIssuer) -> None:
    """The same key id with other numbers: what the old one signed no longer counts."""
    door = Door(issuer.url)
    token = issuer.token(exp=LONG)
    assert door.opens(token)
    issuer.publish("ES256", number=1)
    issuer.keys[0]["kid"] = "ES256-0"
    door.wait(240)
    assert not door.opens(token)
    assert door.opens(issuer.token(number=1, header={"kid": "ES256-0"}))


def test_an_issuer_that_publishes_no_key_vouches_for_nobody(issuer: LocalIssuer) -> None:
    """An empty set is an answer, not a failure: it takes every key back."""
    door = Door(issuer.url)
    token = issuer.token(exp=LONG)
    assert door.opens(token)
    issuer.keys = []
    door.wait(240)
    assert not door.opens(token)
    assert door.told[-1] == IssuerReport(issuer.url, "ready", 0)
