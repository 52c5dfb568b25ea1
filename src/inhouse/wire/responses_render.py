"""An answer in the shape of the Responses API: one JSON document, or the events of a stream.

The events of a stream, numbered from 0: response.created and response.in_progress; for each item output_item.added,
its text (content_part.added, output_text.delta*, output_text.done, content_part.done; for reasoning reasoning_text.*,
for a call function_call_arguments.*) and output_item.done; at last response.completed, or response.incomplete where
the answer was cut off, or an error event and response.failed where the engine broke off. There is no [DONE].
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from inhouse.core import Usage
from inhouse.errors import ApiError
from inhouse.wire.chat import Answer, ChatChunk
from inhouse.wire.messages_blocks import Block, Blocks, Step, blocks_of
from inhouse.wire.responses_items import (
    OutputItem,
    OutputTextPart,
    ReasoningTextPart,
    ResponseBody,
    Status,
    failure,
    incomplete_details,
    item,
    item_id,
    response,
    usage_body,
)
from inhouse.wire.responses_request import ResponsesRequest

_encode = msgspec.json.Encoder().encode


class ResponseEvent(Struct):
    type: str
    response: ResponseBody
    sequence_number: int


class ItemEvent(Struct):
    type: str
    output_index: int
    item: OutputItem
    sequence_number: int


class PartEvent(Struct):
    type: str
    item_id: str
    output_index: int
    content_index: int
    part: OutputTextPart | ReasoningTextPart
    sequence_number: int


class TextDelta(Struct, tag="response.output_text.delta", tag_field="type"):
    item_id: str
    output_index: int
    delta: str
    sequence_number: int
    content_index: int = 0
    logprobs: list[dict[str, Any]] = []


class TextDone(Struct, tag="response.output_text.done", tag_field="type"):
    item_id: str
    output_index: int
    text: str
    sequence_number: int
    content_index: int = 0
    logprobs: list[dict[str, Any]] = []


class ReasoningDelta(Struct, tag="response.reasoning_text.delta", tag_field="type"):
    item_id: str
    output_index: int
    delta: str
    sequence_number: int
    content_index: int = 0


class ReasoningDone(Struct, tag="response.reasoning_text.done", tag_field="type"):
    item_id: str
    output_index: int
    text: str
    sequence_number: int
    content_index: int = 0


class ArgumentsDelta(Struct, tag="response.function_call_arguments.delta", tag_field="type"):
    item_id: str
    output_index: int
    delta: str
    sequence_number: int


class ArgumentsDone(Struct, tag="response.function_call_arguments.done", tag_field="type"):
    item_id: str
    output_index: int
    name: str
    arguments: str
    sequence_number: int


class ErrorEvent(Struct, tag="error", tag_field="type"):
    code: str
    message: str
    param: str | None
    sequence_number: int


class ResponsesRendering:
    """Shows one answer to a client of the Responses API. `id_hex` makes the ids; `asked` is told back to the client."""

    def __init__(self, asked: ResponsesRequest, id_hex: str, now_s: float) -> None:
        self._asked = asked
        self._id_hex = id_hex
        self._now_s = now_s
        self._blocks = Blocks()
        self._sequence = 0

    def start(self) -> bytes:
        body = response(self._asked, id_hex=self._id_hex, now_s=self._now_s, model=self._asked.model)
        return self._lifecycle("created", body) + self._lifecycle("in_progress", body)

    def chunk(self, chunk: ChatChunk) -> bytes:
        return b"".join([self._step(step) for step in self._blocks.take(chunk)])

    def end(self, usage: Usage) -> bytes:
        blocks = self._blocks
        rest = b"".join([self._step(step) for step in blocks.finish()])
        body = self._finished(blocks.row, blocks.finish_reason, usage, self._asked.model)
        return rest + self._lifecycle(body.status, body)

    def fail(self, error: ApiError) -> bytes:
        first = error_event(error, self._next())
        body = response(
            self._asked,
            id_hex=self._id_hex,
            now_s=self._now_s,
            model=self._asked.model,
            status="failed",
            output=self._items(self._blocks.opened(), cut_off=True),
            failure=failure(error),
        )
        return first + self._lifecycle("failed", body)

    def body(self, answer: Answer) -> bytes:
        finish_reason = answer.choices[0].finish_reason if answer.choices else None
        model = self._asked.model or answer.model
        return _encode(self._finished(blocks_of(answer), finish_reason, answer.usage, model))

    def _finished(self, row: list[Block], finish_reason: str | None, usage: Usage, model: str) -> ResponseBody:
        incomplete = incomplete_details(finish_reason)
        return response(
            self._asked,
            id_hex=self._id_hex,
            now_s=self._now_s,
            model=model,
            status="incomplete" if incomplete else "completed",
            output=self._items(row, cut_off=incomplete is not None),
            usage=usage_body(usage),
            incomplete=incomplete,
        )

    def _items(self, row: list[Block], *, cut_off: bool) -> list[OutputItem]:
        """The items of an answer. Where it was cut off, the last one is not whole."""
        found = [item(block, self._id_hex, "completed") for block in row]
        if found and cut_off:
            found[-1].status = "incomplete"
        return found

    def _step(self, step: Step) -> bytes:
        if step.verb == "open":
            return self._open(step.block)
        if step.verb == "close":
            return self._close(step.block)
        block, item_id = step.block, self._item_id(step.block)
        if block.kind == "text":
            return _tagged(TextDelta(item_id, block.place, step.piece, self._next()))
        if block.kind == "reasoning":
            return _tagged(ReasoningDelta(item_id, block.place, step.piece, self._next()))
        return _tagged(ArgumentsDelta(item_id, block.place, step.piece, self._next()))

    def _open(self, block: Block) -> bytes:
        out = self._item("added", block, "in_progress")
        return out if block.kind == "call" else out + self._part("added", block, "")

    def _close(self, block: Block) -> bytes:
        blocks, item_id, text = self._blocks, self._item_id(block), block.text
        if block.kind == "text":
            out = _tagged(TextDone(item_id, block.place, text, self._next())) + self._part("done", block, text)
        elif block.kind == "reasoning":
            out = _tagged(ReasoningDone(item_id, block.place, text, self._next())) + self._part("done", block, text)
        else:
            out = _tagged(ArgumentsDone(item_id, block.place, block.name, text, self._next()))
        cut_off = block is blocks.row[-1] and incomplete_details(blocks.finish_reason) is not None
        return out + self._item("done", block, "incomplete" if cut_off else "completed")

    def _item(self, verb: str, block: Block, status: Status) -> bytes:
        name = f"response.output_item.{verb}"
        return _event(name, ItemEvent(name, block.place, item(block, self._id_hex, status), self._next()))

    def _part(self, verb: str, block: Block, text: str) -> bytes:
        name = f"response.content_part.{verb}"
        part = ReasoningTextPart(text) if block.kind == "reasoning" else OutputTextPart(text)
        return _event(name, PartEvent(name, self._item_id(block), block.place, 0, part, self._next()))

    def _item_id(self, block: Block) -> str:
        return item_id(block, self._id_hex)

    def _lifecycle(self, verb: str, body: ResponseBody) -> bytes:
        name = f"response.{verb}"
        return _event(name, ResponseEvent(name, body, self._next()))

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence - 1


def error_event(error: ApiError, number: int) -> bytes:
    """What stands before the end of a stream that broke off, as its event of this number."""
    return _event("error", ErrorEvent(error.code, error.message, error.param, number))


def _tagged(event: Struct) -> bytes:
    return _event(str(event.__struct_config__.tag), event)


def _event(name: str, event: Struct) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _encode(event))
