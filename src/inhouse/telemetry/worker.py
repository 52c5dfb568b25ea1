"""What a worker shows to Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True)
class WorkerReading:
    """Of one model. `ended`: jobs by how they ended here."""

    model: str
    slots: int
    running: int
    queue_there: bool
    ended: Mapping[str, int]


class WorkerMetrics(Collector):
    """`read` gives a reading of each model, at each scrape."""

    def __init__(self, read: Callable[[], Iterable[WorkerReading]]) -> None:
        self._read = read
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        slots = GaugeMetricFamily("inhouse_worker_slots", "Jobs that it takes at once.", labels=["model"])
        running = GaugeMetricFamily("inhouse_worker_running", "Jobs that it has.", labels=["model"])
        there = GaugeMetricFamily("inhouse_worker_queue_there", "1 while its queue is within reach.", labels=["model"])
        ended = CounterMetricFamily(
            "inhouse_worker_jobs", "Jobs that ended here: done, refused, given up, lost.", labels=["model", "how"]
        )
        for one in self._read():
            slots.add_metric([one.model], one.slots)
            running.add_metric([one.model], one.running)
            there.add_metric([one.model], one.queue_there)
            for how, count in one.ended.items():
                ended.add_metric([one.model, how], count)
        yield from (slots, running, there, ended)
