"""What may be done to a route by hand: shares add up, every act has its undoing, the impossible is refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.errors import ApiError, Conflict
from inhouse.routing.by_hand import (
    EVENTS_MAX,
    By,
    CanaryStage,
    Known,
    RouteState,
    act_on_canary,
    back,
    decided,
    shares,
    switch,
    weigh,
)

KNOWN = Known("app", {"a": 3, "b": 1, "c": 0}, canary="d", canary_weight=10.0)
MODELS = ("a", "b", "c", "d")
NOW = CanaryStage("trying", 40.0, "on trial")
BY = By("k4w7qd2mzp", 1.0)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.0, 100.0)), max_size=12))
def test_weights(changes: list[tuple[str, float]]) -> None:
    """Whatever is set in whatever order: all shares are 0 to 100 and add up to 100, and the last one set is as set."""
    state = RouteState()
    for model, weight in changes:
        state = weigh(KNOWN, state, model, weight, BY)
        found = shares(KNOWN, state.hand)
        assert math.isclose(found[model], weight, abs_tol=1e-9)
        assert math.isclose(sum(found.values()), 100.0, rel_tol=1e-9)
        assert all(-1e-9 <= share <= 100.0 + 1e-9 for share in found.values())


def test_the_others_share_the_rest_as_they_did() -> None:
    """Three to one stays three to one."""
    found = shares(KNOWN, weigh(KNOWN, RouteState(), "c", 20.0, BY).hand)
    assert found == pytest.approx({"a": 60.0, "b": 20.0, "c": 20.0})


@given(st.lists(st.sampled_from([*MODELS, "back"]), max_size=30))
def test_switches(acts: list[str]) -> None:
    """Back leads to what was before the act, whatever came earlier; what is kept of the past is bounded."""
    state = weigh(KNOWN, RouteState(), "a", 50.0, BY)
    for act in acts:
        was = state.hand
        try:
            state = back(KNOWN, state, BY) if act == "back" else switch(KNOWN, state, act, MODELS, BY)
        except Conflict:
            assert act == was.switched or (act == "back" and state.before is None)
            continue
        assert state.before == was
        assert back(KNOWN, state, BY).hand == was
        assert len(state.events) <= EVENTS_MAX


def test_a_switch_leaves_the_canary_where_it_is() -> None:
    """It rests, and is as it was after `back`."""
    paused = act_on_canary(KNOWN, RouteState(), NOW, "pause", BY)
    assert (
        switch(KNOWN, paused, "d", MODELS, BY).canary
        == paused.canary
        == CanaryStage("paused", 40.0, "its weight stays; the guard holds on")
    )


@pytest.mark.parametrize(
    ("act", "state", "weight"),
    [
        ("start", "trying", 10.0),
        ("pause", "paused", 40.0),
        ("rollback", "rolled back", 0.0),
        ("promote", "done", 100.0),
    ],
)
def test_acts_on_a_canary(act: str, state: str, weight: float) -> None:
    """Each leads to its stage, and stands among the events with who did it."""
    after = act_on_canary(KNOWN, RouteState(), NOW, act, BY)
    assert after.canary is not None
    assert (after.canary.state, after.canary.weight) == (state, weight)
    assert (after.events[-1].change, after.events[-1].by, after.events[-1].model) == (act, BY.who, "d")


@pytest.mark.parametrize(
    ("act", "stage"),
    [("resume", NOW), ("pause", CanaryStage("rolled back", 0.0, "")), ("pause", CanaryStage("done", 100.0, "")),
     ("resume", CanaryStage("rolled back", 0.0, "")), ("explode", NOW), ("start", None)],
)  # fmt: skip
def test_acts_that_are_refused(act: str, stage: CanaryStage | None) -> None:
    """With what can be done instead."""
    with pytest.raises(ApiError, match=r"canary .*start|what can|canary\.model"):
        act_on_canary(KNOWN, RouteState(), stage, act, BY)


def test_what_a_canary_decides_by_itself() -> None:
    """It stands among the events as done by the gateway."""
    after = decided(RouteState(), "d", CanaryStage("rolled back", 0.0, "3 of 40 requests failed"), 5.0)
    assert (after.events[-1].by, after.events[-1].reason) == ("inhouse", "3 of 40 requests failed")
