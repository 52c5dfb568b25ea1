"""What is kept from one pick to the next, and that nobody can tell that it was kept."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from inhouse.core import Endpoint
from inhouse.routing.outliers import OutlierRules
from inhouse.routing.router import POLICIES, Outcome, Pick, RouteAsk, Router, RouterSettings
from inhouse.routing.settings import PolicyName

OUTCOMES: list[Outcome] = ["ok", "ok", "failed", "neutral"]
PROMPTS = [bytes([65 + number]) * size for number in range(3) for size in (0, 300, 1100, 6000)]


def changed(endpoint: Endpoint, chance: random.Random, now_s: float) -> Endpoint:
    match chance.randrange(6):
        case 0:
            return replace(endpoint, state=chance.choice(["ready", "loading"]))
        case 1:
            return replace(endpoint, generation=endpoint.generation + 1)
        case 2:
            return replace(endpoint, slots=chance.choice([2, 8, None]))
        case _:
            running, used = chance.choice([None, 0, 3]), chance.choice([None, 0.2, 1.0])
            return replace(endpoint, state="ready", running=running, kv_used=used, observed_s=now_s)


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10**9), policy=st.sampled_from(list(POLICIES)), count=st.integers(1, 5))
def test_the_same_snapshots_again(seed: int, policy: PolicyName, count: int) -> None:
    """A router that is shown the same tuple for as long as nothing changes, and one that gets a new list each time,
    decide the same, for the same reasons."""
    chance = random.Random(seed)
    rules = RouterSettings(
        policy=policy, queueing_max=1, latency_weight=1.0, failures_max=3, outliers=OutlierRules(requests_min=4)
    )
    kept, fresh = Router(rules, seed=1), Router(rules, seed=1)
    endpoints = tuple(Endpoint(f"e{number}", slots=4) for number in range(count))
    running: list[tuple[Pick, Pick]] = []
    now_s = 0.0
    for _ in range(120):
        step = chance.random()
        if step < 0.5:
            excluded = frozenset(endpoint.id for endpoint in endpoints if chance.random() < 0.05)
            given = chance.choice(PROMPTS), chance.choice(["", "anna"]), excluded
            one = kept.pick(RouteAsk(*given), endpoints, now_s)
            other = fresh.pick(RouteAsk(*given), list(endpoints), now_s)
            if one is None or other is None:
                assert one is other
                continue
            assert (one.endpoint_id, one.reason, one.candidates) == (other.endpoint_id, other.reason, other.candidates)
            kept.started(one, now_s)
            fresh.started(other, now_s)
            running.append((one, other))
        elif step < 0.8 and running:
            one, other = running.pop(chance.randrange(len(running)))
            outcome, ttft_s = chance.choice(OUTCOMES), chance.choice([None, 0.1, 3.0])
            kept.ended(one, outcome, now_s, ttft_s=ttft_s)
            fresh.ended(other, outcome, now_s, ttft_s=ttft_s)
        elif step < 0.9:
            which = chance.randrange(count)
            endpoints = tuple(
                changed(endpoint, chance, now_s) if number == which else endpoint
                for number, endpoint in enumerate(endpoints)
            )
        else:
            now_s += chance.choice([0.5, 2.0, 20.0])


def test_figures_grow_old_while_nothing_is_shown_anew() -> None:
    """The same snapshots as before: what they report counts no longer, and the endpoint is not full any more."""
    router = Router(RouterSettings(figures_s_max=15.0))
    endpoints = (Endpoint("e0", slots=4, running=4, observed_s=1.0), Endpoint("e1", slots=4, running=4, observed_s=9.0))
    assert router.pick(RouteAsk(), endpoints, 10.0) is None
    pick = router.pick(RouteAsk(), endpoints, 16.5)
    assert pick is not None
    assert pick.endpoint_id == "e0"
    assert router.pick(RouteAsk(excluded=frozenset({"e0"})), endpoints, 16.5) is None


def test_memory_that_was_free_long_ago() -> None:
    """How much is free counts as long as requests do, for who reports nothing else, too; then it is unknown."""
    router = Router(RouterSettings(policy="least-load", figures_s_max=15.0))
    endpoints = (
        Endpoint("e0", slots=4, kv_used=0.0, observed_s=1.0),
        Endpoint("e1", slots=4, kv_used=0.5, observed_s=9.0),
        Endpoint("e2", slots=4, kv_used=0.9, observed_s=9.0),
    )

    def scores(now_s: float) -> list[float]:
        pick = router.pick(RouteAsk(), endpoints, now_s)
        assert pick is not None
        found = {candidate.endpoint_id: candidate.score or 0.0 for candidate in pick.candidates}
        return [round(found[endpoint.id], 3) for endpoint in endpoints]

    assert scores(16.0) == [1.0, 0.9, 0.82]
    assert scores(16.5) == [0.86, 0.9, 0.82]
    assert scores(24.5) == [1.0, 1.0, 1.0]


def test_a_short_time_to_the_first_token_long_ago() -> None:
    """What an endpoint reported of it is unknown, too, once it is old."""
    router = Router(RouterSettings(policy="least-load", latency_weight=4.0, figures_s_max=15.0))
    endpoints = (
        Endpoint("slow", slots=4, ttft_s=2.0, observed_s=9.0),
        Endpoint("quick", slots=4, ttft_s=0.1, observed_s=1.0),
    )
    chosen = [router.pick(RouteAsk(), endpoints, now_s) for now_s in (16.0, 16.5)]
    assert [pick.endpoint_id for pick in chosen if pick is not None] == ["quick", "slow"]
