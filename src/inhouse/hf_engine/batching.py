"""Which waiting requests are computed together, and when: pure.

The oldest is always among those that begin, so nobody starves. Others join it in the order of how near their prompts
are in length, because a batch is as wide as its longest prompt and what is shorter is filled up. A batch begins once it
is full, or once its oldest has waited for companions as long as the rules say; a batch that runs already takes on new
rows between two tokens, where the model's cache allows that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rules:
    """The bounds of a batch."""

    rows_max: int = 8
    wait_s: float = 0.005
    """How long the oldest may wait for companions while there is room."""
    prefill_tokens_max: int = 2048
    """Tokens of prompts in one pass, filling included: what those who run wait for. A longer prompt takes several."""
    padding_max: float = 0.25
    """Part of those tokens that may be filling."""
    joins: bool = True
    """Whether a batch that runs takes on new rows."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """One request that has not begun. `number` names it."""

    number: int
    arrived_s: float
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Choice:
    """Who begins now; and, where nobody does, when that has to be asked again even if nothing happens until then."""

    numbers: tuple[int, ...] = ()
    due_s: float = math.inf


NOBODY = Choice()


def choose(waiting: Sequence[Waiting], running: int, rules: Rules, now_s: float) -> Choice:
    """Who joins the `running` rows now. `waiting` is in the order of arrival."""
    room = rules.rows_max - running
    if not waiting or room <= 0 or (running and not rules.joins):
        return NOBODY
    group = _group(waiting, room, rules)
    due_s = waiting[0].arrived_s + rules.wait_s
    if len(group) == room or now_s >= due_s:
        return Choice(tuple(one.number for one in group))
    return Choice(due_s=due_s)


def _group(waiting: Sequence[Waiting], room: int, rules: Rules) -> list[Waiting]:
    """The oldest, and those that suit it."""
    oldest = waiting[0]
    near = sorted(waiting[1:], key=lambda one: (abs(one.prompt_tokens - oldest.prompt_tokens), one.arrived_s))
    group, width, tokens = [oldest], oldest.prompt_tokens, oldest.prompt_tokens
    for one in near:
        if len(group) == room:
            break
        wider, more = max(width, one.prompt_tokens), tokens + one.prompt_tokens
        cells = wider * (len(group) + 1)
        if cells <= rules.prefill_tokens_max and cells - more <= rules.padding_max * cells:
            group.append(one)
            width, tokens = wider, more
    return group
