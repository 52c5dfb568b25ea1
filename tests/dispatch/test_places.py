"""Places at replicas that open, shut, fail: no slot leaks, nobody over its slots, every resting turn ends."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inhouse.admission.fair import FairQueue
from inhouse.admission.turns import Turns
from inhouse.dispatch.places import Place, Places
from inhouse.engines.figures import Figures
from inhouse.engines.member import Member
from inhouse.engines.table import ENGINES
from inhouse.errors import ApiError, EngineError, WaitedTooLong
from inhouse.routing.outliers import OutlierRules
from inhouse.routing.router import RouteAsk, Router, RouterSettings

SETTINGS = RouterSettings(policy="least-load", outliers=OutlierRules(requests_min=10**6), retry_floor_per_s=1000.0)


def queue_of() -> FairQueue:
    return FairQueue(
        "m", waiting_max=10**4, waiting_tokens_max=10**9, waiting_bytes_max=10**9, prefill_long_tokens=10**6
    )


class Fleet:
    """Some members, their places and the queue that is granted by them."""

    def __init__(self, *slots: int, settings: RouterSettings = SETTINGS) -> None:
        self.turns = Turns(queue_of())
        self.places = Places(Router(settings), resize=self.turns.resize, hopeless=lambda: EngineError("gone"))
        self.members = [Member(f"e{number}", ENGINES["vllm"], each) for number, each in enumerate(slots)]
        for member in self.members:
            self.places.join(member)
            member.enter("ready")

    @property
    def capacity(self) -> int:
        return self.turns.queue.capacity


def taken(places: Places, ask: RouteAsk | None = None) -> Place:
    place = places.take(ask or RouteAsk())
    assert place is not None
    return place


async def test_capacity_is_the_sum_of_what_is_open() -> None:
    """A member that shuts counts for what it still has, so the others are used in full."""
    fleet = Fleet(2, 3)
    assert fleet.capacity == 5
    held = [taken(fleet.places) for _ in range(4)]
    fleet.members[1].drained = True
    fleet.members[1].touch()
    assert fleet.capacity == 2 + fleet.members[1].in_flight
    for place in held:
        fleet.places.leave(place, "ok")
    assert fleet.capacity == 2
    fleet.members[1].drained = False
    fleet.members[1].touch()
    assert fleet.capacity == 5


async def test_all_slots_of_all_members() -> None:
    """Each gets as many as it has slots, then there is no place."""
    fleet = Fleet(2, 3, 1)
    held = [taken(fleet.places) for _ in range(6)]
    assert [member.in_flight for member in fleet.members] == [2, 3, 1]
    assert fleet.places.take(RouteAsk()) is None
    for place in held:
        fleet.places.leave(place, "ok")
    assert [member.in_flight for member in fleet.members] == [0, 0, 0]


async def test_a_report_counts_from_the_next_pick_on() -> None:
    """What others run at a member takes room there, and gives it back with the report after."""
    fleet = Fleet(1, 1)
    fleet.places.leave(taken(fleet.places), "ok")
    for member in fleet.members:
        member.report(Figures(running=1, waiting=0))
    assert fleet.places.take(RouteAsk()) is None
    fleet.members[1].report(Figures(running=0, waiting=0))
    assert taken(fleet.places).member is fleet.members[1]


async def test_a_turn_whose_replica_failed_rests_until_another_has_room() -> None:
    """It goes on in the place that the next one leaves, never where it failed."""
    fleet = Fleet(1, 1)
    first, second = taken(fleet.places), taken(fleet.places)
    ask = RouteAsk()
    fleet.places.leave(first, "failed")
    assert fleet.places.may_retry(first, ask)
    assert fleet.places.take(ask) is None
    resting = asyncio.create_task(fleet.places.rest(ask, 60.0))
    await asyncio.sleep(0)
    fleet.places.leave(second, "ok")
    assert (await resting).member is second.member


async def test_no_other_replica_is_left() -> None:
    """The last hope goes while a turn rests: it is told at once, not at its deadline."""
    fleet = Fleet(1, 1)
    first, second = taken(fleet.places), taken(fleet.places)
    ask = RouteAsk(excluded=frozenset({first.member.id}))
    fleet.places.leave(first, "failed")
    resting = asyncio.create_task(fleet.places.rest(ask, 60.0))
    await asyncio.sleep(0)
    second.member.enter("unreachable")
    with pytest.raises(EngineError, match="gone"):
        await resting
    fleet.places.leave(second, "failed")


async def test_a_resting_turn_at_its_deadline() -> None:
    fleet = Fleet(1)
    held = taken(fleet.places)
    resting = asyncio.create_task(fleet.places.rest(RouteAsk(), 0.0))
    await asyncio.sleep(0)
    fleet.places.tick()
    with pytest.raises(WaitedTooLong):
        await resting
    fleet.places.leave(held, "ok")


async def test_cancelled_just_as_a_place_came_free() -> None:
    """The place is free for the next."""
    fleet = Fleet(1)
    held = taken(fleet.places)
    resting = asyncio.create_task(fleet.places.rest(RouteAsk(), 60.0))
    await asyncio.sleep(0)
    fleet.places.leave(held, "ok")
    resting.cancel()
    await asyncio.wait([resting])
    assert resting.cancelled()
    assert fleet.members[0].in_flight == 0
    assert fleet.places.take(RouteAsk()) is not None


async def test_a_place_after_the_first_token_is_not_tried_again() -> None:
    fleet = Fleet(1, 1)
    place = taken(fleet.places)
    place.first_s = 1.0
    fleet.places.leave(place, "failed")
    assert not fleet.places.may_retry(place, RouteAsk())


async def test_a_spent_budget_allows_no_retry() -> None:
    fleet = Fleet(4, 4, settings=RouterSettings(retry_percent=0.0, retry_floor_per_s=0.1))
    answers = []
    for _ in range(3):
        place = taken(fleet.places)
        fleet.places.leave(place, "failed")
        answers.append(fleet.places.may_retry(place, RouteAsk()))
    assert answers == [True, False, False]


async def test_one_request_is_not_tried_everywhere() -> None:
    """What kills the engine that reads it kills three of them, however many there are and whatever the budget says."""
    fleet = Fleet(*[2] * 8)
    ask, met = RouteAsk(), []
    while True:
        place = taken(fleet.places, ask)
        met.append(place.member.id)
        fleet.places.leave(place, "failed")
        if not fleet.places.may_retry(place, ask):
            break
    assert len(met) == len(set(met)) == 3


async def test_an_open_breaker_takes_its_slots_out() -> None:
    """Failures in a row: its slots are not counted on until it may be probed."""
    fleet = Fleet(1, 1, settings=RouterSettings(policy="round-robin", failures_max=2, open_s=1000.0, open_s_max=1000.0))
    for _ in range(4):
        place = taken(fleet.places)
        fleet.places.leave(place, "failed" if place.member is fleet.members[0] else "ok")
    assert fleet.capacity == 1
    assert taken(fleet.places).member is fleet.members[1]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**9), slots=st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_any_course_of_events(seed: int, slots: list[int]) -> None:
    """Under members that come, go, fail and hang-ups at any time: each request ends once, nobody is over its slots, and
    when all is over nothing is held."""
    asyncio.run(_course(random.Random(seed), slots))


async def _course(chance: random.Random, slots: list[int]) -> None:
    fleet = Fleet(*slots, settings=replace(SETTINGS, failures_max=10**6))  # a breaker would wait for time to pass
    places, turns = fleet.places, fleet.turns
    ended: list[str] = []

    async def request() -> None:
        ask = RouteAsk()
        try:
            async with turns.turn(1000.0):
                while True:
                    place = places.take(ask) or await places.rest(ask, 1000.0)
                    assert place.member.in_flight <= place.member.slots
                    try:
                        for _ in range(chance.randrange(4)):
                            await asyncio.sleep(0)
                        if place.member.state == "unreachable" or chance.random() < 0.2:
                            raise EngineError("failed")
                    except EngineError:
                        places.leave(place, "failed")
                        if not places.may_retry(place, ask):
                            raise
                    except BaseException:
                        places.leave(place, "neutral")
                        raise
                    else:
                        places.leave(place, "ok")
                        ended.append("answered")
                        return
        except ApiError:
            ended.append("refused")

    tasks = [asyncio.create_task(request()) for _ in range(30)]
    for _ in range(60):
        member = chance.choice(fleet.members)
        match chance.randrange(6):
            case 0:
                member.enter("unreachable")
            case 1:
                member.doubt()
            case 2:
                member.drained = not member.drained
                member.touch()
            case 3:
                chance.choice(tasks).cancel()
            case 4:
                member.generation += 1
                member.touch()
            case _:
                member.enter("ready")
        await asyncio.sleep(0)
    for member in fleet.members:
        member.drained = False
        member.enter("ready")
    for _ in range(10_000):
        if all(task.done() for task in tasks):
            break
        places.tick()
        await asyncio.sleep(0)
    cancelled = sum(task.cancelled() for task in tasks)
    assert len(ended) + cancelled == len(tasks)
    assert not [task for task in tasks if not task.cancelled() and task.exception() is not None]
    assert [member.in_flight for member in fleet.members] == [0] * len(slots)
    assert (turns.queue.serving, turns.queue.waiting) == (0, 0)
