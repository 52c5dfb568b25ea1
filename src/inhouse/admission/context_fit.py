"""Which part of a conversation fits the context: what to leave out of one that is too long. Pure.

Messages are told by who speaks, by what they are thought to cost in tokens, and by the tool calls that they make or
answer. Never left out: what system and developer say, the last user message, and what comes last. A tool call and its
answers stay or go together, and an exchange (a user message with all that answers it) goes as a whole, so that what is
left reads like a conversation. The steps of the last exchange (a message, or a call with its answers) go one by one.

    trim          the oldest go first
    middle-out    those in the middle go first; the first exchange stays; long texts then lose their middles

What is short enough is left as it is, so that fitting twice is fitting once.

Not here: counting (`dispatch/prompts.py`), and what a message looks like (`wire/`).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

FitPolicy = Literal["reject", "trim", "middle-out"]

_JOINERS = frozenset("\u200d\ufe0e\ufe0f")
"""Zero-width joiner and variation selectors: with what stands before them they are one sign."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What the stack says for one model. `answer_room` is what is kept for an answer that names no length itself."""

    policy: FitPolicy = "reject"
    answer_room: int = 256
    answer_tokens_max: int | None = None
    answer_policy: Literal["clamp", "refuse"] = "clamp"


REJECTING = Fit()


@dataclass(frozen=True, slots=True)
class Said:
    """One message: who, how many tokens, the ids of the tool calls in it, and of the call that it answers."""

    role: str
    tokens: int
    calls: tuple[str, ...] = ()
    answers: str | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """The messages that stay, as indices in order, and by how many tokens they are still too many (0: they fit)."""

    kept: tuple[int, ...]
    over_tokens: int


def room_for_prompt(context_tokens: int, answer_tokens: int) -> int:
    """Tokens that a prompt may have beside an answer, which is given half of the context at most."""
    return context_tokens - min(answer_tokens, context_tokens // 2)


def fit(policy: FitPolicy, said: Sequence[Said], room_tokens: int) -> Cut:
    """What stays of a conversation; all of it where that fits."""
    total = sum(one.tokens for one in said)
    gone: set[int] = set()
    for droppable in _in_order(policy, said):
        if total <= room_tokens:
            break
        total -= sum(said[index].tokens for index in droppable)
        gone.update(droppable)
    kept = tuple(index for index in range(len(said)) if index not in gone)
    return Cut(kept, max(0, total - room_tokens))


def _in_order(policy: FitPolicy, said: Sequence[Said]) -> list[list[int]]:
    """What may go, in the order in which it goes."""
    steps = _steps(said)
    last_user = max((index for index, one in enumerate(said) if one.role == "user"), default=-1)
    asking = next((at for at, step in enumerate(steps) if last_user in step), len(steps) - 1)
    exchanges: list[list[int]] = []
    for step in steps[:asking]:
        if not exchanges or said[step[0]].role == "user":
            exchanges.append([])
        exchanges[-1] += step
    between = steps[asking + 1 : -1]
    if policy == "middle-out":
        return _from_the_middle(exchanges[1:]) + _from_the_middle(between)
    return exchanges + between


def _from_the_middle(parts: list[list[int]]) -> list[list[int]]:
    middle = (len(parts) - 1) / 2
    return [parts[at] for at in sorted(range(len(parts)), key=lambda at: (abs(at - middle), at))]


def _steps(said: Sequence[Said]) -> list[list[int]]:
    """The messages that go together: each for itself, and each tool call with all that lies up to its last answer."""
    steps: list[list[int]] = []
    made: dict[str, int] = {}  # call → message
    for index, one in enumerate(said):
        if one.role in ("system", "developer"):
            continue
        steps.append([index])
        made.update(dict.fromkeys(one.calls, index))
        if one.role != "tool" or len(steps) < 2:
            continue
        call = made.get(one.answers or "", index)
        since = steps[-2][0] if call == index else call  # an answer to nothing that is known stays where it stands
        while len(steps) > 1 and steps[-1][0] > since:
            tail = steps.pop()
            steps[-1] += tail
    return steps


def caps(lengths: Sequence[int], total_max: int) -> int:
    """The length to which the longest have to come down so that all together are at most `total_max`."""
    left = max(0, total_max)
    shorter = 0
    for place, length in enumerate(sorted(lengths)):
        share = (left - shorter) // (len(lengths) - place)
        if length > share:
            return share
        shorter += length
    return max(lengths, default=0)


def cut_middle(text: str, characters_max: int) -> str:
    """The text without its middle, a mark in its place; never more than `characters_max`, never half a sign."""
    if len(text) <= characters_max:
        return text
    keep = max(0, characters_max - len(_mark(len(text))))
    head, tail = keep - keep // 2, len(text) - keep // 2
    while head > 0 and _joined(text[head]):
        head -= 1
    while tail < len(text) and _joined(text[tail]):
        tail += 1
    return (text[:head] + _mark(tail - head) + text[tail:])[: max(0, characters_max)]


def _mark(characters: int) -> str:
    return f"\n[… {characters} characters left out …]\n"


def _joined(sign: str) -> bool:
    return sign in _JOINERS or unicodedata.combining(sign) != 0
