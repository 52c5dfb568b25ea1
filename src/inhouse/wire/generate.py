"""`/generate`: the simplest possible call. A text goes in, a text comes out; no roles, no tools.

What it is not: a completion of raw text (`/v1/completions`). The text is a user's message to a chat model.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from msgspec import Struct

from inhouse.core import Usage
from inhouse.errors import ApiError
from inhouse.wire import errors, sse
from inhouse.wire.chat import (
    Answer,
    AnswerChoice,
    ChatChunk,
    ChatRequest,
    Message,
    Rendering,
    StopWords,
    Temperature,
    TokensMax,
    Unit,
)
from inhouse.wire.decode import RequestDecoder

_encode = msgspec.json.Encoder().encode


class GenerateRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """A text to answer. Without `model`, the first model of the stack answers."""

    text: str
    max_tokens: TokensMax = 256
    temperature: Temperature | None = None
    top_p: Unit | None = None
    seed: int | None = None
    stop: StopWords = None
    model: str | None = None
    stream: bool = False


class GenerateUsage(Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class GenerateBody(Struct):
    """The answer to a text."""

    text: str
    model: str
    finish_reason: str
    usage: GenerateUsage


class GeneratePiece(Struct):
    text: str


class GenerateLast(Struct):
    """The last event of a stream before [DONE]: no more text, but how it ended."""

    finish_reason: str
    usage: GenerateUsage
    text: str = ""


_decode = RequestDecoder(GenerateRequest)


@dataclass(frozen=True, slots=True)
class GenerateCall:
    """A parsed text to answer. A `model` of "" means the first model of the stack."""

    model: str
    stream: bool
    request: ChatRequest

    def rendering(self, id_hex: str, now_s: float) -> Rendering:
        """How the answer is shown. It carries neither id nor time; the parameters are there for the form only."""
        return GenerateRendering(self.model)


def parse(body: bytes | bytearray) -> GenerateCall:
    """Raises BadRequest, which names the place in the request, and InvalidJson."""
    asked = _decode(body)
    request = ChatRequest(
        model=asked.model or "",
        messages=[Message("user", asked.text)],
        max_tokens=asked.max_tokens,
        temperature=asked.temperature,
        top_p=asked.top_p,
        seed=asked.seed,
        stop=asked.stop,
    )
    return GenerateCall(request.model, asked.stream, request)


def render_error(error: ApiError) -> bytes:
    """The JSON body of a refusal: that of the OpenAI API."""
    return errors.body(error)


class GenerateRendering:
    """Text only: what a model thinks before it answers is left out. Tools were not offered, so there are no calls."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._finish_reason = "stop"

    def start(self) -> bytes:
        return b""

    def chunk(self, chunk: ChatChunk) -> bytes:
        out: list[bytes] = []
        for choice in chunk.choices:
            if choice.index != 0:
                continue
            if choice.delta.content:
                out.append(_event(GeneratePiece(choice.delta.content)))
            self._finish_reason = choice.finish_reason or self._finish_reason
        return b"".join(out)

    def end(self, usage: Usage) -> bytes:
        return _event(GenerateLast(self._finish_reason, _usage(usage))) + sse.DONE

    def fail(self, error: ApiError) -> bytes:
        return errors.event(error)

    def body(self, answer: Answer) -> bytes:
        choice = answer.choices[0] if answer.choices else AnswerChoice()
        model = self._model or answer.model
        return _encode(GenerateBody(choice.content or "", model, choice.finish_reason, _usage(answer.usage)))


def _event(event: Struct) -> bytes:
    return b"data: " + _encode(event) + b"\n\n"


def _usage(usage: Usage) -> GenerateUsage:
    return GenerateUsage(usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)
