"""What the Responses API answers with: the response object and the items of its output."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from inhouse.core import Usage
from inhouse.errors import ApiError
from inhouse.wire.messages_blocks import Block
from inhouse.wire.responses_request import AllowedTools, FunctionChoice, Reasoning, ResponsesRequest, TextFormat

Status = Literal["queued", "cancelled", "in_progress", "completed", "incomplete", "failed"]


class OutputTextPart(Struct, tag="output_text", tag_field="type"):
    text: str
    annotations: list[dict[str, Any]] = []
    logprobs: list[dict[str, Any]] = []


class ReasoningTextPart(Struct, tag="reasoning_text", tag_field="type"):
    text: str


class OutputMessage(Struct, tag="message", tag_field="type"):
    id: str
    status: Status
    content: list[OutputTextPart]
    role: str = "assistant"


class OutputReasoning(Struct, tag="reasoning", tag_field="type"):
    id: str
    status: Status
    content: list[ReasoningTextPart]
    summary: list[dict[str, Any]] = []


class OutputCall(Struct, tag="function_call", tag_field="type"):
    id: str
    status: Status
    call_id: str
    name: str
    arguments: str


OutputItem = OutputMessage | OutputReasoning | OutputCall


class InputDetails(Struct):
    cached_tokens: int
    cache_write_tokens: int = 0


class OutputDetails(Struct):
    reasoning_tokens: int = 0
    """Always 0: engines do not count them apart."""


class ResponseUsage(Struct):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class ResponseFailure(Struct):
    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str


class IncompleteDetails(Struct):
    reason: Literal["max_output_tokens", "content_filter"]


class EchoTool(Struct, tag="function", tag_field="type"):
    name: str
    description: str | None
    parameters: dict[str, Any] | None
    strict: bool | None


class EchoText(Struct, omit_defaults=True):
    format: TextFormat
    verbosity: Literal["low", "medium", "high"] | None = None


class ResponseBody(Struct, tag="response", tag_field="object", kw_only=True):
    """A response. It says what was done, not what was asked: it is not stored, and nothing was cut from the input."""

    id: str
    created_at: int
    status: Status
    model: str
    output: list[OutputItem]
    error: ResponseFailure | None = None
    incomplete_details: IncompleteDetails | None = None
    usage: ResponseUsage | None = None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    parallel_tool_calls: bool
    prompt_cache_key: str | None
    reasoning: Reasoning
    safety_identifier: str | None
    temperature: float | None
    text: EchoText
    tool_choice: Literal["none", "auto", "required"] | FunctionChoice | AllowedTools
    tools: list[EchoTool]
    top_p: float | None
    user: str | None
    background: bool = False
    max_tool_calls: int | None = None
    previous_response_id: str | None = None
    service_tier: str = "default"
    store: bool = False
    top_logprobs: int = 0
    truncation: str = "disabled"


def response(
    asked: ResponsesRequest,
    *,
    id_hex: str,
    now_s: float,
    model: str,
    status: Status = "in_progress",
    output: list[OutputItem] | None = None,
    usage: ResponseUsage | None = None,
    incomplete: IncompleteDetails | None = None,
    failure: ResponseFailure | None = None,
) -> ResponseBody:
    """The response object: its state, and the request's own settings back."""
    text = asked.text
    return ResponseBody(
        id=f"resp_{id_hex}",
        created_at=int(now_s),
        status=status,
        model=model,
        output=output or [],
        error=failure,
        incomplete_details=incomplete,
        usage=usage,
        instructions=asked.instructions,
        max_output_tokens=asked.max_output_tokens,
        metadata=asked.metadata or {},
        parallel_tool_calls=asked.parallel_tool_calls is not False,
        prompt_cache_key=asked.prompt_cache_key,
        reasoning=asked.reasoning or Reasoning(),
        safety_identifier=asked.safety_identifier,
        temperature=asked.temperature,
        text=EchoText((text.format if text else None) or TextFormat("text"), text.verbosity if text else None),
        tool_choice=asked.tool_choice or "auto",
        tools=[EchoTool(t.name or "", t.description, t.parameters, t.strict) for t in asked.tools or ()],
        top_p=asked.top_p,
        user=asked.user,
    )


_PREFIX = {"text": "msg", "reasoning": "rs", "call": "fc"}


def item_id(block: Block, id_hex: str) -> str:
    return f"{_PREFIX[block.kind]}_{id_hex}{block.place:02d}"


def item(block: Block, id_hex: str, status: Status) -> OutputItem:
    """A block as an item of the output; while it is in progress, it is still empty."""
    own_id = item_id(block, id_hex)
    texts = [] if status == "in_progress" else [block.text]
    if block.kind == "text":
        return OutputMessage(own_id, status, [OutputTextPart(text) for text in texts])
    if block.kind == "reasoning":
        return OutputReasoning(own_id, status, [ReasoningTextPart(text) for text in texts])
    call_id = block.call_id or f"call_{id_hex}{block.place:02d}"
    return OutputCall(own_id, status, call_id, block.name, "".join(texts))


def usage_body(usage: Usage) -> ResponseUsage:
    return ResponseUsage(
        usage.prompt_tokens,
        InputDetails(usage.cached_tokens),
        usage.completion_tokens,
        OutputDetails(),
        usage.total_tokens,
    )


def incomplete_details(finish_reason: str | None) -> IncompleteDetails | None:
    """Why an answer is not whole; None when it is."""
    if finish_reason == "length":
        return IncompleteDetails("max_output_tokens")
    return IncompleteDetails("content_filter") if finish_reason == "content_filter" else None


def failure(error: ApiError) -> ResponseFailure:
    """The API has its own short list of codes for a response that failed; the message says the rest."""
    if error.status == 429:
        return ResponseFailure("rate_limit_exceeded", error.message)
    return ResponseFailure("invalid_prompt" if error.status < 500 else "server_error", error.message)
