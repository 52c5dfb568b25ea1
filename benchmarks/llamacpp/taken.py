"""Measurements of several who take turns, and the rows that come of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from benchmarks.llamacpp.settings import Settings
from benchmarks.llamacpp.subjects import Running
from benchmarks.rig.answers import Seen, Work
from benchmarks.rig.tables import Row

Taken = dict[int, dict[str, list[Seen]]]
"""By streams, then by who."""
LETTERS = (40, 80)
_FIGURES: dict[tuple[str, str], Callable[[Seen], float]] = {
    ("tokens", "1/s"): lambda seen: seen.tokens_per_s,
    ("TTFT p50", "ms"): lambda seen: seen.ttft_ms,
    ("gap p50", "ms"): lambda seen: seen.gap_ms,
}


def take(
    settings: Settings, found: Sequence[Running], streams: Sequence[int], taken: Taken, say: Callable[[str], None]
) -> None:
    """Everybody the same work; within a round all take turns."""
    for number in range(settings.rounds):
        for count in streams:
            for one in found:
                say(f"{count} at once: {one.name}")
                work = Work(count, max(2, 8 // count), settings.tokens, LETTERS)
                taken.setdefault(count, {}).setdefault(one.name, []).append(one.run(work, 100 * number + count))


def rows(taken: Taken, judged: Callable[[int, dict[str, float]], str] = lambda count, rates: "") -> list[Row]:
    """Tokens per second first, with what `judged` says of them, then times to the first token and between tokens."""
    made = []
    for (title, unit), figure in _FIGURES.items():
        for count, by in taken.items():
            single = {name: [figure(seen) for seen in all_] for name, all_ in by.items()}
            values = {name: median(each) for name, each in single.items()}
            verdict = judged(count, values) if unit == "1/s" else ""
            made.append(Row(f"{count} at once: {title}", unit, values, rounds=single, verdict=verdict))
    return made


def verdict(ratio: float, goal: float) -> str:
    return f"{'met' if ratio >= goal else 'MISSED'} (≥ {goal:g} ×)"
