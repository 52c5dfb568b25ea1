"""What is asked for at each scrape, in place of being counted: lanes, canaries, the audit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from inhouse.telemetry.audit import AuditReading


@dataclass(frozen=True, slots=True)
class LaneReading:
    """What one model looks like at the time of a scrape."""

    model: str
    ready: bool
    slots: int
    serving: int
    waiting: int
    cache_entries: int | None = None
    """Answers that are kept; None where the model has no cache, as for their bytes."""
    cache_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class CanaryReading:
    """How the canary of a route stands. `weight` is its part of the requests in percent."""

    route: str
    model: str
    state: str
    weight: float
    reason: str


class Canaries(Collector):
    def __init__(self, read: Callable[[], Iterable[CanaryReading]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        weight = GaugeMetricFamily(
            "inhouse_canary_weight", "The canary's part of a route's requests, 0 to 1.", labels=["route", "model"]
        )
        for canary in self._read():
            weight.add_metric([canary.route, canary.model], canary.weight / 100)
        return (weight,)


class Lanes(Collector):
    def __init__(self, lanes: Callable[[], Iterable[LaneReading]]) -> None:
        self._read = lanes

    def collect(self) -> Iterable[Metric]:
        ready = GaugeMetricFamily("inhouse_model_ready", "1 while the model can answer.", labels=["model"])
        slots = GaugeMetricFamily("inhouse_slots", "Slots that are open.", labels=["model"])
        serving = GaugeMetricFamily("inhouse_requests_in_service", "Requests that hold a slot.", labels=["model"])
        waiting = GaugeMetricFamily("inhouse_requests_waiting", "Requests that wait for a slot.", labels=["model"])
        entries = GaugeMetricFamily("inhouse_cache_entries", "Answers that are kept.", labels=["model"])
        kept = GaugeMetricFamily("inhouse_cache_bytes", "Memory of the answers that are kept.", labels=["model"])
        for lane in self._read():
            if lane.cache_entries is not None and lane.cache_bytes is not None:
                entries.add_metric([lane.model], lane.cache_entries)
                kept.add_metric([lane.model], lane.cache_bytes)
            ready.add_metric([lane.model], lane.ready)
            slots.add_metric([lane.model], lane.slots)
            serving.add_metric([lane.model], lane.serving)
            waiting.add_metric([lane.model], lane.waiting)
        return ready, slots, serving, waiting, entries, kept


class AuditState(Collector):
    def __init__(self, read: Callable[[], AuditReading]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        now = self._read()
        yield CounterMetricFamily("inhouse_audit_records", "Records of the audit that were written.", now.written)
        yield CounterMetricFamily("inhouse_audit_lost", "Records that could not be kept.", now.lost)
        yield GaugeMetricFamily("inhouse_audit_pending", "Records that wait to be written.", now.pending)
        yield GaugeMetricFamily("inhouse_audit_failing", "1 while the audit cannot be written.", now.failing)
