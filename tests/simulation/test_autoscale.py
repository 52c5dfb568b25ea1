"""The rule of the autoscaler, alone and with a whole simulated fleet that it makes larger and smaller."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.plan.autoscale import Memory, Rules, desired
from inhouse.plan.fleet_plan import FleetPlan
from inhouse.plan.scaled_fleet import ScaledFleet
from inhouse.plan.simulated_replica import ReplicaModel
from inhouse.plan.simulation import Request, Simulation

SLOTS = 4


def follow(rules: Rules, loads: list[int], *, pods: int = 1, step_s: float = 15.0) -> list[int]:
    memory, found = Memory(), []
    for step, load in enumerate(loads):
        said = desired(rules, memory, now_s=step * step_s, pods=pods, load=load)
        pods, memory = said.pods, said.memory
        found.append(pods)
    return found


@given(
    st.integers(0, 3),
    st.integers(1, 8),
    st.integers(1, 16),
    st.lists(st.integers(0, 300), min_size=1, max_size=60),
)
def test_pods_stay_within_their_bounds(least: int, most: int, each: int, loads: list[int]) -> None:
    """Whatever the load does."""
    rules = Rules(each, pods_min=least, pods_max=max(least, most))
    assert all(least <= pods <= rules.pods_max for pods in follow(rules, loads, pods=max(1, least)))


@given(st.lists(st.integers(0, 100), min_size=30, max_size=60), st.integers(0, 30))
def test_more_load_never_asks_for_fewer_pods(loads: list[int], more: int) -> None:
    """At every step, of two fleets that were alike."""
    rules = Rules(SLOTS, pods_max=50)
    memory, pods = Memory(), 1
    for step, load in enumerate(loads):
        one = desired(rules, memory, now_s=step * 15.0, pods=pods, load=load)
        other = desired(rules, memory, now_s=step * 15.0, pods=pods, load=load + more)
        assert other.pods >= one.pods
        pods, memory = one.pods, one.memory


def test_a_dip_that_is_shorter_than_the_window_changes_nothing() -> None:
    """Pods that went would come back cold."""
    loads = [40] * 40 + [0] * 10 + [40] * 10
    assert set(follow(Rules(SLOTS, pods_max=10), loads)[30:]) == {10}


def test_a_lasting_fall_is_followed_pod_by_pod() -> None:
    """One every two minutes, down to what is needed."""
    found = follow(Rules(SLOTS, pods_max=10), [40] * 40 + [4] * 200)
    steps = [before - after for before, after in itertools.pairwise(found[40:])]
    assert max(steps) == 1
    assert found[-1] == 1


def test_the_last_pod_goes_only_after_the_idle_time_and_comes_with_the_first_request() -> None:
    """Scale to zero."""
    found = follow(Rules(SLOTS, pods_min=0, idle_s=600.0), [0] * 60 + [1])
    assert found[:40] == [1] * 40
    assert found[59] == 0
    assert found[60] == 1


@pytest.mark.parametrize("seed", range(3))
def test_a_day_with_a_night_is_served_by_fewer_pods_and_nobody_is_lost(seed: int) -> None:
    """The queue holds requests while pods come; all are answered, at less than the cost of all pods all the time."""
    plan = FleetPlan(replicas=8, model=ReplicaModel(slots=SLOTS), queue_wait_s=900.0, queue_max=5000)
    simulation = Simulation(plan, seed)
    fleet = ScaledFleet(simulation, Rules(SLOTS, pods_min=0, pods_max=8, idle_s=300.0), load_s=60.0)
    chance = random.Random(seed)
    end_s = 0.0
    for hour, per_minute in enumerate((0, 10, 150, 150, 20, 0, 0)):
        for _ in range(per_minute * 60):
            at_s = hour * 3600.0 + chance.random() * 3600.0
            end_s = max(end_s, at_s)
            simulation.arrive(at_s, Request(b"x" * 400, answer_tokens=chance.randint(50, 400)))
    simulation.run(7 * 3600.0)
    assert dict(simulation.endings) == {"answered": len(simulation.requests)}
    assert max(reading.pods for reading in fleet.readings) > 1
    assert fleet.readings[-1].pods == 0
    assert fleet.pod_seconds < 0.5 * 8 * 7 * 3600.0
    simulation.settled()
