"""Figures of queues in Redis, as their gateways know them: the same at each gateway."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_GAUGES = (
    ("requests", "Requests that wait, at any gateway or in Redis, and those that run."),
    ("tokens", "Tokens of these, prompts and longest answers."),
    ("pending", "Jobs in Redis that no worker has taken."),
    ("running", "Jobs that a worker has."),
    ("workers", "Workers that are there."),
    ("slots", "Slots of all workers that take jobs."),
    ("gateways", "Gateways of this queue."),
)


class Queues(Collector):
    """`read` gives a model, its figures by their names here, and whether its Redis is within reach: for each queue, at
    each scrape."""

    def __init__(self, read: Callable[[], Iterable[tuple[str, Mapping[str, int], bool]]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        rows = list(self._read())
        there = GaugeMetricFamily("inhouse_job_queue_there", "1 while its Redis is within reach.", labels=["model"])
        for model, _, is_there in rows:
            there.add_metric([model], is_there)
        yield there
        for name, sentence in _GAUGES:
            gauge = GaugeMetricFamily(f"inhouse_job_queue_{name}", sentence, labels=["model"])
            for model, backlog, _ in rows:
                gauge.add_metric([model], backlog[name])
            yield gauge
