"""Shared stores on `/metrics`: which of them is away, and what waits or was let in for that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True)
class StoreReading:
    """`troubles`: why a store is away, "" where it is not, by what suffers from it."""

    troubles: Mapping[str, str]
    usage_rows_waiting: int
    quota_unchecked: int


class StoreGauges(Collector):
    """`read` is asked at each scrape."""

    def __init__(self, read: Callable[[], StoreReading]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        now = self._read()
        away = GaugeMetricFamily(
            "inhouse_store_away",
            "1 while a shared store cannot be reached, by what suffers from it.",
            labels=["concern"],
        )
        for concern, reason in now.troubles.items():
            away.add_metric([concern], bool(reason))
        yield away
        yield GaugeMetricFamily(
            "inhouse_usage_rows_waiting", "Sums of use that wait to be written.", now.usage_rows_waiting
        )
        yield CounterMetricFamily(
            "inhouse_quota_unchecked", "Requests let in without a look at their limits.", now.quota_unchecked
        )
