"""The forecast that brings pods ahead of a load that comes every day: the rule, its PromQL, and what it is good for."""

from __future__ import annotations

import os
import random
import shutil
import statistics
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from inhouse.config import Stack
from inhouse.deploy.site import Site
from inhouse.deploy.tree import tree
from inhouse.plan.autoscale import Rules
from inhouse.plan.fleet_plan import FleetPlan
from inhouse.plan.forecast import AHEAD_S, Past, forecast
from inhouse.plan.scaled_fleet import ScaledFleet
from inhouse.plan.simulated_replica import ReplicaModel
from inhouse.plan.simulation import Request, Simulation
from rendered import objects

DAY_S, MINUTE_S = 86400, 60
SHORT_DAY_S = 6000.0
"""Of the simulator: nothing happens in the rest of a long one."""


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("promtool is not installed; .ci/run installs it")
        pytest.skip("promtool is not installed (Debian: prometheus)")
    return found


def query() -> str:
    """Of the trigger, as it is rendered."""
    scaling = {"by": "keda", "pods_max": 8, "forecast": True, "prometheus": "http://prometheus:9090"}
    model = {"source": "hf://org/repo", "engine": "vllm", "slots": 8, "deploy": {"volume": "empty", "scaling": scaling}}
    (scaler,) = (one for one in objects(tree(Site(Stack(models={"chat": model})))) if one["kind"] == "ScaledObject")  # type: ignore[arg-type]
    triggers = scaler["spec"]["triggers"]
    assert [trigger["type"] for trigger in triggers] == ["metrics-api", "prometheus"]
    text: str = triggers[1]["metadata"]["query"]
    return text


def load_at(at_s: int) -> int:
    """Of one of two gateways: a peak each morning at nine, a larger one on the first day."""
    day, second = divmod(at_s, DAY_S)
    return (40 if day == 0 else 25) if 9 * 3600 <= second < 10 * 3600 else 1


def test_the_trigger_asks_for_what_the_rule_says(promtool: str, tmp_path: Path) -> None:
    """Prometheus's own engine over eight days of two gateways, with another installation beside that does not count."""
    minutes = 7 * DAY_S // MINUTE_S + 12 * 60
    values = [load_at(minute * MINUTE_S) for minute in range(minutes + 1)]

    def series(name: str, namespace: str, pod: str, factor: int) -> dict[str, str]:
        labels = f'namespace="{namespace}",pod="{pod}",model="chat"'
        return {"series": f"{name}{{{labels}}}", "values": " ".join(str(factor * value) for value in values)}

    given_series = [
        series(f"inhouse_requests_{what}", namespace, pod, factor)
        for namespace, pod, factor in (("inhouse", "a", 1), ("inhouse", "b", 1), ("another", "a", 50))
        for what in ("waiting", "in_service")
    ]
    past = Past()
    for minute, value in enumerate(values):
        past.add(minute * MINUTE_S, 4 * value)
    moments = [
        day * DAY_S + hour * 3600 + minute * MINUTE_S
        for day, hour, minute in (
            (0, 9, 0),
            (1, 8, 44),
            (1, 8, 45),
            (1, 9, 30),
            (1, 10, 15),
            (2, 8, 50),
            (7, 8, 50),
            (7, 11, 0),
        )
    ]
    expected = [forecast(past, moment) for moment in moments]
    assert expected == [0, 4, 160, 160, 4, 100, 160, 4]
    tests = [
        {
            "expr": query(),
            "eval_time": f"{moment // MINUTE_S}m",
            "exp_samples": [{"labels": "{}", "value": value}],
        }
        for moment, value in zip(moments, expected, strict=True)
    ]
    file: dict[str, Any] = {
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": given_series, "promql_expr_test": tests}],
    }
    (tmp_path / "forecast.yaml").write_text(yaml.safe_dump(file))
    done = subprocess.run([promtool, "test", "rules", "forecast.yaml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=200), st.integers(0, 8 * DAY_S))
def test_a_forecast_is_a_load_that_there_was(loads: list[int], now_s: int) -> None:
    """Or nothing: it makes up no figure."""
    past = Past()
    for index, load in enumerate(loads):
        past.add(index * 3600.0, load)
    assert forecast(past, float(now_s)) in {0.0, *map(float, loads)}


def peak_waits(seed: int, *, foreseen: bool) -> tuple[float, float]:
    """The mean TTFT of the second morning's first ten minutes, in seconds, and pod-seconds of the two days."""
    plan = FleetPlan(replicas=6, model=ReplicaModel(slots=4), queue_wait_s=1800.0, queue_max=10_000)
    simulation = Simulation(plan, seed)
    past = Past()
    ahead = (lambda now_s: forecast(past, now_s, day_s=SHORT_DAY_S)) if foreseen else None
    rules = Rules(4, pods_min=1, pods_max=6, idle_s=300.0)
    fleet = ScaledFleet(simulation, rules, load_s=300.0, poll_s=60.0, ahead=ahead, seen=past.add)
    chance = random.Random(seed)
    first = []
    for day in range(2):
        for at_s in sorted(chance.random() * 900.0 for _ in range(600)):
            request = Request(b"x" * 400, answer_tokens=chance.randint(100, 300))
            simulation.arrive(day * SHORT_DAY_S + 3600.0 + at_s, request)
            if day == 1 and at_s < 600.0:
                first.append(request)
    simulation.run(SHORT_DAY_S + 3600.0 + 2400.0)
    assert dict(simulation.endings) == {"answered": len(simulation.requests)}
    waits = [request.first_s - request.arrived_s for request in first if request.first_s is not None]
    return statistics.mean(waits), fleet.pod_seconds


def test_the_second_morning_is_met_by_pods_that_are_there() -> None:
    """In the fleet of the simulator: far shorter waits than without a forecast, for a little more of pods' time."""
    blind_s, blind_cost = peak_waits(1, foreseen=False)
    seen_s, seen_cost = peak_waits(1, foreseen=True)
    assert seen_s < 0.2 * blind_s, (seen_s, blind_s)
    assert seen_cost < blind_cost + 6 * (AHEAD_S + 1800.0)
