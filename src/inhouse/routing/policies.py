"""The policies: each a function from the candidates to their scores, in [0, 1]. The highest score is picked.

Of equal scores the one that was picked longest ago wins. A policy is added with one function and one line in POLICIES;
its page in docs/routing/ has the same headings as the others.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from inhouse.core import Endpoint
from inhouse.routing.ask import RouteAsk
from inhouse.routing.known import Known
from inhouse.routing.prefixes import Level
from inhouse.routing.settings import PolicyName, RouterSettings

_LATENCY_S_MAX = 60.0
"""A latency that was fed longer ago says nothing."""
_MASK = (1 << 32) - 1


@dataclass(slots=True, eq=False)
class Field:
    """The candidates of one pick, those that passed the filters: lists that belong together by index."""

    ask: RouteAsk
    now_s: float
    settings: RouterSettings
    endpoints: list[Endpoint]
    known: list[Known]
    loads: list[float]
    free: list[float]
    """The part of each one's slots that is free; by one measure for all where some do not report slots."""
    levels: list[Level]
    """Of the prompt, longest first; empty where nobody knows any of it."""
    session: Known | None = None
    """Who served the session last."""
    prefixes: list[float] | None = None
    """Set by a policy that looks at prefixes."""


Policy = Callable[[Field], list[float]]


def round_robin(field: Field) -> list[float]:
    """Who was picked longest ago, whatever its load."""
    oldest = min(known.picked for known in field.known)
    newest = max(known.picked for known in field.known)
    spread = newest - oldest
    return [1.0 - (known.picked - oldest) / spread if spread > 0.0 else 1.0 for known in field.known]


def least_load(field: Field) -> list[float]:
    """Load, memory for keys and values, latency, by their weights."""
    settings = field.settings
    free = field.free
    kv = _kv(field) if settings.kv_weight else None
    latency = _latency(field) if settings.latency_weight else None
    if kv is None and latency is None:
        return free
    share = settings.load_weight
    kv_share = settings.kv_weight if kv is not None else 0.0
    latency_share = settings.latency_weight if latency is not None else 0.0
    total = share + kv_share + latency_share
    share, kv_share, latency_share = share / total, kv_share / total, latency_share / total
    if kv is None or latency is None:
        other_share = kv_share + latency_share
        return [share * f + other_share * o for f, o in zip(free, kv or latency or free, strict=True)]
    return [share * f + kv_share * k + latency_share * q for f, k, q in zip(free, kv, latency, strict=True)]


def prefix(field: Field) -> list[float]:
    """As `least-load`, and for the part of the prompt that an endpoint has seen, while it is not above its share."""
    scores = least_load(field)
    levels = field.levels
    if not levels and field.session is None:
        return scores
    settings = field.settings
    known_parts = [next((part for bits, part in levels if bits & known.bit), 0.0) for known in field.known]
    field.prefixes = known_parts
    session = field.session
    weight = settings.prefix_weight
    total = settings.load_weight + weight
    rest = settings.load_weight
    within = _within_share(field)
    return [
        (rest * score + weight * (max(part, 0.5) if known is session else part) * calm) / total
        for score, part, known, calm in zip(scores, known_parts, field.known, within, strict=True)
    ]


def session(field: Field) -> list[float]:
    """The endpoint that the session's key hashes to; the next one by the same hashing while that is above its share."""
    if not field.ask.session:
        return least_load(field)
    key = zlib.crc32(field.ask.session.encode())
    return [
        0.5 + 0.5 * _mixed(key ^ known.hashed) if calm else 0.5 * score
        for known, score, calm in zip(field.known, field.free, _within_share(field), strict=True)
    ]


POLICIES: Mapping[PolicyName, Policy] = {
    "round-robin": round_robin,
    "least-load": least_load,
    "prefix": prefix,
    "session": session,
}


def _kv(field: Field) -> list[float] | None:
    """Free memory for keys and values. Who does not report it gets the mean of those that do; None if nobody does."""
    told = [endpoint.kv_used for endpoint in field.endpoints]
    if None not in told:
        return [1.0 - used if 0.0 <= used <= 1.0 else 0.0 for used in told if used is not None]
    return _unknown_as_mean([None if used is None else min(1.0, max(0.0, 1.0 - used)) for used in told])


def _latency(field: Field) -> list[float] | None:
    """The shortest TTFT among the candidates, divided by each one's own. Unknown counts as the mean."""
    fresh_s = field.now_s - _LATENCY_S_MAX
    told = [
        known.ttft_s if known.ttft_s is not None and known.latency_s >= fresh_s else endpoint.ttft_s
        for known, endpoint in zip(field.known, field.endpoints, strict=True)
    ]
    best = min((ttft_s for ttft_s in told if ttft_s is not None), default=0.0)
    return _unknown_as_mean([None if ttft_s is None else (best / ttft_s if ttft_s > best else 1.0) for ttft_s in told])


def _unknown_as_mean(scores: list[float | None]) -> list[float] | None:
    known = [score for score in scores if score is not None]
    if not known:
        return None
    mean = sum(known) / len(known)
    return [mean if score is None else score for score in scores]


def _within_share(field: Field) -> list[bool]:
    """Whether one more request leaves an endpoint with at most `balance` times its share, rounded up."""
    loads = field.loads
    sizes = [endpoint.slots or 1 for endpoint in field.endpoints]
    if any(endpoint.slots is None for endpoint in field.endpoints):
        sizes = [1] * len(loads)
    per_slot = field.settings.balance * (sum(loads) + 1.0) / sum(sizes)
    return [load + 1.0 <= math.ceil(per_slot * size) for load, size in zip(loads, sizes, strict=True)]


def _mixed(number: int) -> float:
    """A number in [0, 1) that looks like chance, the same in every process."""
    number = ((number ^ (number >> 16)) * 0x45D9F3B) & _MASK
    number = ((number ^ (number >> 16)) * 0x45D9F3B) & _MASK
    return (number ^ (number >> 16)) / (_MASK + 1)
