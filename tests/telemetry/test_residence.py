"""Figures of memory, as a scrape finds them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from inhouse.telemetry.residence import Budgets, Reading, ResidenceGauges

LOADED = Reading("a", False, 3000, 9000, resident_bytes=2500, loads=2, idled=1, evicted=0)
ASLEEP = Reading("b", True, 0, 0, resident_bytes=None, loads=1, idled=0, evicted=1)


def series(budgets: Budgets) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(ResidenceGauges(lambda: budgets, lambda: [LOADED, ASLEEP]))
    lines = generate_latest(registry).decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def test_two_pools() -> None:
    """Each has its budget, and each model its part of both; one that sleeps has none."""
    told = series(Budgets(8000, 20000))
    assert (told["inhouse_memory_budget_bytes"], told["inhouse_memory_gpu_budget_bytes"]) == (8000, 20000)
    assert told['inhouse_memory_planned_bytes{model="a"}'] == 3000
    assert told['inhouse_memory_gpu_planned_bytes{model="a"}'] == 9000
    assert told['inhouse_memory_planned_bytes{model="b"}'] == told['inhouse_memory_gpu_planned_bytes{model="b"}'] == 0
    assert told['inhouse_model_resident_bytes{model="a"}'] == 2500
    assert 'inhouse_model_resident_bytes{model="b"}' not in told
    assert told['inhouse_model_sleeps_total{model="b",reason="room"}'] == 1


def test_no_gpus() -> None:
    """Where none are used there is no series of them; without any budget there is none of the memory's either."""
    told = series(Budgets(8000, None))
    assert not [name for name in told if "_gpu_" in name]
    assert told["inhouse_memory_budget_bytes"] == 8000
    assert "inhouse_memory_budget_bytes" not in series(Budgets(None, None))
    assert told['inhouse_model_asleep{model="b"}'] == 1


def test_a_budget_that_becomes_known_later() -> None:
    """It is asked for at each scrape."""
    known: list[Budgets] = [Budgets(8000, None), Budgets(8000, 20000)]
    gauges = ResidenceGauges(lambda: known.pop(0), lambda: [LOADED])
    sizes = [sum(len(family.samples) for family in gauges.collect() if "_gpu_" in family.name) for _ in range(2)]
    assert sizes == [0, 2]
