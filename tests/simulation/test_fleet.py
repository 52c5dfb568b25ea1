"""The deciders that ship, together, under a virtual clock: faults of every kind, and nothing lost, leaked or overfull.

A failure names its seed: `run(seed, …)` brings it back, event by event.
"""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inhouse.plan.fleet_plan import FleetPlan
from inhouse.plan.simulated_replica import ReplicaModel
from inhouse.plan.simulation import Request, Simulation
from inhouse.routing.router import RouterSettings
from inhouse.routing.settings import PolicyName
from inhouse.store.ledger import Limits

TENANTS = ("acme", "globex", "initech")
FAULTS = ("crash", "hang", "slow", "refuse", "drain")


def request(chance: random.Random) -> Request:
    conversation = f"c{chance.randrange(40)}"
    prompt = (conversation.encode() + b": tell me more. ") * chance.randint(1, 200)
    return Request(
        prompt,
        answer_tokens=chance.randint(1, 200),
        tenant=chance.choice(TENANTS),
        beginnings=((conversation, len(prompt) // 4),),
    )


def run(
    seed: int,
    *,
    replicas: int,
    requests: int,
    faults: int,
    seconds: float = 60.0,
    policy: PolicyName = "prefix",
    queueing: int = 0,
    limits: Limits | None = None,
) -> Simulation:
    """Random traffic and faults for a while, then time for everything to come to rest."""
    plan = FleetPlan(
        replicas=replicas,
        model=ReplicaModel(slots=3),
        router=RouterSettings(policy=policy, queueing_max=queueing),
        limits=limits or Limits(),
        queue_max=500,
    )
    simulation = Simulation(plan, seed)
    chance = simulation.random
    for _ in range(requests):
        leaves_s = chance.uniform(0.0, 20.0) if chance.random() < 0.1 else None
        simulation.arrive(chance.uniform(0.0, seconds), request(chance), hangs_up_s=leaves_s)
    for _ in range(faults):
        name, kind = f"r{chance.randrange(replicas)}", chance.choice(FAULTS)
        does = {
            "crash": lambda name=name: simulation.crash(name),
            "hang": lambda name=name: simulation.hang(name),
            "slow": lambda name=name: simulation.slow(name, 0.05, 20.0),
            "refuse": lambda name=name: simulation.refuse(name, 15.0),
            "drain": lambda name=name: simulation.drain(name, 10.0),
        }[kind]
        simulation.at(chance.uniform(0.0, seconds), does)
    simulation.run(seconds + 240.0)
    simulation.settled()
    return simulation


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32),
    replicas=st.integers(1, 12),
    requests=st.integers(1, 250),
    faults=st.integers(0, 25),
    policy=st.sampled_from(["round-robin", "least-load", "prefix", "session"]),
    queueing=st.integers(0, 2),
    tokens_per_minute=st.none() | st.integers(500, 50_000),
)
def test_any_fleet(
    seed: int,
    replicas: int,
    requests: int,
    faults: int,
    policy: PolicyName,
    queueing: int,
    tokens_per_minute: int | None,
) -> None:
    """Whatever fails: each request ends once; slots, places and reservations are given back; no replica is overfull."""
    limits = Limits(tokens_per_minute=tokens_per_minute)
    run(seed, replicas=replicas, requests=requests, faults=faults, policy=policy, queueing=queueing, limits=limits)


def test_a_fleet_of_thousands() -> None:
    """2,000 replicas, hundreds of them failing, still lose nothing; nearly all requests are answered."""
    simulation = run(7, replicas=2000, requests=1000, faults=300, seconds=30.0)
    assert simulation.endings["answered"] > 0.85 * len(simulation.requests)


def test_the_same_seed() -> None:
    """It gives the same run, to the last event, and another seed another one; also in a process with other hashes."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from test_fleet import run; "
        "print(run(5, replicas=6, requests=150, faults=10).digest)"
    )
    here = run(5, replicas=6, requests=150, faults=10).digest
    assert here == run(5, replicas=6, requests=150, faults=10).digest
    assert here != run(6, replicas=6, requests=150, faults=10).digest
    for hashes in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", program, str(Path(__file__).parent)],
            env={"PYTHONHASHSEED": hashes},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == here


def failures(simulation: Simulation) -> int:
    return sum(simulation.endings[ending] for ending in ("failed", "cut", "late", "no replica", "full"))


def test_one_replica_that_refuses() -> None:
    """Nobody but the retries feels it: every request is answered."""
    plan = FleetPlan(replicas=4)
    simulation = Simulation(plan, seed=1)
    for number in range(400):
        simulation.arrive(number * 0.1, request(simulation.random))
    simulation.at(5.0, lambda: simulation.refuse("r1", 20.0))
    simulation.run(200.0)
    simulation.settled()
    assert simulation.endings == {"answered": 400}
    assert 0 < simulation.retries <= 30


def test_a_replica_that_dies() -> None:
    """Only answers that it had begun are cut; what waited there for its first token is answered elsewhere."""
    simulation = Simulation(FleetPlan(replicas=4), seed=2)
    for number in range(400):
        simulation.arrive(number * 0.1, request(simulation.random))
    begun: list[int] = []

    def die() -> None:
        begun.append(sum(attempt.request.first_s is not None for attempt in simulation.replicas["r2"].active))
        simulation.crash("r2")

    simulation.at(20.0, die)
    simulation.run(200.0)
    simulation.settled()
    assert simulation.endings["cut"] == begun[0]
    assert failures(simulation) == begun[0]


def test_a_replica_that_hangs() -> None:
    """It is found by silence: what it had not begun is answered elsewhere, and no request hangs with it."""
    simulation = Simulation(FleetPlan(replicas=4, idle_timeout_s=5.0), seed=3)
    for number in range(400):
        simulation.arrive(number * 0.1, request(simulation.random))
    simulation.at(20.0, lambda: simulation.hang("r0"))
    simulation.run(200.0)
    simulation.settled()
    assert simulation.endings["failed"] == 0
    assert simulation.endings["cut"] <= 8
    assert max(each.ended_s - each.arrived_s for each in simulation.requests if each.ended_s is not None) < 30.0


def test_a_slow_replica() -> None:
    """One of four at a tenth of its speed is left out by its latency: the others' clients do not wait for it."""
    simulation = Simulation(FleetPlan(replicas=4, model=ReplicaModel(slots=16)), seed=4)
    simulation.at(1.0, lambda: simulation.slow("r3", 0.1, 300.0))
    for number in range(1200):
        simulation.arrive(number * 0.1, request(simulation.random))
    simulation.run(500.0)
    simulation.settled()
    assert simulation.endings["answered"] == 1200
    assert {ejection.endpoint_id for ejection in simulation.router.ejections} == {"r3"}


@pytest.mark.parametrize("policy", ["round-robin", "least-load", "prefix"])
def test_a_rolling_restart(policy: PolicyName) -> None:
    """Replicas that drain before they are started anew cost no request."""
    simulation = Simulation(FleetPlan(replicas=4, router=RouterSettings(policy=policy)), seed=5)
    for number in range(800):
        simulation.arrive(number * 0.1, request(simulation.random))
    for number in range(4):
        simulation.at(10.0 + 15.0 * number, lambda name=f"r{number}": simulation.drain(name, 13.0))
    simulation.run(300.0)
    simulation.settled()
    assert simulation.endings == {"answered": 800}


def test_a_retry_storm() -> None:
    """With most of the fleet refusing, retries stay within their share of the traffic."""
    plan = FleetPlan(replicas=10, router=RouterSettings(retry_percent=20, retry_floor_per_s=1, failures_max=10**6))
    simulation = Simulation(plan, seed=6)
    for number in range(6000):
        simulation.arrive(number * 0.01, request(simulation.random))
    for number in range(8):
        simulation.at(0.0, lambda name=f"r{number}": simulation.refuse(name, 1000.0))
    simulation.run(500.0)
    simulation.settled()
    assert simulation.retries <= 0.2 * 6000 + 1.0 * 70
