"""Prometheus metrics. Requests are counted as they end (`tally`), and handed to the library by `flush`.

Labels are bounded: a model that the stack does not know is counted as `-`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, disable_created_metrics
from prometheus_client.exposition import generate_latest

from inhouse.core import Endpoint
from inhouse.telemetry.audit import AuditReading
from inhouse.telemetry.collectors import AuditState, Canaries, CanaryReading, LaneReading, Lanes
from inhouse.telemetry.endpoints import Ejections, Endpoints
from inhouse.telemetry.entry import HUNG_UP, Entry
from inhouse.telemetry.tally import Tally
from inhouse.telemetry.times import Times

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

disable_created_metrics()  # type: ignore[no-untyped-call]  # a time of creation for each series would only double the page
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics:
    """All that /metrics shows. `lanes` and `canaries` are asked at each scrape."""

    def __init__(self, lanes: Callable[[], Iterable[LaneReading]]) -> None:
        self.canaries: Callable[[], Iterable[CanaryReading]] = tuple
        registry = self.registry = CollectorRegistry(auto_describe=True)
        self._requests = Counter(
            "inhouse_requests", "Requests that ended, by status (499: the client hung up).", ["api", "model", "status"],
            registry=registry,
        )  # fmt: skip
        self._tokens = Counter("inhouse_tokens", "Tokens, by kind.", ["model", "kind"], registry=registry)
        self._reuse = Counter(
            "inhouse_cache_requests", "Requests that a cache may answer, by where the answer came from.",
            ["model", "source"], registry=registry,
        )  # fmt: skip
        self._broken = Counter(
            "inhouse_streams_broken", "Streams that ended with an error event.", ["model"], registry=registry
        )
        self._restarts = Counter("inhouse_engine_restarts", "Engines that ended unasked.", ["model"], registry=registry)
        self._retries = Counter(
            "inhouse_retries", "Replicas that failed before the first token, whose request went on.", ["model"],
            registry=registry,
        )  # fmt: skip
        self._failovers = Counter(
            "inhouse_failovers", "Answers whose replica failed in the middle and that went on at another.", ["model"],
            registry=registry,
        )  # fmt: skip
        self._rollbacks = Counter(
            "inhouse_canary_rollbacks", "Canaries that broke their guard.", ["route"], registry=registry
        )
        self._route_changes = Counter(
            "inhouse_route_changes", "Changes of routes, by hand or by their canaries.", ["route", "change"],
            registry=registry,
        )  # fmt: skip
        self._ttft = Times("inhouse_time_to_first_token", "Arrival to first token.", _SECONDS)
        self._tpot = Times("inhouse_time_per_output_token", "Per token after the first.", _TOKEN_SECONDS)
        self._e2e = Times("inhouse_request_duration", "Arrival to end of the answer.", _SECONDS)
        self._waited = Times("inhouse_queue_wait", "Time spent waiting for a slot.", _SECONDS)
        for collector in (
            self._ttft,
            self._tpot,
            self._e2e,
            self._waited,
            Lanes(lanes),
            Canaries(lambda: self.canaries()),
        ):
            registry.register(collector)
        self._ejections: Ejections | None = None
        self._tallies: dict[tuple[str, str, int], Tally] = {}

    def book(self, entry: Entry) -> None:
        """Takes a finished request; it shows after the next `flush`."""
        alike = (entry.api, entry.model, entry.status)
        tally = self._tallies.get(alike)
        if tally is None:
            tally = self._tallies[alike] = self._tally(entry.model, entry.status)
        tally.add(entry)
        if entry.cache:
            self._reuse.labels(entry.model, entry.cache).inc()
            self._tokens.labels(entry.model, "reused").inc(entry.reused_tokens)
        if entry.retries:
            self._retries.labels(entry.model).inc(entry.retries)
        if entry.failovers:
            self._failovers.labels(entry.model).inc(entry.failovers)
        if entry.failed:
            self._broken.labels(entry.model).inc()

    def watch_audit(self, read: Callable[[], AuditReading]) -> None:
        """`read` is asked at each scrape."""
        self.registry.register(AuditState(read))

    def watch_endpoints(self, read: Callable[[], Iterable[tuple[str, Endpoint]]]) -> None:
        """`read` gives a model and its endpoint, for each of them, at each scrape."""
        self._ejections = Ejections(read)
        self.registry.register(Endpoints(read))
        self.registry.register(self._ejections)

    def restarted(self, model: str) -> None:
        self._restarts.labels(model).inc()

    def route_changed(self, route: str, change: str) -> None:
        """`change` is one of `routing.by_hand.Change`."""
        self._route_changes.labels(route, change).inc()

    def ejected(self, model: str, endpoint: str, reason: str) -> None:
        """`reason` is one of a few words."""
        if self._ejections is not None:
            self._ejections.count(model, endpoint, reason)

    def rolled_back(self, route: str) -> None:
        self._rollbacks.labels(route).inc()

    def flush(self) -> None:
        """Hands on what was counted."""
        for (api, model, status), tally in self._tallies.items():
            if tally.requests:
                self._requests.labels(api, model, str(status)).inc(tally.requests)
            if tally.prompt_tokens:
                self._tokens.labels(model, "prompt").inc(tally.prompt_tokens)
                self._tokens.labels(model, "cached").inc(tally.cached_tokens)
                self._tokens.labels(model, "completion").inc(tally.completion_tokens)
            tally.clear()

    def text(self) -> bytes:
        """The page in Prometheus' text format."""
        self.flush()
        return generate_latest(self.registry)

    def _tally(self, model: str, status: int) -> Tally:
        if status not in (200, HUNG_UP):
            return Tally(None, None, None, None)
        tpot, e2e = (self._tpot.of(model), self._e2e.of(model)) if status == 200 else (None, None)
        return Tally(self._waited.of(model), self._ttft.of(model), tpot, e2e)
