"""What a request's headers say about time. Clients may lower the stack's limits for their request, never raise them.

- `x-inhouse-timeout: 30`, or by stage `x-inhouse-timeout: wait=5, first-token=10, token-gap=5, total=30`, in seconds;
- `Prefer: wait=20` (RFC 7240, 4.3): how long the client waits for a slot, or for a model that loads;
- `x-stainless-read-timeout`, `x-stainless-timeout`: the timeout that OpenAI's and Anthropic's libraries are set to, as
  they tell by themselves: after so many seconds without a byte they hang up.
"""

from __future__ import annotations

import math

from inhouse.dispatch.watch import HEADER, TimeLimits
from inhouse.errors import BadRequest

PREFER_WAIT_S_MAX = 600.0
_STAGES = {b"wait": "wait_s", b"first-token": "first_token_s", b"token-gap": "token_gap_s", b"total": "total_s"}
_ANSWER_S = 0.5
"""What is left to tell a client before it hangs up: the clock looks four times a second."""


def prefer_wait_s(prefer: bytes) -> float:
    """Seconds of `Prefer: wait=N`; 0 where there is none."""
    for item in prefer.split(b","):
        name, _, value = item.strip().partition(b"=")
        if name.strip().lower() == b"wait" and value.strip().isdigit():
            return min(float(value), PREFER_WAIT_S_MAX)
    return 0.0


def limits(header: bytes) -> TimeLimits:
    """The limits of `x-inhouse-timeout`. Raises BadRequest."""
    found: dict[str, float] = {}
    for item in header.split(b","):
        name, given, value = item.strip().partition(b"=")
        stage = _STAGES.get(name.strip().lower()) if given else "total_s"
        limit_s = seconds(value if given else name)
        if stage is None or limit_s is None:
            raise BadRequest(
                f"the header `{HEADER}` is seconds, as in `30`, or seconds by stage, as in "
                "`wait=5, first-token=10, token-gap=5, total=30`",
                param=HEADER,
            )
        found[stage] = limit_s
    return TimeLimits(**found)


def seconds(text: bytes) -> float | None:
    """A number of seconds above 0; None for anything else."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if number > 0 and math.isfinite(number) else None


def lowered(
    lane: TimeLimits, *, asked: TimeLimits | None, prefer_s: float, library_s: float, kept_alive: bool
) -> TimeLimits:
    """The limits that hold for one request.

    A library that hears a comment now and then does not hang up while it waits: its timeout counts for others only.
    """
    limits = lane if asked is None else lane.lowered(asked)
    wait_s = prefer_s if prefer_s > 0 else math.inf
    if not kept_alive:
        wait_s = min(wait_s, max(library_s - _ANSWER_S, library_s / 2))
    return limits if wait_s >= limits.wait_s else limits.lowered(TimeLimits(wait_s=wait_s))
