"""Outliers: endpoints that fail much, or are far slower than the others, are left out for a while.

A floor stays whatever happens: where all fail, leaving them out helps nobody. It is a part of all endpoints, and those
that serve nothing anyway (not ready, draining, breaker open) are no part of what stays. Judged once a second, worst
first. An endpoint that is ejected again and again stays out longer each time, up to a limit; a quiet spell forgets it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from inhouse.routing.known import Known

_QUIET_FACTOR = 10.0
_FAILING = 1000.0
"""Failing is worse than any slowness."""
_COMPARED_MIN = 3
"""Endpoints with figures, below which nobody is called slow."""
_SLOWER_S_MIN = {"ttft_s": 1.0, "tpot_s": 0.02}
"""A difference below this is no outlier, whatever the ratio: times to the first token vary with the prompts."""


@dataclass(frozen=True, slots=True)
class OutlierRules:
    """When an endpoint is an outlier, and for how long."""

    error_share: float = 0.5
    latency_factor: float = 4.0
    requests_min: float = 10.0
    eject_s: float = 10.0
    eject_s_max: float = 300.0
    stay_share: float = 0.5
    """Nobody is ejected where less than this part of all endpoints, or none, would be left to serve."""


@dataclass(frozen=True, slots=True)
class Ejection:
    """An endpoint was left out, until then and for this reason; `breaker` is that of its breaker, which opened."""

    endpoint_id: str
    until_s: float
    reason: str
    kind: Literal["errors", "latency", "breaker"] = "errors"


def judge(known: Iterable[Known], rules: OutlierRules, now_s: float) -> list[Ejection]:
    """Ejects the outliers among them."""
    everyone = list(known)
    out = sum(each.out(now_s) for each in everyone)
    room = len(everyone) - max(1, math.ceil(len(everyone) * rules.stay_share)) - out
    if room <= 0:
        return []
    for each in everyone:
        each.decay(now_s)
    judged = [each for each in everyone if each.requests >= rules.requests_min and each.ejected_until_s <= now_s]
    badness: list[tuple[float, str, Known]] = []
    for each in judged:
        share = each.failures / each.requests
        if share >= rules.error_share:
            badness.append((_FAILING + share, f"{share:.0%} of its requests failed", each))
    for figure in ("ttft_s", "tpot_s"):
        badness += _slow([each for each in judged if getattr(each, figure) is not None], figure, rules)
    badness.sort(key=lambda entry: entry[0], reverse=True)
    return _eject(badness, room, rules, now_s)


def _slow(judged: list[Known], figure: str, rules: OutlierRules) -> list[tuple[float, str, Known]]:
    if len(judged) < _COMPARED_MIN:
        return []
    median_s = statistics.median(getattr(each, figure) for each in judged)
    name = figure.removesuffix("_s").upper()
    found = []
    for each in judged:
        value_s: float = getattr(each, figure)
        if value_s > rules.latency_factor * median_s and value_s - median_s > _SLOWER_S_MIN[figure]:
            reason = f"its {name} is {value_s:.3g} s, the median {median_s:.3g} s"
            found.append((min(999.0, value_s / max(median_s, 1e-6)), reason, each))
    return found


def _eject(badness: list[tuple[float, str, Known]], room: int, rules: OutlierRules, now_s: float) -> list[Ejection]:
    ejected: list[Ejection] = []
    for badly, reason, each in badness:
        if len(ejected) >= room:
            break
        if each.ejected_until_s > now_s:  # for two reasons at once
            continue
        if now_s - each.ejected_until_s > _QUIET_FACTOR * rules.eject_s_max:
            each.ejections = 0
        until_s = now_s + min(rules.eject_s * 2.0 ** min(each.ejections, 60), rules.eject_s_max)
        each.eject(until_s)
        ejected.append(Ejection(each.id, until_s, reason, "errors" if badly >= _FAILING else "latency"))
    return ejected
