"""Routers that share nothing send the same beginnings to the same endpoints, and none of those more than its share."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from inhouse.core import Endpoint
from inhouse.routing.router import Outcome, Pick, RouteAsk, Router, RouterSettings

GATEWAYS = 3


def fleet(count: int = 6, slots: int = 16) -> list[Endpoint]:
    return [Endpoint(f"http://10.0.0.{number}:8000", slots=slots) for number in range(count)]


def routers(agreed: bool) -> list[Router]:
    return [Router(RouterSettings(prefix_agreed=agreed), seed=seed) for seed in range(GATEWAYS)]


def prompt(number: int, turns: int = 1) -> bytes:
    start = b'{"model":"chat","messages":[{"role":"user","content":"%d ' % number
    return start + b"the question is long. " * 20 * turns


def chosen(router: Router, endpoints: list[Endpoint], ask: RouteAsk) -> str:
    pick = router.pick(ask, endpoints, 0.0)
    assert pick is not None
    return pick.endpoint_id


def talks(agreed: bool, seed: int) -> float:
    """The part of later turns that meet an endpoint which had the turn before: 40 talks of 6 turns, each turn through
    any gateway, 24 of them at once."""
    draw, endpoints, gateways = random.Random(seed), fleet(), routers(agreed)
    last: dict[int, str] = {}
    met: list[bool] = []
    running: list[tuple[Router, Pick]] = []
    turns = [(number, turn) for turn in range(6) for number in draw.sample(range(40), 40)]
    for number, turn in turns:
        router = draw.choice(gateways)
        loads = Counter(pick.endpoint_id for _, pick in running)
        seen = [replace(endpoint, running=loads[endpoint.id], observed_s=0.0) for endpoint in endpoints]
        pick = router.pick(RouteAsk(prompt(number, turn + 1)), seen, 0.0)
        assert pick is not None
        router.started(pick, 0.0)
        running.append((router, pick))
        if number in last:
            met.append(last[number] == pick.endpoint_id)
        last[number] = pick.endpoint_id
        if len(running) > 24:
            owner, done = running.pop(0)
            owner.ended(done, "ok", 0.0)
    return sum(met) / len(met)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_talks_through_three_gateways(seed: int) -> None:
    """Half as many turns again, at least, meet the endpoint that had the turn before."""
    assert talks(True, seed) >= max(0.6, 1.4 * talks(False, seed))


def test_all_gateways_choose_the_same_for_what_is_new() -> None:
    """For a beginning, and for a session whatever its prompt."""
    endpoints, gateways = fleet(), routers(True)
    for number in range(50):
        assert len({chosen(router, endpoints, RouteAsk(prompt(number))) for router in gateways}) == 1
        asks = [RouteAsk(b"short %d" % index, session=f"user-{number}") for index in range(GATEWAYS)]
        assert len({chosen(router, endpoints, ask) for router, ask in zip(gateways, asks, strict=True)}) == 1


def test_beginnings_are_spread_and_stay_when_an_endpoint_comes() -> None:
    """Each endpoint has its part; a new one takes its own part and moves nothing else."""
    endpoints, router = fleet(), routers(True)[0]
    before = {number: chosen(router, endpoints, RouteAsk(prompt(number))) for number in range(600)}
    counts = Counter(before.values())
    assert min(counts.values()) >= 50
    more = [*endpoints, Endpoint("http://10.0.0.99:8000", slots=16)]
    after = {number: chosen(router, more, RouteAsk(prompt(number))) for number in range(600)}
    moved = {number for number in before if before[number] != after[number]}
    assert {after[number] for number in moved} == {"http://10.0.0.99:8000"}
    assert len(moved) <= 150


def test_one_beginning_for_all_is_bounded() -> None:
    """No endpoint gets more than its share and a quarter, though every prompt hashes to the same."""
    endpoints, router = fleet(4, slots=16), routers(True)[0]
    for index in range(40):
        pick = router.pick(RouteAsk(b"s", session="everybody"), endpoints, 0.0)
        assert pick is not None
        router.started(pick, 0.0)
        loads = [router.in_flight(endpoint.id) for endpoint in endpoints]
        assert max(loads) <= 1.25 * (index + 1) / 4 + 1


def test_a_prompt_without_a_block_is_spread_by_load() -> None:
    endpoints, router = fleet(3), routers(True)[0]
    found = []
    for _ in range(3):
        pick = router.pick(RouteAsk(b"hello"), endpoints, 0.0)
        assert pick is not None
        router.started(pick, 0.0)
        found.append(pick.endpoint_id)
    assert len(set(found)) == 3


def test_an_endpoint_that_another_gateway_left_out() -> None:
    """One failure here is enough, met before the hint or after; a success forgets it, and without one it takes as many
    as ever."""
    endpoints = fleet(2)
    for met, warned, succeeds, expected in (
        (True, True, False, 1),
        (False, True, False, 1),
        (True, True, True, 5),
        (True, False, False, 5),
    ):
        router = Router(RouterSettings(failures_max=5, open_s=60.0))
        if met:
            assert router.pick(RouteAsk(), endpoints, 0.0) is not None
        if warned:
            router.warn(endpoints[0].id)
        if succeeds:
            _sent(router, endpoints, "ok")
        failures = 0
        while _sent(router, endpoints, "failed"):
            failures += 1
        assert failures == expected


def _sent(router: Router, endpoints: list[Endpoint], outcome: Outcome) -> bool:
    """One request to the first endpoint; False where nothing is sent there any more."""
    ask = RouteAsk(excluded=frozenset({endpoints[1].id}))
    pick = router.pick(ask, endpoints, 0.0)
    if pick is None:
        return False
    router.started(pick, 0.0)
    router.ended(pick, outcome, 0.0)
    return True
