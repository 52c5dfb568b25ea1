"""What OpenAI's chat API answers: chunks and whole completions from what an engine sent."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from inhouse.core import Usage
from inhouse.errors import ApiError
from inhouse.wire import errors, sse
from inhouse.wire.chat import Answer, AnswerChoice, ChatChunk, ChunkChoice, ToolCall

_encode = msgspec.json.Encoder().encode


class _PromptDetails(Struct):
    cached_tokens: int


class _Usage(Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: _PromptDetails


def usage_body(usage: Usage) -> _Usage:
    """`usage` in OpenAI's shape."""
    return _Usage(usage.prompt_tokens, usage.completion_tokens, usage.total_tokens, _PromptDetails(usage.cached_tokens))


class _Chunk(Struct):
    id: str
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: _Usage | None = None
    object: str = "chat.completion.chunk"


class _OutLogprobs(Struct):
    content: list[Raw]
    refusal: None = None


class _TokenLogprob(Struct):
    token: Raw
    logprob: Raw
    bytes: Raw | UnsetType = UNSET
    top_logprobs: list[Raw] = []


class _ChunkLogprobs(Struct):
    content: list[_TokenLogprob] | None = None
    refusal: None = None


_token_logprob = msgspec.json.Decoder(_TokenLogprob)
_chunk_logprobs = msgspec.json.Decoder(_ChunkLogprobs | None)


class _OutMessage(Struct, omit_defaults=True):
    content: str | None
    refusal: str | None = msgspec.field(default_factory=lambda: None)
    role: str = msgspec.field(default_factory=lambda: "assistant")
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None


class _OutChoice(Struct):
    index: int
    message: _OutMessage
    finish_reason: str
    logprobs: _OutLogprobs | None


class _Completion(Struct):
    id: str
    created: int
    model: str
    choices: list[_OutChoice]
    usage: _Usage
    object: str = "chat.completion"


class ChatRendering:
    """Chat chunks as they are, for answers of several choices, and the whole `chat.completion` object.

    With `bare_logprobs`, the alternatives of a token are left out: the client asked for the tokens' own only.
    """

    __slots__ = ("_bare_logprobs", "_first", "_include_usage")

    def __init__(self, *, include_usage: bool, bare_logprobs: bool = False) -> None:
        self._include_usage = include_usage
        self._bare_logprobs = bare_logprobs
        self._first: ChatChunk | None = None

    def start(self) -> bytes:
        return b""

    def chunk(self, chunk: ChatChunk) -> bytes:
        first = self._first = self._first or chunk  # the choices of one answer share its id
        if self._bare_logprobs:
            for choice in chunk.choices:
                choice.logprobs = _bare_chunk(choice.logprobs)
        return b"data: " + _encode(_Chunk(first.id, first.created, chunk.model, chunk.choices)) + b"\n\n"

    def end(self, usage: Usage) -> bytes:
        first = self._first
        if not self._include_usage or first is None:
            return sse.DONE
        last = _Chunk(first.id, first.created, first.model, [], usage_body(usage))
        return b"data: " + _encode(last) + b"\n\n" + sse.DONE

    def fail(self, error: ApiError) -> bytes:
        return errors.event(error)

    def body(self, answer: Answer) -> bytes:
        if self._bare_logprobs:
            for choice in answer.choices:
                choice.logprobs = [_bare_token(token) for token in choice.logprobs]
        choices = [_choice(choice) for choice in answer.choices]
        return _encode(_Completion(answer.id, answer.created, answer.model, choices, usage_body(answer.usage)))


def plain_rendering() -> ChatRendering:
    return ChatRendering(include_usage=False)


def _choice(choice: AnswerChoice) -> _OutChoice:
    message = _OutMessage(
        content=choice.content,
        reasoning_content=choice.reasoning_content,
        tool_calls=choice.tool_calls or None,
    )
    logprobs = _OutLogprobs(choice.logprobs) if choice.logprobs else None
    return _OutChoice(choice.index, message, choice.finish_reason, logprobs)


def _bare_chunk(logprobs: Raw | UnsetType) -> Raw | UnsetType:
    found = None if logprobs is UNSET else _chunk_logprobs.decode(logprobs)
    if found is None or not found.content:
        return logprobs
    for token in found.content:
        token.top_logprobs = []
    return Raw(_encode(found))


def _bare_token(token: Raw) -> Raw:
    found = _token_logprob.decode(token)
    found.top_logprobs = []
    return Raw(_encode(found))
