"""What happened to a request on its way, as small facts in their order: limits met, engines asked, what failed.

A step is added where the thing happens (`Entry.step`) and shown by `inhouse explain` and `GET /admin/requests/{id}`.
Its fields are names, numbers and words of ours, never content. A new kind is a struct here and one name in `Step`.
Times (`at_s`) are seconds of the event loop's clock; they are shown as seconds after the request's arrival.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

STEPS_MAX = 64


class Held(msgspec.Struct, frozen=True, array_like=True, tag="held"):
    """Quotas were asked: what the request may use at most is held in these scopes."""

    at_s: float
    scopes: tuple[str, ...]
    """As in `tenant:acme`, `key:k4w7qd2mzp`, `model:chat`."""
    tokens: int
    money: int
    """In millionths of the currency."""


class Limited(msgspec.Struct, frozen=True, array_like=True, tag="limited"):
    """A limit did not let it in."""

    at_s: float
    limits: tuple[str, ...]
    """Scope and name, as in `tenant:acme requests_per_minute`."""


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """An endpoint that could have been picked, or that a filter took out."""

    endpoint: str
    score: float | None = None
    """Between 0 and 1, made of the figures below by the policy."""
    load: float | None = None
    """Requests there."""
    prefix: float | None = None
    """The part of the prompt that it knows; None where the policy did not look."""
    out: str = ""
    """The filter that took it out, if one did."""


class Picked(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="picked"):
    """Routing chose an endpoint, among those with these `names`; the figures belong to them by index. `out` are those
    that a filter took out, each with the filter. (What the router had in hand is kept as it is: one is made in each
    request, and few are looked at.)
    """

    at_s: float
    endpoint: str
    policy: str
    why: str
    """A fixed phrase."""
    names: Sequence[str] = ()
    scores: Sequence[float] = ()
    loads: Sequence[float] = ()
    prefixes: Sequence[float] | None = None
    out: Sequence[tuple[str, str]] = ()

    @property
    def candidates(self) -> list[Candidate]:
        """The best first, then those that were out."""
        prefixes: Sequence[float | None] = self.prefixes or [None] * len(self.names)
        found = list(map(Candidate, self.names, self.scores, self.loads, prefixes))
        found.sort(key=lambda one: -(one.score or 0.0))
        return found + [Candidate(name, out=out) for name, out in self.out]


class Asked(msgspec.Struct, frozen=True, array_like=True, tag="asked"):
    """The request went to the engine behind an endpoint; the second time is a retry or another choice of `n`."""

    at_s: float
    endpoint: str
    job: int = 0
    """Which of the request's jobs: choices, prompts, texts."""


class Failed(msgspec.Struct, frozen=True, array_like=True, tag="failed"):
    """An endpoint did not answer, or broke off."""

    at_s: float
    endpoint: str
    code: str
    job: int = 0


class WentOn(msgspec.Struct, frozen=True, array_like=True, tag="went_on"):
    """An answer that had begun broke off and goes on at another endpoint."""

    at_s: float
    tokens: int
    """Of the answer, that were sent before."""
    job: int = 0


class CutOff(msgspec.Struct, frozen=True, array_like=True, tag="cut_off"):
    """An answer that had begun broke off and could not go on."""

    at_s: float
    why: str
    """A fixed phrase."""
    job: int = 0


class Reused(msgspec.Struct, frozen=True, array_like=True, tag="reused"):
    """No engine was asked: the answer was kept, or another request had asked for it already."""

    at_s: float
    source: str
    """`hit` or `shared`."""
    job: int = 0


class Routed(msgspec.Struct, frozen=True, array_like=True, tag="routed"):
    """A route, or a caller who may, chose a model."""

    at_s: float
    route: str
    model: str
    why: str
    behind: tuple[str, ...] = ()
    """Models that would have been next."""
    closed: tuple[str, ...] = ()
    """Models that this caller may not be sent to."""


Step = Routed | Held | Limited | Picked | Asked | Failed | WentOn | CutOff | Reused
