"""What the gateway is meant to reach with everything on, and whether it did in this run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from benchmarks.gateway import hangups, speed
from benchmarks.gateway.peers import LITELLM, NGINX_MORE, ROUTER
from benchmarks.gateway.subjects import OURS
from benchmarks.rig.figures import CHUNK_CPU, LATENCY_50, LATENCY_99, RATE, TTFT_50, Figure, Scenario, added
from benchmarks.rig.tables import Row, Table


class Seen:
    """The figures of a run, by section, row and subject."""

    def __init__(self, tables: Iterable[Table]) -> None:
        self._rows = [row for table in tables for row in table.rows]

    def of(self, row: str, subject: str = OURS) -> float | None:
        """The largest, where several sections have it."""
        found = [value for one in self._rows if one.metric == row and (value := one.values.get(subject)) is not None]
        return max(found) if found else None

    def figure(self, scenario: Scenario, figure: Figure, subject: str = OURS, *, plus: bool = False) -> float | None:
        name = added(figure.name) if plus else figure.name
        return self.of(f"{scenario.name}: {name}", subject)

    def ratio(self, scenario: Scenario, figure: Figure, peer: str, *, plus: bool = False) -> float | None:
        ours, theirs = self.figure(scenario, figure, plus=plus), self.figure(scenario, figure, peer, plus=plus)
        return None if ours is None or theirs is None or theirs <= 0 else ours / theirs

    def at_the_best_of(self, peer: str) -> tuple[str, float | None]:
        """At the number of connections that the peer likes best."""
        rates = {one: rate for one in (speed.MANY, *speed.SWEEP) if (rate := self.figure(one, RATE, peer)) is not None}
        if not rates:
            return "its best number of connections", None
        best = max(rates, key=lambda one: rates[one])
        return f"{best.connections} connections, its best", self.ratio(best, RATE, peer)


def judged(tables: Sequence[Table]) -> Table:
    """A row per goal; what was not measured is told as such."""
    seen = Seen(tables)
    best, at_best = seen.at_the_best_of(ROUTER)
    shares = [seen.of(hangups.MID_STREAM), seen.of(hangups.NO_STREAM)]
    hung_up = None if None in shares else min(share for share in shares if share is not None)
    table = Table("goals", "with everything on, on one core, in this run", columns=["measured", "goal"])
    rows: list[tuple[str, str, float | None, Callable[[float, float], bool], float]] = [
        (f"requests/s at 32 connections, of {ROUTER}", "×", seen.ratio(speed.MANY, RATE, ROUTER), _least, 2),
        (f"requests/s at {best}, of {ROUTER}", "×", at_best, _least, 1.5),
        (f"requests/s at 32 connections, of {LITELLM}", "×", seen.ratio(speed.MANY, RATE, LITELLM), _least, 200),
        (f"requests/s at 32 connections, of {NGINX_MORE}", "×", seen.ratio(speed.MANY, RATE, NGINX_MORE), _least, 1),
        (f"CPU per chunk, paced, of {ROUTER}", "×", seen.ratio(speed.PACED, CHUNK_CPU, ROUTER), _most, 0.75),
        (
            "added p50, one connection, engine's core",
            "µs",
            seen.figure(speed.ONE_BESIDE, LATENCY_50, plus=True),
            _most,
            60,
        ),
        (
            "added p99, one connection, engine's core",
            "µs",
            seen.figure(speed.ONE_BESIDE, LATENCY_99, plus=True),
            _most,
            200,
        ),
        (
            f"added TTFT p50, one stream, of {ROUTER}",
            "×",
            seen.ratio(speed.FIRST_TOKEN, TTFT_50, ROUTER, plus=True),
            _most,
            1,
        ),
        ("memory at most: RSS", "MiB", seen.of(speed.AT_MOST), _most, 60),
        ("hang-ups passed on", "%", hung_up, _least, 100),
    ]
    for name, unit, value, holds, goal in rows:
        verdict = "not measured" if value is None else "met" if holds(value, goal) else "MISSED"
        table.rows.append(Row(name, unit, {"measured": value, "goal": goal}, verdict=verdict))
    return table


def _least(value: float, goal: float) -> bool:
    return value >= goal


def _most(value: float, goal: float) -> bool:
    return value <= goal
