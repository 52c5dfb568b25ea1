"""The engine's page of metrics, under names of its own (`inhouse_transformers_…`)."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import generate_latest

_FIRST_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_TOKEN_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
PREFIX = "inhouse_transformers_"

disable_created_metrics()  # type: ignore[no-untyped-call]


class Figures:
    """Counted in the model's thread, read at a scrape. `running` and `waiting` are asked then."""

    def __init__(self, running: Callable[[], int], waiting: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self._gauge("requests_running", "Rows that are computed now.", running)
        self._gauge("requests_waiting", "Rows that wait for a place in the batch.", waiting)
        self.prompt_tokens = self._counter("prompt_tokens", "Tokens of prompts that were computed.")
        self.filling_tokens = self._counter("filling_tokens", "Filling beside shorter prompts, computed for nothing.")
        self.answer_tokens = self._counter("answer_tokens", "Tokens that were generated.")
        self.passes = self._counter("passes", "Forward passes of the model, prompts and tokens.")
        self.refused = self._counter("refused", "Requests that found the queue full.")
        self.left = self._counter("left", "Rows whose client hung up before their end.")
        self.failed = self._counter("failed", "Rows that ended with a failure of the model.")
        first = "time_to_first_token_seconds"
        self.first_s = Histogram(PREFIX + first, "Arrival to first token.", registry=self._registry, buckets=_FIRST_S)
        token = "time_per_output_token_seconds"  # noqa: S105 - a name of a series
        self.token_s = Histogram(
            PREFIX + token, "Gap before each further token.", registry=self._registry, buckets=_TOKEN_S
        )

    def page(self) -> bytes:
        found: bytes = generate_latest(self._registry)
        return found

    def _counter(self, name: str, about: str) -> Counter:
        return Counter(PREFIX + name, about, registry=self._registry)

    def _gauge(self, name: str, about: str, read: Callable[[], int]) -> None:
        Gauge(PREFIX + name, about, registry=self._registry).set_function(read)
