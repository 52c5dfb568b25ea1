"""Every stage of a request has a limit of its own, kept to within one look of the clock and never early."""

from __future__ import annotations

import pytest

from inhouse.dispatch.watch import TimeLimits, Watch
from inhouse.errors import ApiError, FirstTokenTimeout, TokenGapTimeout, TotalTimeout

LIMITS = TimeLimits(wait_s=5.0, first_token_s=10.0, token_gap_s=2.0, total_s=100.0)


class Reply:
    paused = False


class Case:
    """A watch, the errors that it stopped the request with, and how often the engine was doubted."""

    def __init__(self, asked: TimeLimits = LIMITS) -> None:
        self.told: list[ApiError] = []
        self.doubts = 0
        self.watch = Watch("m", LIMITS, LIMITS.lowered(asked), 0.0, self.told.append)

    def doubt(self) -> None:
        self.doubts += 1

    def look(self, *times_s: float) -> list[type[ApiError]]:
        for now_s in times_s:
            self.watch.look(now_s)
        return [type(error) for error in self.told]


def test_the_first_token() -> None:
    """The time counts from the slot, not from the arrival: waiting has a limit of its own."""
    case = Case()
    assert case.look(50.0) == []
    case.watch.asked(50.0, case.doubt)
    assert case.look(60.0) == []
    assert case.look(60.1) == [FirstTokenTimeout]
    assert "10 s" in case.told[0].message
    assert "`first_token_timeout`" in case.told[0].message
    assert case.doubts == 1


def test_the_gap_between_tokens() -> None:
    """A token gives the next one its whole time; nothing is cut early, whenever the clock happens to look."""
    case = Case()
    case.watch.asked(0.0, case.doubt)
    for now_s in range(1, 20):
        case.watch.moved = True
        assert case.look(float(now_s)) == []
    assert case.look(20.0, 20.9) == []
    assert case.look(21.25) == [TokenGapTimeout]
    assert case.doubts == 1


def test_a_client_that_reads_too_slowly() -> None:
    """It is not the engine's fault that no token comes."""
    case = Case()
    case.watch.asked(0.0, case.doubt)
    reply = case.watch.reply = Reply()
    case.watch.moved = True
    case.look(1.0)
    reply.paused = True
    assert case.look(5.0, 50.0) == []
    reply.paused = False
    assert case.look(51.0) == []
    assert case.look(52.5) == [TokenGapTimeout]


@pytest.mark.parametrize("asked", [True, False])
def test_the_whole(asked: bool) -> None:
    """Counts from the arrival and in every stage; the engine is not doubted for it."""
    case = Case()
    if asked:
        case.watch.asked(95.0, case.doubt)
    case.watch.moved = True
    assert case.look(100.0) == []
    case.watch.moved = True
    assert case.look(100.1) == [TotalTimeout]
    assert case.doubts == 0


def test_a_limit_of_the_client() -> None:
    """Lowers, never raises; the message says whose it was, and the engine is not doubted for it."""
    case = Case(TimeLimits(first_token_s=1.0, token_gap_s=1000.0))
    assert case.watch.limits == TimeLimits(wait_s=5.0, first_token_s=1.0, token_gap_s=2.0, total_s=100.0)
    case.watch.asked(0.0, case.doubt)
    assert case.look(1.1) == [FirstTokenTimeout]
    assert "`x-inhouse-timeout`" in case.told[0].message
    assert case.doubts == 0
