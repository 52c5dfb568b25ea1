"""Figures of memory: the budgets, what each model is planned with and what it holds, how often it was loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True)
class Budgets:
    """What all models together may take; None is no limit."""

    memory_bytes: int | None
    gpu_bytes: int | None
    """Of the GPUs' memory; none is known before a model uses them."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One model that is started here, at the time of a scrape. Counts are since the start of the gateway."""

    model: str
    asleep: bool
    planned_bytes: int
    """What it holds of the budget now: nothing while it sleeps."""
    gpu_planned_bytes: int
    resident_bytes: int | None
    """What the system says that its processes hold; None where it does not, or there are none."""
    loads: int
    idled: int
    evicted: int


class ResidenceGauges(Collector):
    """Both are asked at each scrape. Where no budget of GPUs is known there are no series of GPUs."""

    def __init__(self, budgets: Callable[[], Budgets], read: Callable[[], Iterable[Reading]]) -> None:
        self._budgets = budgets
        self._read = read

    def collect(self) -> Iterable[Metric]:
        budgets = self._budgets()
        budget = GaugeMetricFamily("inhouse_memory_budget_bytes", "Memory that all models together may take.")
        if budgets.memory_bytes is not None:
            budget.add_metric([], budgets.memory_bytes)
        gpu_budget = GaugeMetricFamily(
            "inhouse_memory_gpu_budget_bytes", "Memory of the GPUs that all models together may take."
        )
        if budgets.gpu_bytes is not None:
            gpu_budget.add_metric([], budgets.gpu_bytes)
        asleep = GaugeMetricFamily("inhouse_model_asleep", "1 while the model is in no memory.", labels=["model"])
        planned = GaugeMetricFamily(
            "inhouse_memory_planned_bytes", "Part of the budget that the model has now.", labels=["model"]
        )
        gpu_planned = GaugeMetricFamily(
            "inhouse_memory_gpu_planned_bytes", "Part of the GPUs' budget that the model has now.", labels=["model"]
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
            if budgets.gpu_bytes is not None:
                gpu_planned.add_metric([one.model], one.gpu_planned_bytes)
            if one.resident_bytes is not None:
                resident.add_metric([one.model], one.resident_bytes)
            loads.add_metric([one.model], one.loads)
            sleeps.add_metric([one.model, "idle"], one.idled)
            sleeps.add_metric([one.model, "room"], one.evicted)
        return budget, gpu_budget, asleep, planned, gpu_planned, resident, loads, sleeps
