"""What headers say about time: seconds, lowered and never raised."""

from __future__ import annotations

import math

import pytest

from inhouse.dispatch.watch import TimeLimits
from inhouse.errors import BadRequest
from inhouse.gateway import timing

LANE = TimeLimits(wait_s=60.0, first_token_s=600.0, token_gap_s=300.0, total_s=3600.0)


def lowered(
    asked: TimeLimits | None = None, prefer_s: float = 0.0, library_s: float = math.inf, *, kept_alive: bool = False
) -> TimeLimits:
    return timing.lowered(LANE, asked=asked, prefer_s=prefer_s, library_s=library_s, kept_alive=kept_alive)


@pytest.mark.parametrize(
    ("header", "limits"),
    [
        (b"30", TimeLimits(total_s=30.0)),
        (b"0.5", TimeLimits(total_s=0.5)),
        (b"total=30", TimeLimits(total_s=30.0)),
        (b"wait=5, first-token=10,token-gap = 2.5", TimeLimits(wait_s=5.0, first_token_s=10.0, token_gap_s=2.5)),
        (b"Wait=5", TimeLimits(wait_s=5.0)),
    ],
)
def test_the_header(header: bytes, limits: TimeLimits) -> None:
    assert timing.limits(header) == limits


@pytest.mark.parametrize(
    "header", [b"", b"soon", b"0", b"-1", b"nan", b"inf", b"30s", b"queue=5", b"wait=", b"wait=5;total=3", b"\xff"]
)
def test_a_header_that_says_nothing(header: bytes) -> None:
    """Is refused with its form, and not repeated."""
    with pytest.raises(BadRequest, match="x-inhouse-timeout") as caught:
        timing.limits(header)
    assert caught.value.param == "x-inhouse-timeout"


def test_nothing_said() -> None:
    assert lowered() is LANE


def test_more_than_the_stack_allows() -> None:
    """Changes nothing."""
    asked = TimeLimits(wait_s=1e9, first_token_s=1e9, token_gap_s=1e9, total_s=1e9)
    assert lowered(asked, prefer_s=600.0, library_s=1e9) == LANE


def test_prefer_bounds_the_wait_for_a_slot() -> None:
    assert lowered(prefer_s=20.0).wait_s == 20.0


@pytest.mark.parametrize(("library_s", "wait_s"), [(600.0, 60.0), (10.0, 9.5), (0.4, 0.2)])
def test_the_timeout_of_the_clients_library(library_s: float, wait_s: float) -> None:
    """It hears the refusal before it hangs up; while comments come it would not hang up at all."""
    assert lowered(library_s=library_s).wait_s == wait_s
    assert lowered(library_s=library_s, kept_alive=True) is LANE
