"""How a pick is told in a request's story: cheap to keep, shown with the best first."""

from __future__ import annotations

from dataclasses import replace

from inhouse.core import Endpoint
from inhouse.dispatch.picked import CANDIDATES_MAX, picked
from inhouse.dispatch.places import Place
from inhouse.engines.member import Member
from inhouse.engines.table import ENGINES
from inhouse.gateway.explain import story
from inhouse.routing.router import RouteAsk, Router, RouterSettings
from inhouse.telemetry.entry import Entry
from inhouse.telemetry.story import Picked


def pick_among(router: Router, endpoints: list[Endpoint]) -> Picked:
    pick = router.pick(RouteAsk(b"Once upon a time. " * 40), endpoints, 0.0)
    assert pick is not None
    router.started(pick, 0.0)
    return picked(Place(Member(pick.endpoint_id, ENGINES["vllm"], 4), pick, 7.0), pick, "prefix")


def test_the_story_of_a_pick() -> None:
    """Who could have had it, best first, with load and known prefix; after them those that were out, and why."""
    router = Router(RouterSettings(balance=3.0))
    endpoints = [Endpoint("away", state="loading"), *(Endpoint(f"e{number}", slots=3) for number in range(3))]
    first = pick_among(router, endpoints)
    entry = Entry("r", "chat", 5.0)
    entry.step(pick_among(router, endpoints))
    (step,) = story(entry, epoch_s=0.0, priced=False).steps
    best, second, third, out = step["candidates"]
    assert (step["what"], step["at_s"], step["endpoint"], step["why"]) == ("picked", 2.0, first.endpoint, "prefix")
    assert (best["endpoint"], best["scores"]) == (first.endpoint, {"load": 1, "prefix": round(512 / 720, 3)})
    assert best["score"] > second["score"] == third["score"] == 0.3333
    assert second["scores"] == {"load": 0, "prefix": 0.0}
    assert out == {"endpoint": "away", "score": None, "scores": {}, "out": "not ready"}


def test_the_story_of_a_pick_in_a_large_fleet() -> None:
    """It keeps the best ones, the one that was picked among them, and no more than it may."""
    router = Router()
    busy = [Endpoint(f"e{number}", slots=100, running=number, observed_s=0.0) for number in range(40)]
    step = pick_among(router, busy)
    assert [one.endpoint for one in step.candidates] == [f"e{number}" for number in range(CANDIDATES_MAX)]
    assert step.endpoint == "e0"
    few = [endpoint if number < 10 else replace(endpoint, state="draining") for number, endpoint in enumerate(busy)]
    outs = [one.out for one in pick_among(router, few).candidates]
    assert outs == [""] * 10 + ["not ready"] * (CANDIDATES_MAX - 10)
