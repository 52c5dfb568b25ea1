"""The router over snapshots: filters, scores, the pick, and what is learned from how requests end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inhouse.config.routing import RoutingSpec
from inhouse.core import Endpoint, EndpointState
from inhouse.routing.outliers import OutlierRules
from inhouse.routing.router import POLICIES, Pick, RouteAsk, Router, RouterSettings
from inhouse.routing.settings import PolicyName, settings_of

PROMPT = b'{"model":"chat","messages":[{"role":"system","content":"' + b"You are kind. " * 200


def fleet(count: int, slots: int | None = 4) -> list[Endpoint]:
    return [Endpoint(f"e{number}", slots=slots) for number in range(count)]


def send(router: Router, endpoints: list[Endpoint], ask: RouteAsk | None = None, now_s: float = 0.0) -> Pick:
    pick = router.pick(ask or RouteAsk(), endpoints, now_s)
    assert pick is not None
    router.started(pick, now_s)
    return pick


def refusals(
    router: Router, endpoints: list[Endpoint], ask: RouteAsk | None = None, now_s: float = 0.0
) -> list[object]:
    return [candidate.refusal for candidate in router.survey(ask or RouteAsk(), endpoints, now_s)]


@pytest.mark.parametrize("state", ["loading", "draining", "unreachable"])
def test_an_endpoint_that_is_not_ready(state: str) -> None:
    """It gets nothing, and the survey says why."""
    endpoints = [replace(endpoint, state=state) for endpoint in fleet(2)]
    router = Router()
    assert router.pick(RouteAsk(), endpoints, 0.0) is None
    assert refusals(router, endpoints) == ["not ready", "not ready"]


def test_endpoints_that_this_request_has_tried() -> None:
    """They are left out; with all tried there is no pick."""
    router, endpoints = Router(), fleet(2)
    assert send(router, endpoints, RouteAsk(excluded=frozenset({"e0"}))).endpoint_id == "e1"
    assert router.pick(RouteAsk(excluded=frozenset({"e0", "e1"})), endpoints, 0.0) is None


@pytest.mark.parametrize("policy", POLICIES)
def test_full_endpoints(policy: PolicyName) -> None:
    """No endpoint gets more than its slots and the allowance beyond, whatever the policy; all of that is used."""
    router = Router(RouterSettings(policy=policy, queueing_max=1))
    endpoints = [Endpoint("small", slots=1), Endpoint("large", slots=3)]
    ask = RouteAsk(PROMPT, session="anna")
    picks = [send(router, endpoints, ask) for _ in range(6)]
    assert router.pick(ask, endpoints, 0.0) is None
    assert refusals(router, endpoints, ask) == ["full", "full"]
    assert (router.in_flight("small"), router.in_flight("large")) == (2, 4)
    router.ended(picks[0], "ok", 1.0)
    assert send(router, endpoints, ask).endpoint_id == picks[0].endpoint_id


def test_requests_of_others() -> None:
    """What an endpoint reported counts, with our own since that report added and those that ended taken off."""
    router = Router(RouterSettings(policy="least-load"))
    mine = send(router, [Endpoint("busy", slots=4)])
    busy = Endpoint("busy", slots=4, running=3, waiting=0, observed_s=1.0)
    (candidate,) = router.survey(RouteAsk(), [busy], 1.0)
    assert candidate.load == 3
    send(router, [busy], now_s=1.0)
    assert refusals(router, [busy], now_s=1.0) == ["full"]
    router.ended(mine, "ok", 1.5)
    (candidate,) = router.survey(RouteAsk(), [busy], 1.5)
    assert candidate.load == 3


def test_figures_that_are_old() -> None:
    """They are unknown: what is in flight from here is all that counts."""
    router = Router(RouterSettings(figures_s_max=15.0))
    stale = Endpoint("e0", slots=4, running=4, observed_s=1.0)
    assert router.pick(RouteAsk(), [stale], 10.0) is None
    assert router.pick(RouteAsk(), [stale], 16.5) is not None


def test_an_endpoint_that_reports_nothing() -> None:
    """It counts as unknown, not as idle with all its memory free: as good as the others are on the mean."""
    router = Router(RouterSettings(policy="least-load"))
    endpoints = [
        Endpoint("emptier", slots=4, kv_used=0.2),
        Endpoint("silent", slots=4),
        Endpoint("fuller", slots=4, kv_used=0.8),
    ]
    assert [candidate.endpoint_id for candidate in router.survey(RouteAsk(), endpoints, 0.0)] == [
        "emptier",
        "silent",
        "fuller",
    ]


def test_slots_that_nobody_knows() -> None:
    """The endpoints are compared by their requests alone, and none of them is full."""
    router, endpoints = Router(RouterSettings(policy="least-load")), fleet(3, slots=None)
    for _ in range(30):
        send(router, endpoints)
    assert [router.in_flight(endpoint.id) for endpoint in endpoints] == [10, 10, 10]


def test_round_robin() -> None:
    """Everyone in turn, whatever the load; a newcomer comes first."""
    router, endpoints = Router(RouterSettings(policy="round-robin")), fleet(3, slots=100)
    first = [send(router, endpoints).endpoint_id for _ in range(3)]
    assert sorted(first) == ["e0", "e1", "e2"]
    assert [send(router, endpoints).endpoint_id for _ in range(6)] == first * 2
    assert send(router, fleet(4, slots=100)).endpoint_id == "e3"


def test_least_load() -> None:
    """The most free slots, by share: half of eight is as free as half of four."""
    router = Router(RouterSettings(policy="least-load"))
    endpoints = [Endpoint("small", slots=4), Endpoint("large", slots=8)]
    for _ in range(9):
        send(router, endpoints)
    assert (router.in_flight("small"), router.in_flight("large")) == (3, 6)


def test_the_faster_endpoint() -> None:
    """With a weight for latency it is preferred at the same load; without one it is not."""
    endpoints = [Endpoint("slow", slots=8), Endpoint("quick", slots=8)]
    for weight, first in [(4.0, ["quick", "quick"]), (0.0, ["quick", "slow"])]:
        router = Router(RouterSettings(policy="least-load", latency_weight=weight))
        for name, ttft_s in [("slow", 2.0), ("quick", 0.1)]:
            pick = send(router, endpoints, RouteAsk(excluded=frozenset({"slow", "quick"} - {name})))
            router.ended(pick, "ok", 1.0, ttft_s=ttft_s)
        picks = [send(router, endpoints, now_s=2.0) for _ in range(2)]
        assert sorted(pick.endpoint_id for pick in picks) == first


def test_a_conversation_goes_on() -> None:
    """It returns to the endpoint that has its beginning, although another one is as free; others spread."""
    router, endpoints = Router(), fleet(4)
    conversation = PROMPT + b"Anna: " * 300
    home = send(router, endpoints, RouteAsk(conversation))
    router.ended(home, "ok", 1.0)
    for turn in range(1, 5):
        conversation += b"and then? " * 30
        pick = send(router, endpoints, RouteAsk(conversation), now_s=turn)
        assert pick.endpoint_id == home.endpoint_id
        best = pick.candidates[0]
        assert best.prefix is not None
        assert best.prefix > 0.8
        router.ended(pick, "ok", turn + 0.5)


def test_a_prefix_that_everybody_shares() -> None:
    """Affinity ends where an endpoint has more than its share: the load spreads, and others learn the prefix."""
    router, endpoints = Router(RouterSettings(balance=1.25)), fleet(4, slots=8)
    for _ in range(16):
        send(router, endpoints, RouteAsk(PROMPT))
    loads = [router.in_flight(endpoint.id) for endpoint in endpoints]
    assert max(loads) <= 6
    assert min(loads) >= 1


def test_a_replica_that_was_started_anew() -> None:
    """Its caches are empty: what it knew before is forgotten, and its old requests no longer count against it."""
    router, endpoints = Router(), fleet(2)
    old = send(router, endpoints, RouteAsk(PROMPT))
    router.ended(old, "ok", 1.0)
    old = send(router, endpoints, RouteAsk(PROMPT), 2.0)
    renewed = [
        replace(endpoint, generation=1) if endpoint.id == old.endpoint_id else endpoint for endpoint in endpoints
    ]
    for candidate in router.survey(RouteAsk(PROMPT), renewed, 3.0):
        assert candidate.prefix in (None, 0.0)
        assert candidate.load == 0
    router.ended(old, "failed", 3.0)
    assert router.in_flight(old.endpoint_id) == 0


def test_one_session() -> None:
    """It stays with one endpoint, in whatever order the endpoints come and whichever others join and leave."""
    router = Router(RouterSettings(policy="session"))
    endpoints = fleet(8)
    home = send(router, endpoints, RouteAsk(session="anna"))
    router.ended(home, "ok", 0.5)
    others = [endpoint for endpoint in endpoints if endpoint.id != home.endpoint_id]
    for left in [list(reversed(endpoints)), [*others[:3], *endpoints], [e for e in endpoints if e not in others[4:]]]:
        pick = send(router, left, RouteAsk(session="anna"), 1.0)
        assert pick.endpoint_id == home.endpoint_id
        router.ended(pick, "ok", 1.5)
    assert len({send(router, endpoints, RouteAsk(session=f"user-{n}")).endpoint_id for n in range(16)}) > 4


def test_a_busy_session() -> None:
    """Beyond its endpoint's share of the load it spills over, always to the same next one."""
    router, endpoints = Router(RouterSettings(policy="session")), fleet(4, slots=16)
    names = [send(router, endpoints, RouteAsk(session="anna")).endpoint_id for _ in range(8)]
    assert names.count(names[0]) > 1
    assert len(set(names)) > 1
    again = Router(RouterSettings(policy="session"), seed=7)
    assert [send(again, endpoints, RouteAsk(session="anna")).endpoint_id for _ in range(8)] == names


def test_failures_in_a_row() -> None:
    """The breaker keeps requests away, lets one probe through, and closes when that succeeds."""
    router = Router(RouterSettings(failures_max=3, open_s=2.0))
    endpoints = fleet(1, slots=None)
    for _ in range(3):
        router.ended(send(router, endpoints), "failed", 0.0)
    assert router.pick(RouteAsk(), endpoints, 1.9) is None
    assert refusals(router, endpoints, now_s=1.9) == ["breaker open"]
    probe = send(router, endpoints, now_s=2.0)
    assert refusals(router, endpoints, now_s=2.0) == ["probing"]
    router.ended(probe, "ok", 2.5)
    assert refusals(router, endpoints, now_s=2.5) == [None]


def test_probes_that_have_begun_to_answer() -> None:
    """The next one passes, however long the answer of the first takes; what fails among them opens it again."""
    router = Router(RouterSettings(failures_max=3, open_s=2.0))
    endpoints = fleet(1, slots=None)
    for _ in range(3):
        router.ended(send(router, endpoints), "failed", 0.0)
    first = send(router, endpoints, now_s=2.0)
    first.begun()
    second = send(router, endpoints, now_s=2.1)
    assert refusals(router, endpoints, now_s=2.1) == ["probing"]
    router.ended(second, "failed", 2.2)
    assert refusals(router, endpoints, now_s=2.3) == ["breaker open"]
    router.ended(first, "ok", 2.4)
    assert refusals(router, endpoints, now_s=2.5) == ["breaker open"], "it was sent before that"
    third = send(router, endpoints, now_s=7.0)
    third.begun()
    fourth = send(router, endpoints, now_s=7.1)
    router.ended(third, "ok", 7.2)
    router.ended(fourth, "failed", 7.3)
    assert refusals(router, endpoints, now_s=7.4) == [None]


def test_an_endpoint_that_fails_now_and_then() -> None:
    """It is left out for a while although it never fails often in a row; of those that fail, half stay."""
    rules = OutlierRules(error_share=0.4, requests_min=5, stay_share=0.5)
    router = Router(RouterSettings(failures_max=1000, outliers=rules))
    endpoints = fleet(4, slots=100)
    for number in range(200):
        pick = send(router, endpoints, now_s=number / 10)
        bad = pick.endpoint_id != "e0" and number % 2
        router.ended(pick, "failed" if bad else "ok", number / 10)
    ejected = {ejection.endpoint_id for ejection in router.ejections}
    assert ejected
    assert "e0" not in ejected
    assert "failed" in router.ejections[0].reason
    for moment in range(200):
        out = [endpoint for endpoint in endpoints if router.health(endpoint.id, moment / 10) == "ejected"]
        assert len(out) <= 2


def uneasy(router: Router, endpoints: list[Endpoint], names: list[str]) -> None:
    """Two of three requests fail at those with these names, until nobody takes one; nothing goes to the others."""
    others = frozenset(endpoint.id for endpoint in endpoints if endpoint.id not in names)
    for number in range(80):
        pick = router.pick(RouteAsk(excluded=others), endpoints, 1.0 + number / 10)
        if pick is None:
            break
        router.started(pick, 1.0 + number / 10)
        router.ended(pick, "failed" if number % 3 < 2 else "ok", 1.0 + number / 10)


@pytest.mark.parametrize(("state", "ejected"), [("unreachable", 0), ("draining", 0), ("loading", 0), ("ready", 2)])
def test_the_floor_is_of_those_that_serve(state: EndpointState, ejected: int) -> None:
    """Where half is out already nobody is ejected, however bad: those are all that is left."""
    router = Router(RouterSettings(policy="round-robin", failures_max=1000))
    up = fleet(4, slots=100)
    endpoints = [*(replace(endpoint, state=state) for endpoint in up[:2]), *up[2:]]
    uneasy(router, endpoints, ["e2", "e3"])
    assert len(router.ejections) == ejected
    assert len([refusal for refusal in refusals(router, endpoints, now_s=9.0) if refusal is None]) == 2


def test_the_floor_beside_open_breakers() -> None:
    """They count as out, as endpoints do that are not ready."""
    router = Router(RouterSettings(policy="round-robin", failures_max=3, open_s=1000.0, open_s_max=1000.0))
    endpoints = fleet(4, slots=100)
    for _ in range(6):
        router.ended(send(router, endpoints, RouteAsk(excluded=frozenset(("e2", "e3")))), "failed", 0.0)
    uneasy(router, endpoints, ["e2", "e3"])
    assert {ejection.kind for ejection in router.ejections} == {"breaker"}
    assert refusals(router, endpoints, now_s=9.0).count(None) == 2


def test_a_slow_endpoint() -> None:
    """One whose latency is several times the median of the others is left out, and comes back."""
    router = Router(RouterSettings(policy="round-robin", outliers=OutlierRules(requests_min=5, eject_s=10.0)))
    endpoints = fleet(4, slots=100)
    for number in range(60):
        pick = send(router, endpoints, now_s=number / 10)
        router.ended(pick, "ok", number / 10, ttft_s=3.0 if pick.endpoint_id == "e2" else 0.2, tpot_s=0.01)
    (ejection,) = router.ejections
    assert ejection.endpoint_id == "e2"
    assert "TTFT" in ejection.reason
    assert router.health("e2", ejection.until_s - 0.1) == "ejected"
    assert router.health("e2", ejection.until_s) is None


def test_a_pick_that_is_told_twice() -> None:
    """Its slot is given back once."""
    router, endpoints = Router(), fleet(1)
    pick = send(router, endpoints)
    with pytest.raises(ValueError, match="once"):
        router.started(pick, 0.0)
    router.ended(pick, "ok", 1.0)
    router.ended(pick, "failed", 1.0)
    assert router.in_flight("e0") == 0


def test_endpoints_that_come_and_go() -> None:
    """The router remembers those that are there, and a bounded number of others."""
    router = Router()
    for number in range(1000):
        endpoints = [Endpoint(f"pod-{number}-{each}") for each in range(4)]
        router.ended(send(router, endpoints, RouteAsk(PROMPT)), "ok", 0.0)
    known = [
        f"pod-{number}-{each}" for number in range(1000) for each in range(4) if router.knows(f"pod-{number}-{each}")
    ]
    assert len(known) <= 80


def test_the_settings_of_a_stack() -> None:
    """The defaults of the configuration are those of the router: no figure exists twice with two values."""
    assert settings_of(RoutingSpec()) == RouterSettings()
