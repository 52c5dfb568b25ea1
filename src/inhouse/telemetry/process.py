"""Gauges of what the process holds right now. At rest each is back where it was: one that only grows is a leak."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True)
class ProcessReading:
    """What the process holds at the time of a scrape. `engine_connections` is by model,
    `straight` and `overruns` what has been counted since the start."""

    connections: int
    tasks: int
    straight: int
    reservations: int
    overruns: int
    engine_connections: Mapping[str, int]


class ProcessGauges(Collector):
    """`read` is asked at each scrape, in the event loop's thread."""

    def __init__(self, read: Callable[[], ProcessReading]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        now = self._read()
        engines = GaugeMetricFamily(
            "inhouse_engine_connections", "Connections to the engine, idle ones included.", labels=["model"]
        )
        for model, count in now.engine_connections.items():
            engines.add_metric([model], count)
        return (
            GaugeMetricFamily("inhouse_connections", "Connections of clients.", value=now.connections),
            GaugeMetricFamily("inhouse_tasks", "Tasks of the event loop: a few, and one per request.", value=now.tasks),
            CounterMetricFamily(
                "inhouse_straight_requests", "Requests that went the straight line, without a task.", value=now.straight
            ),
            GaugeMetricFamily("inhouse_reservations", "Requests for which a quota is held.", value=now.reservations),
            CounterMetricFamily(
                "inhouse_quota_overruns",
                "Requests that used more than was held for them; the rest was not charged.",
                value=now.overruns,
            ),
            engines,
        )
