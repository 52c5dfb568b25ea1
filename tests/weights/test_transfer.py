"""How long a transfer waits before it tries again, and when it does not."""

from __future__ import annotations

import pytest

from inhouse.config import WeightsSpec
from inhouse.errors import WeightsUnreachable
from inhouse.weights.ranges import Again
from inhouse.weights.transfer import PAUSE_MAX_S, RETRY_AFTER_MAX_S, pause_s

URL = "https://me:secret@weights.example/m.gguf?sig=secret"
SPEC = WeightsSpec(retry_pause=0.5, tries_max=8)


def test_pauses_grow_up_to_a_limit() -> None:
    assert [pause_s(Again("status 503"), tries, URL, SPEC) for tries in (1, 2, 3, 8)] == [0.5, 1, 2, PAUSE_MAX_S]
    with pytest.raises(WeightsUnreachable, match=r"^weights\.example cannot be reached: status 503$"):
        pause_s(Again("status 503"), 9, URL, SPEC)


def test_a_place_that_asks_to_wait_is_waited_for() -> None:
    """As long as it says, longer than other pauses; asked for no time at all, it is tried as others are."""
    assert pause_s(Again("status 429", 7), 1, URL, SPEC) == 7
    assert pause_s(Again("status 429", RETRY_AFTER_MAX_S), 1, URL, SPEC) == RETRY_AFTER_MAX_S == 300
    assert pause_s(Again("status 429", 0), 1, URL, SPEC) == 0.5


@pytest.mark.parametrize("after_s", [301, 999_999])
def test_a_place_that_asks_for_too_long_is_given_up_at_once(after_s: float) -> None:
    """It is told how long, and that nothing is lost."""
    with pytest.raises(WeightsUnreachable) as caught:
        pause_s(Again("status 429", after_s), 1, URL, SPEC)
    assert caught.value.message.startswith(f"weights.example asks to wait {after_s} s (status 429)")
    assert "the same command, later, goes on there" in str(caught.value.hint)
