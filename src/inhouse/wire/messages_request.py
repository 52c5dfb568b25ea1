"""What a client may send to `/v1/messages` and `/v1/messages/count_tokens`.

Shapes follow the Anthropic Messages API (2023-06-01, as of 2026). Cache marks, citations and signatures inside of
blocks are passed over: they change no answer here. What it means as a chat request: `messages_translate.py`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from inhouse.wire.chat import TokensMax, Unit
from inhouse.wire.messages_decode import HintedDecoder

Ignored = Raw | UnsetType
"""Anything, never looked into. (msgspec takes `Raw | None` for None alone.)"""


class TextBlock(Struct, tag="text", tag_field="type"):
    text: str


class ImageBlock(Struct, tag="image", tag_field="type"):
    pass


class DocumentBlock(Struct, tag="document", tag_field="type"):
    pass


class ToolUseBlock(Struct, tag="tool_use", tag_field="type"):
    id: str
    name: str
    input: dict[str, Any]


ResultContent = str | list[TextBlock | ImageBlock | DocumentBlock] | None


class ToolResultBlock(Struct, tag="tool_result", tag_field="type"):
    tool_use_id: str
    content: ResultContent = None
    is_error: bool | None = None


class ThinkingBlock(Struct, tag="thinking", tag_field="type"):
    thinking: str = ""


class RedactedThinkingBlock(Struct, tag="redacted_thinking", tag_field="type"):
    data: str = ""


InputBlock = (
    TextBlock | ImageBlock | DocumentBlock | ToolUseBlock | ToolResultBlock | ThinkingBlock | RedactedThinkingBlock
)


class InputMessage(Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[InputBlock]


class InputTool(Struct):
    name: str
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    type: str | None = None
    strict: bool | None = None


class AutoChoice(Struct, tag="auto", tag_field="type"):
    disable_parallel_tool_use: bool | None = None


class AnyChoice(Struct, tag="any", tag_field="type"):
    disable_parallel_tool_use: bool | None = None


class ToolChoice(Struct, tag="tool", tag_field="type"):
    name: str
    disable_parallel_tool_use: bool | None = None


class NoneChoice(Struct, tag="none", tag_field="type"):
    pass


class Metadata(Struct):
    user_id: str | None = None


class Thinking(Struct):
    type: str


class OutputFormat(Struct):
    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(Struct):
    effort: str | None = None
    format: OutputFormat | None = None


class CountRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """A request for a count of tokens: the part of a message's request that the model reads."""

    model: str
    messages: Annotated[list[InputMessage], Meta(min_length=1)]
    system: str | list[TextBlock] | None = None
    tools: list[InputTool] | None = None
    tool_choice: AutoChoice | AnyChoice | ToolChoice | NoneChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    # accepted for compatibility; they concern Anthropic's own service
    betas: Ignored = UNSET
    billing_policy: Ignored = UNSET
    cache_control: Ignored = UNSET
    compaction: Ignored = UNSET
    context_management: Ignored = UNSET
    speed: str | None = None
    user_profile_id: str | None = None
    workspace_id: str | None = None
    # refused with a sentence, when they ask for something
    mcp_servers: list[Any] | None = None


class MessagesRequest(CountRequest, forbid_unknown_fields=True, kw_only=True):
    """A request for a message."""

    max_tokens: TokensMax
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    temperature: Unit | None = None
    top_p: Unit | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    metadata: Metadata | None = None
    # accepted for compatibility; they concern Anthropic's own service
    diagnostics: Ignored = UNSET
    fallback_credit_token: Ignored = UNSET
    fallbacks: Ignored = UNSET
    inference_geo: str | None = None
    service_tier: str | None = None
    # refused with a sentence, when they ask for something
    container: Any = None
    thread: Any = None


_HINTS = {
    "messages[].content[].type": "supported are text, tool_use, tool_result and thinking",
    "messages[].content[].content[].type": "the result of a tool is text",
    "messages[].role": "supported are user, assistant and system",
    "system[].type": "supported is text",
    "tool_choice.type": "supported are auto, any, tool and none",
    "max_tokens": "it is the largest number of tokens that the answer may have",
    "temperature": "the Messages API takes 0 to 1",
}

decode_create = HintedDecoder(MessagesRequest, _HINTS)
decode_count = HintedDecoder(CountRequest, _HINTS)
