"""The policies: each a function from the candidates to their scores, in [0, 1]. The highest score is picked.

Of equal scores the one that was picked longest ago wins. A policy is added with one function and one line in POLICIES;
its page in docs/routing/ has the same headings as the others.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence

import msgspec

from inhouse.routing.ask import Refusal, RouteAsk
from inhouse.routing.known import Known
from inhouse.routing.prefixes import BLOCK_BYTES, Level
from inhouse.routing.settings import PolicyName, RouterSettings

_LATENCY_S_MAX = 60.0
"""A latency that was fed longer ago says nothing."""
_MASK = (1 << 32) - 1


class Field(msgspec.Struct, eq=False, gc=False):
    """The candidates of one pick, those that passed the filters: lists that belong together by index."""

    ask: RouteAsk
    now_s: float
    settings: RouterSettings
    known: list[Known]
    names: Sequence[str]
    loads: list[float]
    free: list[float]
    """The part of each one's slots that is free; by one measure for all where some do not report slots."""
    kv_free: list[float] | None
    """The part of the memory for keys and values that is free; None where nobody reports it."""
    refused: list[tuple[str, Refusal]]
    """Those that did not pass."""
    sizes: int = 0
    """Their slots together."""
    unsized: bool = False
    """Whether somebody's slots are not known."""
    levels: Sequence[Level] = ()
    """Of the prompt, longest first; empty where nobody knows any of it."""
    session: Known | None = None
    """Who served the session last."""
    prefixes: list[float] | None = None
    """Set by a policy that looks at prefixes."""

    def compare_by_load(self) -> None:
        """The measure where some do not report slots."""
        most = max(self.loads) + 1.0
        self.free = [1.0 - load / most for load in self.loads]


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
    kv_weight = settings.kv_weight
    kv = field.kv_free if kv_weight else None
    latency = _latency(field) if settings.latency_weight else None
    if latency is None:
        if kv is None:
            return free
        total = settings.load_weight + kv_weight
        share, kv_share = settings.load_weight / total, kv_weight / total
        return [share * f + kv_share * k for f, k in zip(free, kv)]  # noqa: B905 - lists of one field
    kv_weight = kv_weight if kv is not None else 0.0
    total = settings.load_weight + kv_weight + settings.latency_weight
    share, kv_share, latency_share = settings.load_weight / total, kv_weight / total, settings.latency_weight / total
    return [share * f + kv_share * k + latency_share * q for f, k, q in zip(free, kv or free, latency, strict=True)]


def prefix(field: Field) -> list[float]:
    """As `least-load`, and for the part of the prompt that an endpoint has seen, while it is not above its share."""
    scores = least_load(field)
    levels, session = field.levels, field.session
    if not levels and session is None:
        return _agreed(field, scores) if field.settings.prefix_agreed else scores
    weight, rest = field.settings.prefix_weight, field.settings.load_weight
    total = rest + weight
    weight, rest = weight / total, rest / total
    per_slot, unsized = _share_per_slot(field), field.unsized
    parts: list[float] = []
    better: list[float] = []
    for known, score, load in zip(field.known, scores, field.loads):  # noqa: B905 - lists of one field
        bit = known.bit
        part = 0.0
        for bits, reached in levels:
            if bits & bit:
                part = reached
                break
        parts.append(part)
        if load < (per_slot if unsized else per_slot * known.size):
            better.append(rest * score + weight * (0.5 if part < 0.5 and known is session else part))
        else:
            better.append(rest * score)
    field.prefixes = parts
    return better


def _agreed(field: Field, scores: list[float]) -> list[float]:
    """Of a prompt that is new here: whom every gateway would choose for it, by hashing its session or first block.

    Rendezvous hashing with bounded loads: the highest hash of those that are not above their share. Where an endpoint
    comes or goes, only the prompts that were its own move.
    """
    ask = field.ask
    key = ask.session.encode() if ask.session else ask.prompt[:BLOCK_BYTES]
    if not ask.session and len(key) < BLOCK_BYTES:
        return scores
    hashed = zlib.crc32(key)
    weight, rest = field.settings.prefix_weight, field.settings.load_weight
    weight, rest = weight / (rest + weight), rest / (rest + weight)
    found = [
        _mixed(hashed ^ known.hashed) if calm else -1.0
        for known, calm in zip(field.known, _within_share(field), strict=True)
    ]
    top = max(found)
    return [
        rest * score + (weight if at == top and at >= 0.0 else 0.0) for score, at in zip(scores, found, strict=True)
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


def _latency(field: Field) -> list[float] | None:
    """The shortest TTFT among the candidates, divided by each one's own. Unknown counts as the mean."""
    fresh_s = field.now_s - _LATENCY_S_MAX
    told = [
        known.ttft_s if known.ttft_s is not None and known.latency_s >= fresh_s else known.told_ttft_s
        for known in field.known
    ]
    best = min((ttft_s for ttft_s in told if ttft_s is not None), default=0.0)
    return unknown_as_mean([None if ttft_s is None else (best / ttft_s if ttft_s > best else 1.0) for ttft_s in told])


def unknown_as_mean(scores: list[float | None]) -> list[float] | None:
    """Who does not report a figure gets the mean of those that do; None if nobody does."""
    unknown = scores.count(None)
    if unknown == len(scores):
        return None
    if not unknown:
        return scores  # type: ignore[return-value]
    known = [score for score in scores if score is not None]
    mean = sum(known) / len(known)
    return [mean if score is None else score for score in scores]


def _share_per_slot(field: Field) -> float:
    """One request more than there are, `balance` times, for each slot; for each endpoint where slots are not known."""
    return field.settings.balance * (sum(field.loads) + 1.0) / (len(field.loads) if field.unsized else field.sizes)


def _within_share(field: Field) -> list[bool]:
    """Whether one more request leaves an endpoint with at most `balance` times its share, rounded up.

    As requests are whole, that is: whether those that it has are less than that.
    """
    per_slot, unsized = _share_per_slot(field), field.unsized
    return [
        load < (per_slot if unsized else per_slot * known.size)
        for load, known in zip(field.loads, field.known, strict=True)
    ]


def _mixed(number: int) -> float:
    """A number in [0, 1) that looks like chance, the same in every process."""
    number = ((number ^ (number >> 16)) * 0x45D9F3B) & _MASK
    number = ((number ^ (number >> 16)) * 0x45D9F3B) & _MASK
    return (number ^ (number >> 16)) / (_MASK + 1)
