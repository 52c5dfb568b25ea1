"""The door of a gateway that accepts tokens of a local issuer, with its time and its fetches in the test's hands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.tenancy.issuer_server import AUDIENCE, Clock, LocalIssuer

from inhouse.core import Identity
from inhouse.errors import ApiError, Unauthorized, Unavailable
from inhouse.tenancy.auth import Authenticator
from inhouse.tenancy.jwt import JwtProver
from inhouse.tenancy.oidc import IssuerReport, OidcSettings


def authenticator(issuer: LocalIssuer, clock: Clock, **more: Any) -> Authenticator:
    """Accepts tokens of `issuer`, whose keys are fetched already; `more` are fields of its settings."""
    accepted = OidcSettings(issuer=issuer.url, audiences=(AUDIENCE,), **more)
    prover = JwtProver([accepted], clock=clock, monotonic=clock, run=lambda work: work())
    auth = Authenticator(None, tokens=prover, clock=clock)
    auth.refresh()
    return auth


def identify(auth: Authenticator, token: str) -> Identity:
    """Through the front door. A refusal never repeats a part of the token, nor what is in it."""
    try:
        return auth.identify(b"Bearer " + token.encode(), None)
    except ApiError as error:
        repeated = [piece for piece in token.split(".") if len(piece) > 12 and piece in error.message]
        if repeated or "example.org" in error.message:
            pytest.fail(f"the refusal repeats the token: {error.message}")
        raise


class Door:
    """A gateway's authenticator with its clock, its reports, and fetches that can be held back."""

    def __init__(self, url: str, *, held: bool = False, ttl_s: float = 300, grace_s: float = 3600) -> None:
        self.clock = Clock()
        self.told: list[IssuerReport] = []
        self.waiting: list[Callable[[], None]] = []
        accepted = OidcSettings(issuer=url, audiences=(AUDIENCE,), jwks_ttl_s=ttl_s, jwks_grace_s=grace_s)
        self.prover = JwtProver(
            [accepted],
            clock=self.clock,
            monotonic=self.clock,
            run=self.waiting.append if held else lambda work: work(),
            tell=self.told.append,
        )
        self.auth = Authenticator(None, tokens=self.prover, clock=self.clock)
        self.auth.refresh()

    def opens(self, token: str) -> bool:
        """False where the token is refused; `Unavailable` goes on."""
        try:
            self.auth.identify(b"Bearer " + token.encode(), None)
        except Unauthorized:
            return False
        return True

    def retry_after_s(self, token: str) -> float:
        with pytest.raises(Unavailable) as caught:
            self.opens(token)
        assert token not in caught.value.message
        assert caught.value.retry_after_s is not None
        return caught.value.retry_after_s

    def wait(self, seconds: float) -> None:
        """Time goes by as in a running gateway: with a refresh each second."""
        until = self.clock.now + seconds
        while self.clock.now < until:
            self.clock.now = min(until, self.clock.now + 1)
            self.auth.refresh()

    @property
    def state(self) -> str:
        return self.prover.reports()[0].state
