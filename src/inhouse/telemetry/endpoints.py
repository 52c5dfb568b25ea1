"""Figures of each endpoint. A figure that an engine does not report has no sample: it is unknown, not 0."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from inhouse.core import Endpoint

_GAUGES = (
    ("in_flight", "Requests of this gateway that are there."),
    ("slots", "Requests that it takes at once."),
    ("running", "Requests that it runs, by its own account."),
    ("waiting", "Requests that wait inside it, by its own account."),
    ("kv_used", "Part of its memory for keys and values in use, 0 to 1."),
    ("prefix_hits", "Part of the prompt tokens of late that its prefix cache had, 0 to 1."),
)
_SECONDS = (
    ("ttft_s", "Its mean time to the first token of late."),
    ("tpot_s", "Its mean time per token after the first, of late."),
)


class Endpoints(Collector):
    """`read` gives a model and its endpoint, for each of them, at each scrape."""

    def __init__(self, read: Callable[[], Iterable[tuple[str, Endpoint]]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        rows = list(self._read())
        ready = GaugeMetricFamily("inhouse_endpoint_ready", "1 while it takes requests.", labels=["model", "endpoint"])
        for model, endpoint in rows:
            ready.add_metric([model, endpoint.id], endpoint.state == "ready")
        yield ready
        for name, sentence in _GAUGES:
            yield _gauge(f"inhouse_endpoint_{name}", sentence, name, rows)
        for name, sentence in _SECONDS:
            yield _gauge(f"inhouse_endpoint_{name.removesuffix('_s')}_seconds", sentence, name, rows)


class Ejections(Collector):
    """How often endpoints were left out. Those that have left for good are forgotten, so the series stay as many as the
    fleet is large.
    """

    def __init__(self, read: Callable[[], Iterable[tuple[str, Endpoint]]]) -> None:
        self._read = read
        self._counts: dict[tuple[str, str, str], int] = {}

    def count(self, model: str, endpoint: str, reason: str) -> None:
        key = (model, endpoint, reason)
        self._counts[key] = self._counts.get(key, 0) + 1

    def collect(self) -> Iterable[Metric]:
        present = {(model, endpoint.id) for model, endpoint in self._read()}
        self._counts = {key: count for key, count in self._counts.items() if key[:2] in present}
        family = CounterMetricFamily(
            "inhouse_endpoint_ejections",
            "Times that it was left out: as an outlier by errors or latency, or by its breaker.",
            labels=["model", "endpoint", "reason"],
        )
        for key, count in self._counts.items():
            family.add_metric(list(key), count)
        yield family


def _gauge(name: str, sentence: str, figure: str, rows: list[tuple[str, Endpoint]]) -> Metric:
    gauge = GaugeMetricFamily(name, sentence, labels=["model", "endpoint"])
    for model, endpoint in rows:
        value = getattr(endpoint, figure)
        if value is not None:
            gauge.add_metric([model, endpoint.id], value)
    return gauge
