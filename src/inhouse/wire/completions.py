"""`/v1/completions`: text in, text out, without a chat template.

Each prompt times each of `n` is a job of its own, so that usage is counted right (llama.cpp counts one choice of
several) and nothing queues inside the engine. Log probabilities are turned into the shape that this older API has.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from inhouse.config.requests import REQUESTS, RequestsSpec
from inhouse.core import Usage
from inhouse.errors import ApiError, BadRequest
from inhouse.wire import errors, sse
from inhouse.wire.call import Call, Job
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
from inhouse.wire.decode import RequestDecoder
from inhouse.wire.guard import check_no_nul, check_sampling
from inhouse.wire.openai_chat import spread
from inhouse.wire.openai_chat_answer import usage_body
from inhouse.wire.views import Tracking, raise_failure

PATH = b"/v1/completions"
PROMPTS_MAX = 128
TOKENS_DEFAULT = 16  # OpenAI's own default for this endpoint

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


_decode = RequestDecoder(CompletionRequest)
_encode = msgspec.json.Encoder().encode


def parse(body: bytes | bytearray, limits: RequestsSpec = REQUESTS, *, id_hex: str, now_s: float) -> Call:
    """A completion request as a Call. Raises BadRequest."""
    request = _decode(body)
    check_sampling(request.n, request.stop, limits)
    prompts = _prompts(request)
    _refuse_impossible(request, prompts)
    jobs: list[Job] = []
    echoes: list[str] = []
    for prompt in prompts:
        engine = EngineCompletion(
            model=request.model,
            prompt=prompt,
            max_tokens=TOKENS_DEFAULT if request.max_tokens is None else request.max_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            stop=request.stop,
            seed=request.seed,
            presence_penalty=request.presence_penalty,
            frequency_penalty=request.frequency_penalty,
            logprobs=max(1, request.logprobs) if request.logprobs is not None else None,
            logit_bias=request.logit_bias,
            top_k=request.top_k,
            min_p=request.min_p,
            typical_p=request.typical_p,
            repeat_penalty=request.repetition_penalty if request.repeat_penalty is None else request.repeat_penalty,
            ignore_eos=request.ignore_eos,
        )
        jobs += spread(engine, PATH, request.n or 1, "prompt")
        echoes += [prompt if request.echo and isinstance(prompt, str) else ""] * (request.n or 1)
    options = request.stream_options
    view = TextView(
        id=f"cmpl-{id_hex}",
        created=int(now_s),
        model=request.model,
        echoes=echoes,
        streams=bool(request.stream),
        include_usage=options is not None and options.include_usage,
        top_logprobs=request.logprobs,
        choices=request.n or 1,
    )
    return Call(request.model, tuple(jobs), view, request.n or 1)


def _prompts(request: CompletionRequest) -> list[str | list[int]]:
    prompt = request.prompt
    if isinstance(prompt, str):
        return [prompt]
    if all(isinstance(item, int) for item in prompt):
        return [[item for item in prompt if isinstance(item, int)]]
    mixed = [item for item in prompt if not isinstance(item, int)]
    if len(mixed) != len(prompt):
        raise BadRequest("`prompt` mixes token ids with texts; send one kind", param="prompt")
    if len(prompt) > PROMPTS_MAX:
        raise BadRequest(f"`prompt` has {len(prompt)} prompts; at most {PROMPTS_MAX} in one request", param="prompt")
    return mixed


def _refuse_impossible(request: CompletionRequest, prompts: list[str | list[int]]) -> None:
    if request.suffix:
        raise BadRequest("`suffix` is not supported; put the text around the gap into `prompt`", param="suffix")
    if request.best_of is not None and request.best_of != (request.n or 1):
        raise BadRequest("`best_of` is not supported beyond `n`", param="best_of")
    if request.echo and (request.logprobs is not None or not all(isinstance(prompt, str) for prompt in prompts)):
        raise BadRequest("`echo` works for text prompts without `logprobs` only", param="echo")
    for prompt in prompts:
        if isinstance(prompt, str):
            check_no_nul(prompt, "prompt")
    if request.stream_options is not None and not request.stream:
        raise BadRequest("`stream_options` is only allowed when `stream` is true", param="stream_options")


class _Top(Struct):
    token: str
    logprob: float


class _Token(Struct):
    token: str
    logprob: float
    top_logprobs: list[_Top] = []


class _EngineLogprobs(Struct):
    content: list[_Token] | None = None


class _EngineChoice(Struct):
    text: str = ""
    finish_reason: str | None = None
    logprobs: _EngineLogprobs | None = None


class _EngineChunk(Struct):
    choices: list[_EngineChoice]
    usage: EngineUsage | None = None


class Logprobs(Struct):
    """The four parallel lists of this API; `text_offset` counts characters from the start of the choice's text."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class _Choice(Struct):
    text: str
    index: int
    logprobs: Logprobs | None
    finish_reason: str | None


class _Completion(Struct, omit_defaults=True):
    id: str
    created: int
    model: str
    choices: list[_Choice]
    object: str = msgspec.field(default_factory=lambda: "text_completion")
    usage: Any = None


_chunk = msgspec.json.Decoder(_EngineChunk)


class TextView(Tracking):
    """Text completions, streamed or whole."""

    __slots__ = ("_choices", "_echoes", "_head", "_include_usage", "_offsets", "_top_logprobs", "streams")

    def __init__(
        self,
        *,
        id: str,
        created: int,
        model: str,
        echoes: list[str],
        streams: bool,
        include_usage: bool,
        top_logprobs: int | None,
        choices: int,
    ) -> None:
        super().__init__(choices)
        self.streams = streams
        self._head = (id, created, model)
        self._echoes = list(echoes)
        self._include_usage = include_usage
        self._top_logprobs = top_logprobs
        self._choices = [_Choice(text, index, None, None) for index, text in enumerate(echoes)]
        self._offsets = [0] * len(echoes)

    def _echo(self, job: int) -> bytes:
        text, self._echoes[job] = self._echoes[job], ""
        return self._event([_Choice(text, job, None, None)]) if text and self.streams else b""

    def events(self, job: int, data: bytes) -> bytes:
        out = [self._echo(job)]
        for payload in sse.payloads(data):
            if payload == b"[DONE]":
                self._ended += (job,)
                continue
            for choice in self._read(job, payload):
                piece = _Choice(choice.text, job, self._logprobs(job, choice), choice.finish_reason)
                if self.streams:
                    out.append(self._event([piece]))
                else:
                    self._keep(job, piece)
        return b"".join(out)

    def _read(self, job: int, payload: bytes) -> list[_EngineChoice]:
        try:
            chunk = _chunk.decode(payload)
        except msgspec.DecodeError:
            raise_failure(payload)
            return []
        if chunk.usage is not None:
            self._counted(job, chunk.usage.noun())
        if chunk.choices:
            self.events_seen += 1
        return chunk.choices

    def _logprobs(self, job: int, choice: _EngineChoice) -> Logprobs | None:
        if self._top_logprobs is None or choice.logprobs is None or not choice.logprobs.content:
            return None
        found = Logprobs([], [], [], [])
        for token in choice.logprobs.content:
            found.tokens.append(token.token)
            found.token_logprobs.append(token.logprob)
            found.top_logprobs.append({top.token: top.logprob for top in token.top_logprobs[: self._top_logprobs]})
            found.text_offset.append(self._offsets[job])
            self._offsets[job] += len(token.token)
        return found

    def _keep(self, job: int, piece: _Choice) -> None:
        kept = self._choices[job]
        kept.text += piece.text
        kept.finish_reason = piece.finish_reason or kept.finish_reason
        if piece.logprobs is not None:
            if kept.logprobs is None:
                kept.logprobs = Logprobs([], [], [], [])
            for name in Logprobs.__struct_fields__:
                getattr(kept.logprobs, name).extend(getattr(piece.logprobs, name))

    def _event(self, choices: list[_Choice], usage: Usage | None = None) -> bytes:
        shown = usage_body(usage) if usage is not None else None
        return b"data: " + _encode(_Completion(*self._head, choices, usage=shown)) + b"\n\n"

    def end(self) -> bytes:
        if self.streams:
            return (self._event([], self.usage) if self._include_usage else b"") + sse.DONE
        return _encode(_Completion(*self._head, self._choices, usage=usage_body(self.usage)))

    def fail(self, error: ApiError) -> bytes:
        return errors.event(error)
