"""What the router knows of one endpoint: what its snapshot said, requests in flight, health, latency of late."""

from __future__ import annotations

import math

from inhouse.core import Endpoint
from inhouse.routing.ask import Outcome, Refusal
from inhouse.routing.breaker import Breaker

_SMOOTHING = 0.2


class Known:
    """One generation of one endpoint. `troubled` is False while neither breaker nor ejection can stand in the way."""

    __slots__ = (
        "baseline",
        "bit",
        "breaker",
        "counted_s",
        "ejected_until_s",
        "ejections",
        "failures",
        "generation",
        "half_life_s",
        "hashed",
        "id",
        "in_flight",
        "kv_free",
        "latency_s",
        "observed_s",
        "others",
        "picked",
        "ready",
        "requests",
        "room",
        "size",
        "slots",
        "told_ttft_s",
        "tpot_s",
        "troubled",
        "ttft_s",
    )

    def __init__(self, endpoint: Endpoint, *, bit: int, breaker: Breaker, hashed: int, half_life_s: float) -> None:
        self.id = endpoint.id
        self.generation = endpoint.generation
        self.bit = bit
        self.breaker = breaker
        self.hashed = hashed
        self.half_life_s = half_life_s
        self.in_flight = 0
        self.baseline = 0
        """What was in flight from here when its figures were read."""
        self.observed_s = endpoint.observed_s
        self.ready = endpoint.state == "ready"
        self.others = 0
        """Requests that it reported beside those: the load is these and `in_flight`."""
        self.slots: int | None = None
        self.size = 1
        """Its slots where they are known, else 1."""
        self.room = math.inf
        """Load that it may have: its slots, and what may queue there; without bound where slots are not known."""
        self.kv_free: float | None = None
        """The part of its memory for keys and values that is free."""
        self.told_ttft_s: float | None = None
        self.picked = -1.0
        self.ttft_s: float | None = None
        self.tpot_s: float | None = None
        self.latency_s = -math.inf
        """When `ttft_s` and `tpot_s` were last fed."""
        self.requests = 0.0
        self.failures = 0.0
        self.counted_s = -math.inf
        self.ejected_until_s = -math.inf
        self.ejections = 0
        self.troubled = False

    def refusal(self, now_s: float) -> Refusal | None:
        """Why nothing may be sent there now, as far as its health goes."""
        if now_s < self.ejected_until_s:
            return "ejected"
        if self.breaker.closed:
            self.troubled = False
            return None
        if self.breaker.allows(now_s):
            return None
        return "probing" if now_s >= self.breaker.open_until_s else "breaker open"

    def out(self, now_s: float) -> bool:
        """Whether nothing but a probe may be sent there: it is ejected, not ready, or its breaker is not closed."""
        return now_s < self.ejected_until_s or not self.ready or not self.breaker.closed

    def learn(self, outcome: Outcome, ttft_s: float | None, tpot_s: float | None, now_s: float) -> None:
        """Adds one request's end to what counts for latency and outliers."""
        if outcome == "neutral":
            return
        if ttft_s is not None:
            old_s = self.ttft_s
            self.ttft_s = ttft_s if old_s is None else old_s + _SMOOTHING * (ttft_s - old_s)
            self.latency_s = now_s
        if tpot_s is not None:
            old_s = self.tpot_s
            self.tpot_s = tpot_s if old_s is None else old_s + _SMOOTHING * (tpot_s - old_s)
            self.latency_s = now_s
        self.decay(now_s)
        self.requests += 1.0
        if outcome == "failed":
            self.failures += 1.0

    def decay(self, now_s: float) -> None:
        """Old requests count for less: half after `half_life_s`."""
        passed_s = now_s - self.counted_s
        if passed_s > 0.0:
            factor = 0.5 ** (passed_s / self.half_life_s) if passed_s < 64 * self.half_life_s else 0.0
            self.requests *= factor
            self.failures *= factor
            self.counted_s = now_s

    def eject(self, until_s: float) -> None:
        """Nothing goes there until then; afterwards it starts with a clean sheet."""
        self.ejected_until_s = until_s
        self.ejections += 1
        self.troubled = True
        self.requests = self.failures = 0.0
        self.ttft_s = self.tpot_s = None
