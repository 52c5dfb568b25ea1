"""An answer in the shape of the Messages API: one JSON document, or the events of a stream.

The events of a stream: message_start, ping, then for each block content_block_start, content_block_delta*,
content_block_stop, and at last message_delta with the reason of the end and the usage, and message_stop. The prompt's
tokens are not known before the engine has read it, so message_start says 0 and message_delta what it really was; the
official clients take the later figure.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from inhouse.core import Usage
from inhouse.errors import ApiError
from inhouse.wire.chat import Answer, ChatChunk
from inhouse.wire.messages_blocks import Block, Blocks, Step, blocks_of
from inhouse.wire.messages_errors import error_object

_encode = msgspec.json.Encoder().encode

_STOP_REASONS = {
    None: "end_turn",
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


class OutputTextBlock(Struct, tag="text", tag_field="type"):
    text: str


class OutputThinkingBlock(Struct, tag="thinking", tag_field="type"):
    thinking: str
    signature: str = ""
    """Always empty: nothing here verifies where a thought came from."""


class OutputToolUseBlock(Struct, tag="tool_use", tag_field="type"):
    id: str
    name: str
    input: Raw


OutputBlock = OutputTextBlock | OutputThinkingBlock | OutputToolUseBlock


class MessageUsage(Struct):
    """Tokens of a message. `input_tokens` leaves out those that came from the prefix cache."""

    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int = 0


class MessageBody(Struct, tag="message", tag_field="type"):
    """The answer to a Messages request."""

    id: str
    model: str
    content: list[OutputBlock]
    usage: MessageUsage
    stop_reason: str | None = None
    stop_sequence: str | None = None
    """Always null: engines do not say which of the stop sequences they met, and `stop_reason` is then `end_turn`."""
    role: str = "assistant"


class TextDelta(Struct, tag="text_delta", tag_field="type"):
    text: str


class ThinkingDelta(Struct, tag="thinking_delta", tag_field="type"):
    thinking: str


class InputJsonDelta(Struct, tag="input_json_delta", tag_field="type"):
    partial_json: str


class MessageStart(Struct, tag="message_start", tag_field="type"):
    message: MessageBody


class Ping(Struct, tag="ping", tag_field="type"):
    pass


class BlockStart(Struct, tag="content_block_start", tag_field="type"):
    index: int
    content_block: OutputBlock


class BlockDelta(Struct, tag="content_block_delta", tag_field="type"):
    index: int
    delta: TextDelta | ThinkingDelta | InputJsonDelta


class BlockStop(Struct, tag="content_block_stop", tag_field="type"):
    index: int


class StopDelta(Struct):
    stop_reason: str
    stop_sequence: str | None = None


class MessageDelta(Struct, tag="message_delta", tag_field="type"):
    delta: StopDelta
    usage: MessageUsage


class MessageStop(Struct, tag="message_stop", tag_field="type"):
    pass


class MessagesRendering:
    """Shows one answer to a client of the Messages API. `id_hex` makes the ids, `model` is the name it asked for."""

    def __init__(self, id_hex: str, model: str) -> None:
        self._id_hex = id_hex
        self._model = model
        self._blocks = Blocks()

    def start(self) -> bytes:
        message = MessageBody(f"msg_{self._id_hex}", self._model, [], _usage(Usage()))
        return _event(MessageStart(message)) + _event(Ping())

    def chunk(self, chunk: ChatChunk) -> bytes:
        return b"".join([self._step(step) for step in self._blocks.take(chunk)])

    def end(self, usage: Usage) -> bytes:
        rest = b"".join([self._step(step) for step in self._blocks.finish()])
        reason = _stop_reason(self._blocks.finish_reason, self._blocks.row)
        return rest + _event(MessageDelta(StopDelta(reason), _usage(usage))) + _event(MessageStop())

    def fail(self, error: ApiError) -> bytes:
        return broken_off(error)

    def body(self, answer: Answer) -> bytes:
        row = blocks_of(answer)
        finish_reason = answer.choices[0].finish_reason if answer.choices else None
        message = MessageBody(
            f"msg_{self._id_hex}",
            self._model or answer.model,
            [self._block(block, whole=True) for block in row],
            _usage(answer.usage),
            _stop_reason(finish_reason, row),
        )
        return _encode(message)

    def _step(self, step: Step) -> bytes:
        block = step.block
        if step.verb == "open":
            return _event(BlockStart(block.place, self._block(block, whole=False)))
        if step.verb == "close":
            return _event(BlockStop(block.place))
        if block.kind == "text":
            return _event(BlockDelta(block.place, TextDelta(step.piece)))
        if block.kind == "reasoning":
            return _event(BlockDelta(block.place, ThinkingDelta(step.piece)))
        return _event(BlockDelta(block.place, InputJsonDelta(step.piece)))

    def _block(self, block: Block, *, whole: bool) -> OutputBlock:
        """A block as it is in the end, or as it is announced: empty."""
        if block.kind == "text":
            return OutputTextBlock(block.text if whole else "")
        if block.kind == "reasoning":
            return OutputThinkingBlock(block.text if whole else "")
        call_id = block.call_id or f"toolu_{self._id_hex}{block.place:02d}"
        return OutputToolUseBlock(call_id, block.name, _input(block.text) if whole else Raw(b"{}"))


def broken_off(error: ApiError) -> bytes:
    """The last event of a stream that broke off."""
    return _event(error_object(error))


def _event(event: Struct) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (str(event.__struct_config__.tag).encode(), _encode(event))


def _usage(usage: Usage) -> MessageUsage:
    return MessageUsage(usage.prompt_tokens - usage.cached_tokens, usage.completion_tokens, usage.cached_tokens)


def _stop_reason(finish_reason: str | None, row: list[Block]) -> str:
    # engines say `stop` where the client had named the tool to call
    if finish_reason in (None, "stop") and any(block.kind == "call" for block in row):
        return "tool_use"
    return _STOP_REASONS.get(finish_reason, "end_turn")


def _input(arguments: str) -> Raw:
    """The input of a tool as a JSON object.

    Arguments that were cut off are handed out as `{"INVALID_JSON": text}`, the form in which Anthropic's guide to
    fine-grained tool streaming has clients hand them back.
    """
    if not arguments:
        return Raw(b"{}")
    try:
        found: dict[str, Any] = msgspec.json.decode(arguments, type=dict[str, Raw])
    except (msgspec.DecodeError, RecursionError):
        found = {"INVALID_JSON": arguments}
    return Raw(_encode(found))
