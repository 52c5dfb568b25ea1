"""The canary: it grows while it is no worse than the stable version, and goes back by itself when it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.config.routes import CanarySpec
from inhouse.routing.canary import Canary, CanaryEvent, CanarySettings, canary_settings
from inhouse.routing.routes import Version

SETTINGS = CanarySettings(
    "chat-v2", weight=10.0, step=30.0, every_s=60.0, error_points=2.0, ttft_percent=150.0, requests_min=20
)


def feed(
    canary: Canary, version: Version, count: int, *, failed: int = 0, ttft_s: float = 0.2, tpot_s: float = 0.02
) -> None:
    for number in range(count):
        bad = number < failed
        canary.ended(version, failed=bad, ttft_s=None if bad else ttft_s, tpot_s=None if bad else tpot_s)


def test_a_good_version() -> None:
    """Its weight grows step by step to all of it, each step with its reason."""
    canary = Canary(SETTINGS, now_s=0.0)
    weights = []
    for window in range(1, 5):
        feed(canary, "stable", 50)
        feed(canary, "canary", 50)
        assert canary.decide(window * 60.0 - 1.0) is None
        event = canary.decide(window * 60.0)
        if event is not None:
            assert "held for 50 requests" in event.reason
            weights.append(event.weight)
    assert weights == [40.0, 70.0, 100.0]
    assert canary.state == "done"
    feed(canary, "canary", 100, failed=100)
    assert canary.decide(1000.0) is None


def test_too_few_requests() -> None:
    """The window goes on until both versions have enough: a quiet night decides nothing."""
    canary = Canary(SETTINGS, now_s=0.0)
    feed(canary, "stable", 500)
    feed(canary, "canary", 19)
    assert canary.decide(10_000.0) is None
    feed(canary, "canary", 1)
    event = canary.decide(10_001.0)
    assert event is not None
    assert event.weight == 40.0


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ({"failed": 3}, "3 of 40 requests failed"),
        ({"ttft_s": 0.4}, "TTFT p95 is"),
        ({"tpot_s": 0.05}, "TPOT p95 is"),
    ],
)
def test_a_bad_version(what: dict[str, float], reason: str) -> None:
    """It goes back to nothing at once, says why, and stays there until somebody decides otherwise."""
    canary = Canary(SETTINGS, now_s=0.0)
    feed(canary, "stable", 100)
    feed(canary, "canary", 40, **what)  # type: ignore[arg-type]
    event = canary.decide(5.0)
    assert event is not None
    assert (event.state, event.weight_before, event.weight) == ("rolled back", 10.0, 0.0)
    assert reason in event.reason
    feed(canary, "stable", 100)
    feed(canary, "canary", 100)
    assert canary.decide(500.0) is None
    assert canary.start_over(501.0).weight == 10.0
    assert canary.state == "trying"


def test_a_version_that_only_fails() -> None:
    """It is not waited for: once nothing could bring the rate back, its trial ends."""
    canary = Canary(SETTINGS, now_s=0.0)
    feed(canary, "stable", 100)
    feed(canary, "canary", 1, failed=1)
    event = canary.decide(1.0)
    assert event is not None
    assert event.state == "rolled back"


def test_when_the_stable_version_is_no_better() -> None:
    """An outage that hits both is not the new version's fault."""
    canary = Canary(SETTINGS, now_s=0.0)
    feed(canary, "stable", 100, failed=30, ttft_s=3.0)
    feed(canary, "canary", 100, failed=31, ttft_s=3.1)
    assert canary.decide(59.0) is None
    event = canary.decide(60.0)
    assert event is not None
    assert event.weight == 40.0


def test_a_trial_that_ends_below_all() -> None:
    """It settles at its greatest weight, and is still watched there."""
    canary = Canary(CanarySettings("v2", weight=10.0, step=20.0, weight_max=30.0, every_s=60.0), now_s=0.0)
    feed(canary, "stable", 100)
    feed(canary, "canary", 100)
    event = canary.decide(60.0)
    assert event is not None
    assert (event.state, event.weight) == ("settled", 30.0)
    feed(canary, "stable", 100)
    feed(canary, "canary", 100)
    assert canary.decide(120.0) is None
    feed(canary, "stable", 100)
    feed(canary, "canary", 100, ttft_s=5.0)
    event = canary.decide(125.0)
    assert event is not None
    assert event.state == "rolled back"


def test_blue_and_green() -> None:
    """A weight set by hand holds whatever the figures say, and back again."""
    canary = Canary(SETTINGS, now_s=0.0)
    assert canary.set_weight(100.0, 1.0).weight == 100.0
    feed(canary, "stable", 100)
    feed(canary, "canary", 100, failed=100)
    assert canary.decide(100.0) is None
    assert canary.set_weight(0.0, 101.0).weight_before == 100.0
    with pytest.raises(ValueError, match="0 to 100"):
        canary.set_weight(101.0, 102.0)


def test_the_settings_of_a_stack() -> None:
    """The defaults of the configuration are those of the decider; without a model there is no canary."""
    assert canary_settings(CanarySpec()) is None
    assert canary_settings(CanarySpec(model="v2")) == CanarySettings("v2")


ENDS = st.tuples(
    st.sampled_from(["stable", "canary"]),
    st.booleans(),
    st.floats(0.001, 10.0),
    st.floats(0.0, 30.0),
)


@given(ends=st.lists(ENDS, max_size=300))
def test_any_traffic(ends: list[tuple[Version, bool, float, float]]) -> None:
    """A weight stays within 0 and its maximum, grows by one step at a time and only after a whole window, or falls to
    0; events tell the truth about it; after a fall nothing grows by itself."""
    settings = CanarySettings("v2", weight=10.0, step=25.0, weight_max=80.0, every_s=20.0, requests_min=3)
    canary = Canary(settings, now_s=0.0)
    now_s = 0.0
    events: list[CanaryEvent] = []
    for version, failed, figure_s, pause_s in ends:
        now_s += pause_s
        canary.ended(version, failed=failed, ttft_s=figure_s, tpot_s=figure_s / 10)
        weight = canary.weight
        event = canary.decide(now_s)
        if event is None:
            assert canary.weight == weight
            continue
        assert (event.weight_before, event.weight) == (weight, canary.weight)
        assert event.reason
        assert event.weight == 0.0 or weight < event.weight <= min(weight + 25.0, 80.0)
        assert not events or (events[-1].weight > 0.0 and (event.weight == 0.0 or now_s - events[-1].at_s >= 20.0))
        events.append(event)
    assert len(events) <= 4
