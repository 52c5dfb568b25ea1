"""Figures of memory: the budget, what each model is planned with and what it holds, how often it was loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True)
class Reading:
    """One model that is started here, at the time of a scrape. Counts are since the start of the gateway."""

    model: str
    asleep: bool
    planned_bytes: int
    """What it holds of the budget now: nothing while it sleeps."""
    resident_bytes: int | None
    """What the system says that its processes hold; None where it does not, or there are none."""
    loads: int
    idled: int
    evicted: int


class ResidenceGauges(Collector):
    """`read` is asked at each scrape; `budget_bytes` of None is no budget."""

    def __init__(self, budget_bytes: int | None, read: Callable[[], Iterable[Reading]]) -> None:
        self._budget_bytes = budget_bytes
        self._read = read

    def collect(self) -> Iterable[Metric]:
        budget = GaugeMetricFamily("inhouse_memory_budget_bytes", "Memory that all models together may take.")
        if self._budget_bytes is not None:
            budget.add_metric([], self._budget_bytes)
        asleep = GaugeMetricFamily("inhouse_model_asleep", "1 while the model is in no memory.", labels=["model"])
        planned = GaugeMetricFamily(
            "inhouse_memory_planned_bytes", "Part of the budget that the model has now.", labels=["model"]
        )
        resident = GaugeMetricFamily(
            "inhouse_model_resident_bytes",
            "Memory of the model's processes, as the system counts it.",
            labels=["model"],
        )
        loads = CounterMetricFamily("inhouse_model_loads", "Times that the model was loaded.", labels=["model"])
        sleeps = CounterMetricFamily(
            "inhouse_model_sleeps", "Times that the model was put to sleep: it idled, or another needed the room.",
            labels=["model", "reason"],
        )  # fmt: skip
        for one in self._read():
            asleep.add_metric([one.model], one.asleep)
            planned.add_metric([one.model], one.planned_bytes)
            if one.resident_bytes is not None:
                resident.add_metric([one.model], one.resident_bytes)
            loads.add_metric([one.model], one.loads)
            sleeps.add_metric([one.model, "idle"], one.idled)
            sleeps.add_metric([one.model, "room"], one.evicted)
        return budget, asleep, planned, resident, loads, sleeps
