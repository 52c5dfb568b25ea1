"""The work: conversations of several turns whose beginnings repeat, and single prompts that have nothing in common."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from inhouse.plan.fleet_plan import FleetPlan
from inhouse.plan.simulated_replica import ReplicaModel
from inhouse.plan.simulation import Request, Simulation
from inhouse.routing.router import RouterSettings
from inhouse.routing.settings import PolicyName

WORDS = [f"{first}{last}" for first in "bdfgklmnprst" for last in ("ana ", "erin ", "ilo ", "omus ", "ute ")]


@dataclass(frozen=True, slots=True)
class Result:
    """One run. Times in seconds."""

    policy: PolicyName
    requests: int
    ttft_p50_s: float
    ttft_p95_s: float
    requests_per_s: float
    answered: int


def fleet(policy: PolicyName, queueing: int = 0) -> FleetPlan:
    """8 replicas of 8 slots, 3,000 prompt tokens/s, 25 ms a token, 60,000 tokens of prefix cache each."""
    router = RouterSettings(policy=policy, queueing_max=queueing)
    return FleetPlan(replicas=8, model=ReplicaModel(slots=8), router=router, queue_wait_s=1e6)


def conversations(
    policy: PolicyName, seed: int, *, users: int = 40, queueing: int = 0, turns: int = 8, seconds: float = 300.0
) -> Result:
    """Each user has one conversation after the other: a system prompt that all share, long messages, short answers.

    The next message comes as soon as the answer has, so the fleet is as busy as its policy lets it be.
    """
    simulation = Simulation(fleet(policy, queueing), seed)
    chance = random.Random(seed)
    system = _text(chance, 1600)

    def begin(user: int, number: int) -> None:
        say(user, number, system + f"user {user} conversation {number} ".encode(), 1, ())

    def say(user: int, number: int, before: bytes, turn: int, known: tuple[tuple[str, int], ...]) -> None:
        message = _text(chance, chance.randint(1200, 4800))
        prompt = before + message
        name = f"{user}/{number}"
        request = Request(prompt, answer_tokens=chance.randint(16, 64), tenant=f"t{user}")
        if policy == "session":
            request.session = name
        request.beginnings = (("system", len(system) // 4), (name, len(prompt) // 4))

        def over(ended: Request) -> None:
            if simulation.now_s >= seconds:
                return
            if turn == turns:
                begin(user, number + 1)
            else:
                say(user, number, prompt + _text(chance, 4 * ended.answer_tokens), turn + 1, request.beginnings)

        request.over = over
        simulation.arrive(simulation.now_s + 0.001, request)

    for user in range(users):
        simulation.at(user * 0.1, lambda user=user: begin(user, 0))  # type: ignore[misc]
    return _measured(policy, simulation, seconds)


def strangers(policy: PolicyName, seed: int, *, per_s: float = 30.0, seconds: float = 300.0) -> Result:
    """Prompts of 100 to 1,000 tokens that share nothing, at random moments: about 70 % of what is possible."""
    simulation = Simulation(fleet(policy), seed)
    chance = random.Random(seed)
    at_s = 0.0
    number = 0
    while at_s < seconds:
        at_s += chance.expovariate(per_s)
        number += 1
        prompt = f"{number} ".encode() + _text(chance, chance.randint(400, 4000))
        simulation.arrive(at_s, Request(prompt, answer_tokens=chance.randint(16, 64)))
    return _measured(policy, simulation, seconds)


WORK: dict[str, Callable[[PolicyName, int], Result]] = {
    "conversations, 40 users on 64 slots": conversations,
    "conversations, 64 users on 64 slots": partial(conversations, users=64),
    "conversations, 64 users on 64 slots, endpoint_queue_max: 4": partial(conversations, users=64, queueing=4),
    "strangers, 30 requests/s on 64 slots": strangers,
}


def _measured(policy: PolicyName, simulation: Simulation, seconds: float) -> Result:
    simulation.run(seconds + 300.0)
    simulation.settled()
    told = [request for request in simulation.requests if request.arrived_s >= 0.1 * seconds]  # the rest warms up
    ttfts = sorted(request.ttft_s for request in told if request.ttft_s is not None)
    ended = [request.ended_s for request in told if request.ended_s is not None and request.ended_s <= seconds]
    return Result(
        policy=policy,
        requests=len(told),
        ttft_p50_s=ttfts[len(ttfts) // 2],
        ttft_p95_s=ttfts[int(0.95 * len(ttfts))],
        requests_per_s=len(ended) / (0.9 * seconds),
        answered=simulation.endings["answered"],
    )


def _text(chance: random.Random, size: int) -> bytes:
    words = chance.choices(WORDS, k=size // 5 + 1)
    return "".join(words).encode()[:size]
