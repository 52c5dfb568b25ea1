"""A canary: a new version gets a growing part of the traffic while it is no worse than the stable one. Pure.

Theory of operation. Both versions are measured over the same window, which begins with each step. The canary is
*trying*: when the window is `every_s` old, both versions have had `requests_min` requests and the guard holds, its
weight grows by `step`, and a new window begins. It breaks the guard: *rolled back*, weight 0, and there it stays until
somebody starts it over or sets a weight by hand. It reaches `weight_max`: *settled*, and watched on in windows of
`every_s`; at 100 % nothing is left to compare with, and it is *done*.

The guard is broken where, with `requests_min` requests on both sides, the canary's failures are above the stable
version's by more than `error_points`, or its TTFT or TPOT p95 is above the stable one's by its factor. Failures break
it before that too: as soon as no success that could still come would bring the rate back, counted over `requests_min`.
A percentile is read off buckets 4 % wide. A version without figures for it is not compared by it.

By hand: *paused* keeps its weight, and the guard still holds it to the stable version. Weights set by hand are not
judged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from inhouse.routing.routes import Version

if TYPE_CHECKING:
    from inhouse.config.routes import CanarySpec

State = Literal["trying", "settled", "paused", "done", "rolled back", "by hand"]

_BUCKET = math.log(1.04)
_LATENCY_MIN_S = 1e-4
_SLOWER_MIN_S = 0.005
"""A difference below this is no regression, whatever the ratio."""


@dataclass(frozen=True, slots=True)
class CanarySettings:
    """As in the configuration; parts and rates in percent."""

    model: str
    weight: float = 10.0
    step: float = 10.0
    weight_max: float = 100.0
    every_s: float = 300.0
    error_points: float = 1.0
    ttft_percent: float = 120.0
    tpot_percent: float = 120.0
    requests_min: int = 50


@dataclass(frozen=True, slots=True)
class CanaryEvent:
    """The weight changed, in percent, from when on and why."""

    at_s: float
    state: State
    weight_before: float
    weight: float
    reason: str


class Sample:
    """What one version did in one window."""

    __slots__ = ("_tpot", "_ttft", "failures", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.failures = 0
        self._ttft: dict[int, int] = {}
        self._tpot: dict[int, int] = {}

    def add(self, *, failed: bool, ttft_s: float | None, tpot_s: float | None) -> None:
        self.requests += 1
        self.failures += failed
        for figure_s, buckets in ((ttft_s, self._ttft), (tpot_s, self._tpot)):
            if figure_s is not None:
                bucket = math.floor(math.log(max(figure_s, _LATENCY_MIN_S)) / _BUCKET)
                buckets[bucket] = buckets.get(bucket, 0) + 1

    @property
    def error_percent(self) -> float:
        return 100.0 * self.failures / self.requests if self.requests else 0.0

    @property
    def ttft_p95_s(self) -> float | None:
        return _p95(self._ttft)

    @property
    def tpot_p95_s(self) -> float | None:
        return _p95(self._tpot)


class Canary:
    """See the module. The owner calls `decide` now and then, and hands `weight` to the route."""

    def __init__(self, settings: CanarySettings, now_s: float) -> None:
        self.settings = settings
        self.weight = settings.weight
        self.state: State = "trying"
        self.reason = "on trial"
        self.stable = Sample()
        self.canary = Sample()
        self.since_s = now_s
        """When the window began."""

    def ended(self, version: Version, *, failed: bool, ttft_s: float | None, tpot_s: float | None) -> None:
        """One request of either version is over. Those that the client broke off are not told here."""
        sample = self.canary if version == "canary" else self.stable
        sample.add(failed=failed, ttft_s=ttft_s, tpot_s=tpot_s)

    def decide(self, now_s: float) -> CanaryEvent | None:
        """What follows from the window so far; None where all stays as it is."""
        if self.state not in ("trying", "settled", "paused"):
            return None
        broken = self._broken()
        if broken:
            return self._change("rolled back", 0.0, broken, now_s)
        least = min(self.stable.requests, self.canary.requests)
        if now_s - self.since_s < self.settings.every_s or least < self.settings.requests_min:
            return None
        if self.state != "trying" or not self.settings.step:
            self._begin_window(now_s)
            return None
        weight = min(self.weight + self.settings.step, self.settings.weight_max)
        held = f"the guard held for {self.canary.requests} requests"
        if weight >= 100.0:
            return self._change("done", 100.0, held, now_s)
        return self._change("settled" if weight >= self.settings.weight_max else "trying", weight, held, now_s)

    def set_weight(self, weight: float, now_s: float, *, reason: str = "set by hand") -> CanaryEvent:
        """From now on this weight in percent, until somebody sets another one."""
        if not 0.0 <= weight <= 100.0:
            raise ValueError(f"a weight is 0 to 100 percent, not {weight:g}")
        return self._change("by hand", weight, reason, now_s)

    def start_over(self, now_s: float) -> CanaryEvent:
        """The trial begins again, at the first weight."""
        return self._change("trying", self.settings.weight, "the trial begins again", now_s)

    def take(self, state: State, weight: float, reason: str, now_s: float) -> None:
        """What somebody else decided, here or in another process; a new window begins."""
        self._change(state, weight, reason, now_s)

    def _change(self, state: State, weight: float, reason: str, now_s: float) -> CanaryEvent:
        event = CanaryEvent(now_s, state, self.weight, weight, reason)
        self.state, self.weight, self.reason = state, weight, reason
        self._begin_window(now_s)
        return event

    def _begin_window(self, now_s: float) -> None:
        self.since_s = now_s
        self.stable, self.canary = Sample(), Sample()

    def _broken(self) -> str:
        settings, stable, canary = self.settings, self.stable, self.canary
        if stable.requests < settings.requests_min:
            return ""
        allowed = stable.error_percent + settings.error_points
        at_best = 100.0 * canary.failures / max(canary.requests, settings.requests_min)
        if at_best > allowed:
            return (
                f"{canary.failures} of {canary.requests} requests failed; "
                f"the stable version's {stable.error_percent:.3g}% and {settings.error_points:g}% more are allowed"
            )
        if canary.requests < settings.requests_min:
            return ""
        for name, own_s, other_s, percent in (
            ("TTFT", canary.ttft_p95_s, stable.ttft_p95_s, settings.ttft_percent),
            ("TPOT", canary.tpot_p95_s, stable.tpot_p95_s, settings.tpot_percent),
        ):
            if own_s is None or other_s is None:
                continue
            if own_s > other_s * percent / 100.0 and own_s - other_s > _SLOWER_MIN_S:
                return (
                    f"{name} p95 is {own_s:.3g} s, {100.0 * own_s / other_s:.0f}% of the stable version's "
                    f"{other_s:.3g} s; {percent:g}% are allowed"
                )
        return ""


def canary_settings(spec: CanarySpec) -> CanarySettings | None:
    """The settings of a route's `canary` section; None where it tries nothing."""
    if spec.model is None:
        return None
    return CanarySettings(
        model=spec.model,
        weight=spec.weight,
        step=spec.step,
        weight_max=spec.weight_max,
        every_s=spec.every,
        error_points=spec.guard.error_rate,
        ttft_percent=spec.guard.ttft_p95,
        tpot_percent=spec.guard.tpot_p95,
        requests_min=spec.guard.min_requests,
    )


def _p95(buckets: dict[int, int]) -> float | None:
    """The upper end of the bucket that the 95th percentile lies in."""
    rest = math.ceil(0.95 * sum(buckets.values()))
    for bucket in sorted(buckets):
        rest -= buckets[bucket]
        if rest <= 0:
            return math.exp((bucket + 1) * _BUCKET)
    return None
