"""How long each stage of a request may take, and who looks at the clock. Pure: the caller passes the time in seconds.

Theory of operation. A `Watch` follows one job: it waits for a slot, asks the engine (`asked`), and answers from its
first token on. The sink of the answer only sets `moved`; that a token came becomes a time at the next look, a few times
a second, by the process's one clock. So a token costs no clock and a request no timer, and a limit is kept to within
one look, never early.

Limits, each with an error of its own:
- waiting: kept by the queue, see `admission`;
- first token: from the slot to the first token;
- gap: from one token to the next, while the client reads. Comments of the engine are no tokens;
- total: from the request's arrival to the end of its answer, waiting included.

A client may lower them for its request and never raise them. Where a limit of the stack is passed the engine's health
is in doubt too, and it is asked; a client's own impatience says nothing about an engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from inhouse.errors import ApiError, FirstTokenTimeout, TokenGapTimeout, TotalTimeout

HEADER = "x-inhouse-timeout"


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """In seconds; infinite where there is none."""

    wait_s: float = math.inf
    first_token_s: float = math.inf
    token_gap_s: float = math.inf
    total_s: float = math.inf

    def lowered(self, other: TimeLimits) -> TimeLimits:
        """The smaller one of each."""
        return TimeLimits(
            min(self.wait_s, other.wait_s),
            min(self.first_token_s, other.first_token_s),
            min(self.token_gap_s, other.token_gap_s),
            min(self.total_s, other.total_s),
        )


class Pausable(Protocol):
    @property
    def paused(self) -> bool:
        """Nothing is read of it, for the client reads too slowly."""


class Watched(Protocol):
    """What is looked at a few times a second."""

    def look(self, now_s: float) -> None:
        """Ends what has taken too long."""


class Watch:
    """One job's stages and limits. `own` are the stack's limits, `limits` those that hold for this request."""

    __slots__ = ("_arrived_s", "_asked_s", "_doubt", "_heard_s", "_model", "_own", "_stop", "limits", "moved", "reply")

    def __init__(
        self, model: str, own: TimeLimits, limits: TimeLimits, arrived_s: float, stop: Callable[[ApiError], None]
    ) -> None:
        self.moved = False
        """A token has come since the last look."""
        self._model = model
        self._own = own
        self.limits = limits
        self.reply: Pausable | None = None
        """The engine's answer, once its head has come."""
        self._arrived_s = arrived_s
        self._stop = stop
        self._asked_s: float | None = None
        self._heard_s: float | None = None
        self._doubt: Callable[[], None] | None = None

    def asked(self, now_s: float, doubt: Callable[[], None]) -> None:
        """The job has its slot and goes to the engine. `doubt` has the engine looked at.

        Where an answer goes on at another engine, its next gap begins now.
        """
        self._asked_s, self._doubt, self.reply = now_s, doubt, None
        if self._heard_s is not None:
            self._heard_s = now_s

    def look(self, now_s: float) -> None:
        """Stops the request if a stage has taken too long."""
        error = self.late(now_s)
        if error is None:
            return
        if self._doubt is not None and self._by_stack(error):
            self._doubt()
        self._stop(error)

    def late(self, now_s: float) -> ApiError | None:
        """What the client is to be told if a limit is passed now."""
        limits = self.limits
        if now_s - self._arrived_s > limits.total_s:
            return TotalTimeout(self._told("the answer was not finished", limits.total_s, "total_timeout"))
        if self._asked_s is None:
            return None
        if self.moved or (self._heard_s is not None and self.reply is not None and self.reply.paused):
            self.moved = False
            self._heard_s = now_s
        elif self._heard_s is None:
            if now_s - self._asked_s > limits.first_token_s:
                return FirstTokenTimeout(
                    self._told("the first token did not come", limits.first_token_s, "first_token_timeout")
                )
        elif now_s - self._heard_s > limits.token_gap_s:
            return TokenGapTimeout(self._told("no further token came", limits.token_gap_s, "token_gap_timeout"))
        return None

    def _by_stack(self, error: ApiError) -> bool:
        if isinstance(error, FirstTokenTimeout):
            return self.limits.first_token_s >= self._own.first_token_s
        return isinstance(error, TokenGapTimeout) and self.limits.token_gap_s >= self._own.token_gap_s

    def _told(self, what: str, limit_s: float, setting: str) -> str:
        own_s: float = getattr(self._own, setting.replace("_timeout", "_s"))
        way_out = (
            f"that is what the request allows (`{HEADER}`)"
            if limit_s < own_s
            else f"ask for less, or raise the model's `{setting}` in inhouse.yaml"
        )
        return f"{what} within {limit_s:g} s at '{self._model}'; {way_out}"
