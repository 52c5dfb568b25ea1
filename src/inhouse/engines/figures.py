"""What an engine's page of metrics says: pure. Rates and means are taken over the time between two pages.

A figure that is not on the page is None: an engine that does not report it has not reported that it is idle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from inhouse.engines.engine import Names
from inhouse.engines.metrics_text import read

_TELLING_TOKENS = 1.0


@dataclass(frozen=True, slots=True)
class Figures:
    """What one endpoint reported last. `observed_s` is None until it has reported anything."""

    running: int | None = None
    waiting: int | None = None
    kv_used: float | None = None
    prefix_hits: float | None = None
    ttft_s: float | None = None
    tpot_s: float | None = None
    observed_s: float | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One reading of a page: its figures, the counters to compare the next one with, and whether a new life began."""

    figures: Figures
    counters: Mapping[str, float]
    restarted: bool = False


NOTHING = Page(Figures(), {})


def wanted(names: Names) -> frozenset[str]:
    """All names that may be asked for."""
    single = (
        names.running, names.waiting, names.kv_used, names.prefix_rate,
        names.prefix_hits, names.prefix_queries, names.started,
    )  # fmt: skip
    pairs = (*names.ttft, *names.tpot)
    return frozenset(name for group in (*single, *pairs) for name in group)


def look(page: bytes, names: Names, before: Page, now_s: float) -> Page | None:
    """The page, read against the one before. None where it has none of the names: it is no page of this engine."""
    values = read(page, wanted(names))
    told = set(values) - set(names.started)
    if not told:
        return None
    counters = {name: sum(values[name]) for name in _counters(names) if name in values}
    restarted = any(counters[name] < before.counters[name] for name in counters if name in before.counters)
    started = _first(values, names.started)
    if started is not None:
        key = names.started[0]
        counters[key] = max(started)
        restarted = restarted or before.counters.get(key, counters[key]) != counters[key]
    last = NOTHING if restarted else before
    figures = Figures(
        running=_count(values, names.running),
        waiting=_count(values, names.waiting),
        kv_used=_share(values, names.kv_used),
        prefix_hits=_prefix_hits(values, counters, names, last),
        ttft_s=_mean(counters, names.ttft, last.counters, last.figures.ttft_s),
        tpot_s=_mean(counters, names.tpot, last.counters, last.figures.tpot_s),
        observed_s=now_s,
    )
    return Page(figures, counters, restarted)


def stale(page: Page) -> Page:
    """It, or its metrics, do not answer any more: what it reported of itself is unknown again, its counters stay."""
    return replace(page, figures=Figures())


def _counters(names: Names) -> list[str]:
    pairs = (*names.ttft, *names.tpot)
    return [*names.prefix_hits, *names.prefix_queries, *(name for pair in pairs for name in pair)]


def _first(values: Mapping[str, list[float]], names: tuple[str, ...]) -> list[float] | None:
    return next((values[name] for name in names if name in values), None)


def _count(values: Mapping[str, list[float]], names: tuple[str, ...]) -> int | None:
    """Summed over the labels: an engine of several parts reports each."""
    found = _first(values, names)
    return None if found is None else max(0, int(sum(found)))


def _share(values: Mapping[str, list[float]], names: tuple[str, ...]) -> float | None:
    """The fullest part of an engine of several."""
    found = _first(values, names)
    return None if found is None else min(1.0, max(0.0, *found))


def _prefix_hits(
    values: Mapping[str, list[float]], counters: Mapping[str, float], names: Names, last: Page
) -> float | None:
    rate = _share(values, names.prefix_rate)
    if rate is not None:
        return rate
    pairs = tuple(zip(names.prefix_hits, names.prefix_queries, strict=True))
    share = _mean(counters, pairs, last.counters, last.figures.prefix_hits)
    return None if share is None else min(1.0, share)


def _mean(
    counters: Mapping[str, float], pairs: tuple[tuple[str, str], ...], before: Mapping[str, float], last: float | None
) -> float | None:
    """What came on top since the page before, divided; while nothing did, what it was. None: not known yet."""
    for above, below in pairs:
        if above in counters and below in counters:
            divisor = counters[below] - before.get(below, 0.0)
            if divisor < _TELLING_TOKENS:
                return last
            return max(0.0, counters[above] - before.get(above, 0.0)) / divisor
    return None
