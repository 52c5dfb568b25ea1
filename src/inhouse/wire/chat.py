"""OpenAI Chat Completions: what a client may send, what an engine streams back.

Every other text API (responses, messages, generate) is translated into a `ChatRequest` and rendered from
`ChatChunk`s, so there is one way down and one way back. Shapes follow the OpenAI API reference (chat.completions,
2026); the sampling extensions at the end of `ChatRequest` are those that llama.cpp, vLLM and SGLang share.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Protocol

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from inhouse.config.requests import CHOICES_CEILING
from inhouse.core import Usage
from inhouse.errors import ApiError

Unit = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
TokensMax = Annotated[int, Meta(ge=1, le=10_000_000)]
Choices = Annotated[int, Meta(ge=1, le=CHOICES_CEILING)]
StopWords = str | list[str] | None
Role = Literal["system", "developer", "user", "assistant", "tool"]


class TextPart(Struct, tag="text", tag_field="type"):
    text: str


class RefusalPart(Struct, tag="refusal", tag_field="type"):
    refusal: str


class ImagePart(Struct, tag="image_url", tag_field="type"):
    image_url: Raw


class AudioPart(Struct, tag="input_audio", tag_field="type"):
    input_audio: Raw


class FilePart(Struct, tag="file", tag_field="type"):
    file: Raw


Part = TextPart | RefusalPart | ImagePart | AudioPart | FilePart


class FunctionCall(Struct):
    name: str
    arguments: str
    """A JSON document, as text."""


class ToolCall(Struct):
    id: str
    function: FunctionCall
    type: Literal["function"] = "function"


class Message(Struct, omit_defaults=True):
    role: Role
    content: str | list[Part] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None


class Function(Struct, omit_defaults=True):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Struct):
    function: Function
    type: Literal["function"]


class NamedFunction(Struct):
    name: str


class NamedToolChoice(Struct):
    function: NamedFunction
    type: Literal["function"] = "function"


ToolChoice = Literal["none", "auto", "required"] | NamedToolChoice


class JsonSchema(Struct, omit_defaults=True):
    name: str = "answer"
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(Struct, omit_defaults=True):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(Struct, omit_defaults=True):
    include_usage: bool = False
    include_obfuscation: bool | None = None


class ChatRequest(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A chat request. Fields that OpenAI defines and no engine here knows are accepted and not passed on."""

    model: str
    messages: Annotated[list[Message], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: TokensMax | None = None
    max_completion_tokens: TokensMax | None = None
    temperature: Temperature | None = None
    top_p: Unit | None = None
    n: Choices | None = None
    stop: StopWords = None
    seed: int | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    # accepted for compatibility, not passed on
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    modalities: list[Literal["text"]] | None = None
    prediction: Raw | UnsetType = UNSET
    # sampling extensions of the engines
    top_k: Annotated[int, Meta(ge=0)] | None = None
    min_p: Unit | None = None
    typical_p: Unit | None = None
    repeat_penalty: Annotated[float, Meta(ge=0)] | None = None
    repetition_penalty: Annotated[float, Meta(ge=0)] | None = None
    ignore_eos: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None


_INCLUDE_USAGE = StreamOptions(include_usage=True)


class EngineChat(Struct, omit_defaults=True, kw_only=True):
    """What is sent to the engine: always a stream, always with usage, one choice."""

    model: str
    messages: list[Message]
    stream: bool = msgspec.field(default_factory=lambda: True)
    stream_options: StreamOptions = msgspec.field(default_factory=lambda: _INCLUDE_USAGE)
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    logit_bias: dict[str, float] | None = None
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: str | None = None
    parallel_tool_calls: bool | None = None
    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repeat_penalty: float | None = None
    ignore_eos: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    # where an answer goes on that broke off
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None


class PlainChat(Struct, forbid_unknown_fields=True):
    """The fields that most requests have no others than; each as in `ChatRequest`."""

    model: str
    messages: Annotated[list[Message], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: TokensMax | None = None
    temperature: Temperature | None = None
    top_p: Unit | None = None


class PlainWhole(Struct, omit_defaults=True):
    """A plain request to the engine, for an answer in one piece: as `EngineChat` without its stream."""

    model: str
    messages: list[Message]
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None


class DeltaFunction(Struct, omit_defaults=True):
    name: str | None = None
    arguments: str | None = None


class DeltaToolCall(Struct, omit_defaults=True):
    index: int = msgspec.field(default_factory=int)  # always written, also when 0
    id: str | None = None
    type: str | None = None
    function: DeltaFunction | None = None


class Delta(Struct, omit_defaults=True):
    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[DeltaToolCall] | None = None


class ChunkChoice(Struct):
    delta: Delta
    index: int = 0
    finish_reason: str | None = None
    """`stop`, `length`, `tool_calls` or `content_filter`; None until the last chunk of this choice."""
    logprobs: Raw | UnsetType = UNSET
    """As the engine sent it; may be the bytes `null`. (`Raw | None` would take null only.)"""


class PromptDetails(Struct):
    cached_tokens: int | None = 0


class EngineUsage(Struct):
    """`usage` as engines report it."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: PromptDetails | None = None

    def noun(self) -> Usage:
        details = self.prompt_tokens_details
        return Usage(self.prompt_tokens, self.completion_tokens, (details.cached_tokens or 0) if details else 0)


class ChatChunk(Struct):
    """One event of an engine's chat stream. The last one may have no choices and carry `usage`."""

    choices: list[ChunkChoice]
    id: str = ""
    created: int = 0
    model: str = ""
    usage: EngineUsage | None = None


class AnswerChoice(Struct):
    """One finished answer: the fold of all its deltas."""

    index: int = 0
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] = []
    finish_reason: str = "stop"
    logprobs: list[Raw] = []
    """The `content` items of the chunks' logprobs, in order."""


class Answer(Struct):
    """A finished chat completion, for clients that do not stream."""

    id: str
    created: int
    model: str
    choices: list[AnswerChoice]
    usage: Usage


class WholeAnswer(Struct):
    """An answer in one piece, of which only the usage is looked at."""

    choices: Raw
    usage: EngineUsage


class AnswerEnd(Struct):
    """The end of one, from its usage on."""

    usage: EngineUsage


class Failure(Struct):
    message: str = "the engine failed"


class FailureEvent(Struct):
    """What an engine says in the middle of a stream when it cannot go on."""

    error: Failure | str | None = None


class Rendering(Protocol):
    """How one API shows one answer. Pure; called in this order: start, chunk*, then end or fail. Or body alone."""

    def start(self) -> bytes:
        """The bytes that open the stream (may be none)."""

    def chunk(self, chunk: ChatChunk) -> bytes:
        """The client's bytes for one event of the engine (may be none)."""

    def end(self, usage: Usage) -> bytes:
        """The closing events of a stream that the engine finished."""

    def fail(self, error: ApiError) -> bytes:
        """The terminal error event of a stream that broke off."""

    def body(self, answer: Answer) -> bytes:
        """The whole JSON response of a request that did not ask for a stream."""
