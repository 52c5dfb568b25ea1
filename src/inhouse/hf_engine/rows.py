"""One answer to be, on its way from the door to the model's thread and back. No torch here."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from inhouse.errors import ApiError
from inhouse.hf_engine.asks import Sampling

Finish = Literal["stop", "length"]
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A prompt in tokens, and how the answer is made. Without answer tokens, the prompt's own vector is wanted."""

    prompt: list[int]
    answer_tokens_max: int = 0
    sampling: Sampling = field(default_factory=Sampling)
    stops: tuple[str, ...] = ()
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """One token with its log probability, and the likeliest that could have stood in its place."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """What came of a row: text with one token or several, a vector, or the end."""

    text: str = ""
    tokens: int = 0
    """Of the whole answer so far."""
    told: tuple[Told, ...] = ()
    finish: Finish | None = None
    vector: list[float] | None = None


class Row:
    """One row. `deliver` is called in the event loop. `gone`, set by the door, frees its place at the next token."""

    __slots__ = ("arrived_s", "deliver", "first_s", "gone", "last_s", "number", "wanted")

    def __init__(self, wanted: Wanted, deliver: Callable[[Piece | ApiError], None], arrived_s: float) -> None:
        self.number = next(_numbers)
        self.wanted = wanted
        self.deliver = deliver
        self.arrived_s = arrived_s
        self.first_s = 0.0
        self.last_s = 0.0
        self.gone = False
