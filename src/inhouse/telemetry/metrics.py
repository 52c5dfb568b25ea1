"""Prometheus metrics. Requests are booked in batches (`flush`), so that the hot path only appends to a list.

Labels are bounded: a model that the stack does not know is counted as `-`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from inhouse.telemetry.entry import HUNG_UP, Entry

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
disable_created_metrics()  # type: ignore[no-untyped-call]  # a time of creation for each series would only double the page
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


@dataclass(frozen=True, slots=True)
class LaneReading:
    """What one model looks like at the time of a scrape."""

    model: str
    ready: bool
    slots: int
    serving: int
    waiting: int


class Metrics:
    """All that /metrics shows. `lanes` is asked at each scrape."""

    def __init__(self, lanes: Callable[[], Iterable[LaneReading]]) -> None:
        registry = self.registry = CollectorRegistry(auto_describe=True)
        self._requests = Counter(
            "inhouse_requests", "Requests that ended, by status (499: the client hung up).", ["api", "model", "status"],
            registry=registry,
        )  # fmt: skip
        self._tokens = Counter("inhouse_tokens", "Tokens, by kind.", ["model", "kind"], registry=registry)
        self._broken = Counter(
            "inhouse_streams_broken", "Streams that ended with an error event.", ["model"], registry=registry
        )
        self._restarts = Counter("inhouse_engine_restarts", "Engines that ended unasked.", ["model"], registry=registry)
        self._ttft = _seconds("inhouse_time_to_first_token", "Arrival to first token.", registry)
        self._tpot = _seconds(
            "inhouse_time_per_output_token", "Per token after the first.", registry, buckets=_TOKEN_SECONDS
        )
        self._e2e = _seconds("inhouse_request_duration", "Arrival to end of the answer.", registry)
        self._waited = _seconds("inhouse_queue_wait", "Time spent waiting for a slot.", registry)
        registry.register(_Lanes(lanes))
        self._entries: list[Entry] = []
        # .labels() costs more than the counting itself
        self._request_count = cache(lambda *labels: self._requests.labels(*labels))
        self._token_count = cache(lambda *labels: self._tokens.labels(*labels))
        self._times = cache(
            lambda model: tuple(h.labels(model) for h in (self._ttft, self._tpot, self._e2e, self._waited))
        )

    def book(self, entry: Entry) -> None:
        """Takes a finished request; it shows after the next `flush`."""
        self._entries.append(entry)

    def restarted(self, model: str) -> None:
        self._restarts.labels(model).inc()

    def flush(self) -> None:
        entries, self._entries = self._entries, []
        for entry in entries:
            self._count(entry)

    def text(self) -> bytes:
        """The page in Prometheus' text format."""
        self.flush()
        return generate_latest(self.registry)

    def _count(self, entry: Entry) -> None:
        self._request_count(entry.api, entry.model, str(entry.status)).inc()
        usage = entry.usage
        if usage.prompt_tokens:
            self._token_count(entry.model, "prompt").inc(usage.prompt_tokens)
            self._token_count(entry.model, "cached").inc(usage.cached_tokens)
            self._token_count(entry.model, "completion").inc(usage.completion_tokens)
        if entry.failed:
            self._broken.labels(entry.model).inc()
        if entry.status not in (200, HUNG_UP):
            return
        ttft, tpot, e2e, waited = self._times(entry.model)
        waited.observe(entry.waited_s)
        if entry.ttft_s is not None:
            ttft.observe(entry.ttft_s)
        if entry.status == 200:
            e2e.observe(entry.ended_s - entry.arrived_s)
            if entry.tpot_s is not None:
                tpot.observe(entry.tpot_s)


def _seconds(
    name: str, sentence: str, registry: CollectorRegistry, *, buckets: tuple[float, ...] = _SECONDS
) -> Histogram:
    return Histogram(f"{name}_seconds", sentence, ["model"], buckets=buckets, registry=registry)


class _Lanes(Collector):
    def __init__(self, lanes: Callable[[], Iterable[LaneReading]]) -> None:
        self._read = lanes

    def collect(self) -> Iterable[Metric]:
        ready = GaugeMetricFamily("inhouse_model_ready", "1 while the model can answer.", labels=["model"])
        slots = GaugeMetricFamily("inhouse_slots", "Slots that are open.", labels=["model"])
        serving = GaugeMetricFamily("inhouse_requests_in_service", "Requests that hold a slot.", labels=["model"])
        waiting = GaugeMetricFamily("inhouse_requests_waiting", "Requests that wait for a slot.", labels=["model"])
        for lane in self._read():
            ready.add_metric([lane.model], lane.ready)
            slots.add_metric([lane.model], lane.slots)
            serving.add_metric([lane.model], lane.serving)
            waiting.add_metric([lane.model], lane.waiting)
        return ready, slots, serving, waiting
