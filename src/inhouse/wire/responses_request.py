"""What a client may send to `/v1/responses`.

Shapes follow the OpenAI Responses API (2026). The items of `input` are decoded one by one, because a message may leave
its `type` out; `responses_translate.py` does that, and says what a request means as a chat request.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct

from inhouse.wire.chat import Temperature, TokensMax, Unit
from inhouse.wire.messages_decode import HintedDecoder
from inhouse.wire.messages_request import Ignored


class InputText(Struct, tag="input_text", tag_field="type"):
    text: str


class OutputText(Struct, tag="output_text", tag_field="type"):
    text: str


class Refusal(Struct, tag="refusal", tag_field="type"):
    refusal: str


class InputImage(Struct, tag="input_image", tag_field="type"):
    pass


class InputFile(Struct, tag="input_file", tag_field="type"):
    pass


class InputAudio(Struct, tag="input_audio", tag_field="type"):
    pass


InputPart = InputText | OutputText | Refusal | InputImage | InputFile | InputAudio


class MessageItem(Struct):
    """A turn of the conversation. The one kind of item that may leave its type out."""

    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[InputPart]
    type: Literal["message"] = "message"


class FunctionCallItem(Struct):
    """A call that the model made in an earlier answer."""

    call_id: str
    name: str
    arguments: str
    type: Literal["function_call"]


class FunctionCallOutputItem(Struct):
    """What the function of an earlier call returned."""

    call_id: str
    output: str | list[InputPart]
    type: Literal["function_call_output"]


class ReasoningItem(Struct):
    """What the model thought before an earlier answer. Passed over."""

    type: Literal["reasoning"]


class ItemKind(Struct):
    type: str = "message"


ITEMS = (MessageItem, FunctionCallItem, FunctionCallOutputItem, ReasoningItem)
Item = Annotated[
    Raw,
    Meta(extra_json_schema={"anyOf": [{"$ref": f"#/components/schemas/{kind.__name__}"} for kind in ITEMS]}),
]


class FunctionTool(Struct):
    type: str
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionChoice(Struct, tag="function", tag_field="type"):
    name: str


class AllowedTool(Struct):
    type: str
    name: str | None = None


class AllowedTools(Struct, tag="allowed_tools", tag_field="type"):
    mode: Literal["auto", "required"]
    tools: list[AllowedTool]


class TextFormat(Struct, omit_defaults=True):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class TextConfig(Struct, omit_defaults=True):
    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class Reasoning(Struct, omit_defaults=True):
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    context: Literal["auto", "current_turn", "all_turns"] | None = None
    mode: str | None = None


class ResponsesRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """A request for a response."""

    model: str
    input: str | Annotated[list[Item], Meta(min_length=1)]
    stream: bool | None = None
    instructions: str | None = None
    max_output_tokens: TokensMax | None = None
    temperature: Temperature | None = None
    top_p: Unit | None = None
    text: TextConfig | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | FunctionChoice | AllowedTools | None = None
    parallel_tool_calls: bool | None = None
    reasoning: Reasoning | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    # accepted for compatibility; they change no answer here
    access_programs: Ignored = UNSET
    context_management: Ignored = UNSET
    image: Ignored = UNSET
    include: list[str] | None = None
    max_tool_calls: int | None = None
    prompt_cache_options: Ignored = UNSET
    prompt_cache_retention: str | None = None
    service_tier: str | None = None
    store: bool | None = None
    stream_options: Ignored = UNSET
    truncation: Literal["auto", "disabled"] | None = None
    # refused with a sentence, when they ask for something
    background: bool | None = None
    conversation: Any = None
    moderation: Any = None
    previous_response_id: str | None = None
    prompt: Any = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None


_PARTS = "supported are input_text and output_text"
_HINTS = {
    "input[].content[].type": _PARTS,
    "input[].output[].type": "the output of a function is text: input_text",
    "input[].role": "supported are user, assistant, system and developer",
    "tool_choice": "supported are none, auto, required, a function and allowed_tools",
    "tool_choice.type": "supported are function and allowed_tools",
    "text.format.type": "supported are text, json_object and json_schema",
}

decode = HintedDecoder(ResponsesRequest, _HINTS)
decode_kind = HintedDecoder(ItemKind, _HINTS)
decode_message = HintedDecoder(MessageItem, _HINTS)
decode_call = HintedDecoder(FunctionCallItem, _HINTS)
decode_output = HintedDecoder(FunctionCallOutputItem, _HINTS)
