"""`/v1/completions`: what a client may send, what goes to the engine and comes back from it, and the answer."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from inhouse.wire.chat import (
    Choices,
    EngineUsage,
    Penalty,
    StopWords,
    StreamOptions,
    Temperature,
    TokensMax,
    Unit,
)

TokenIds = Annotated[list[int], Meta(min_length=1)]


class CompletionRequest(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A completion request. `prompt` is a text, several texts, or token ids."""

    model: str
    prompt: str | Annotated[list[str | int | TokenIds], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: TokensMax | None = None
    temperature: Temperature | None = None
    top_p: Unit | None = None
    n: Choices | None = None
    best_of: int | None = None
    stop: StopWords = None
    seed: int | None = None
    echo: bool | None = None
    suffix: str | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    user: str | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    min_p: Unit | None = None
    typical_p: Unit | None = None
    repeat_penalty: Annotated[float, Meta(ge=0)] | None = None
    repetition_penalty: Annotated[float, Meta(ge=0)] | None = None
    ignore_eos: bool | None = None


class EngineCompletion(Struct, omit_defaults=True, kw_only=True):
    """What is sent to the engine: one prompt, always a stream."""

    model: str
    prompt: str | list[Any]
    """Text; token ids; or ids with text behind them."""
    max_tokens: int
    stream: bool = msgspec.field(default_factory=lambda: True)
    stream_options: StreamOptions = msgspec.field(default_factory=lambda: StreamOptions(include_usage=True))
    temperature: float | None = None
    top_p: float | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: int | None = None
    logit_bias: dict[str, float] | None = None
    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repeat_penalty: float | None = None
    ignore_eos: bool | None = None


class Top(Struct):
    token: str
    logprob: float


class Token(Struct):
    token: str
    logprob: float
    top_logprobs: list[Top] = []


class EngineLogprobs(Struct):
    content: list[Token] | None = None


class EngineChoice(Struct):
    text: str = ""
    finish_reason: str | None = None
    logprobs: EngineLogprobs | None = None


class EngineChunk(Struct):
    choices: list[EngineChoice]
    usage: EngineUsage | None = None


class Logprobs(Struct):
    """The four parallel lists of this API; `text_offset` counts characters from the start of the choice's text."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(Struct):
    text: str
    index: int
    logprobs: Logprobs | None
    finish_reason: str | None


class Completion(Struct, omit_defaults=True):
    id: str
    created: int
    model: str
    choices: list[TextChoice]
    object: str = msgspec.field(default_factory=lambda: "text_completion")
    usage: Any = None
