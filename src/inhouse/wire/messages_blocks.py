"""An engine's answer as a row of blocks, each opened, filled and closed before the next one begins.

Chat chunks may mix kinds of text freely; the Messages and the Responses API both promise their clients one block after
the other. `Blocks` puts the chunks into that order, `blocks_of` does the same for a finished answer; each API then
only has to name the steps.

Theory of operation. Reasoning and text belong to the block in hand as long as the kind stays the same. A tool call
goes on for as long as its arguments are no whole JSON object; whatever else comes meanwhile waits behind it, in the
order of its first appearance. Engines write their calls one after the other, so that in practice nothing waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from inhouse.wire.chat import Answer, AnswerChoice, ChatChunk, DeltaToolCall

Kind = Literal["reasoning", "text", "call"]


@dataclass(slots=True)
class Block:
    """A piece of an answer. `place` is its index in the answer; `call_id` and `name` are a tool call's."""

    kind: Kind
    place: int
    call_id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text so far; of a tool call, its arguments."""
        return "".join(self.pieces)


@dataclass(slots=True, frozen=True)
class Step:
    """What happened to a block. `piece` is the text that a `fill` adds."""

    verb: Literal["open", "fill", "close"]
    block: Block
    piece: str = ""


class Blocks:
    """Folds the chunks of choice 0 of one answer into steps."""

    def __init__(self) -> None:
        self.row: list[Block] = []
        self.finish_reason: str | None = None
        self._closed = 0  # blocks of the row that were opened and closed
        self._opened = 0  # blocks of the row that were opened; at most one more than closed
        self._calls: dict[int, Block] = {}

    def take(self, chunk: ChatChunk) -> Iterator[Step]:
        for choice in chunk.choices:
            if choice.index != 0:
                continue
            delta = choice.delta
            if delta.reasoning_content:
                yield from self._write(self._running("reasoning"), delta.reasoning_content)
            if delta.content:
                yield from self._write(self._running("text"), delta.content)
            for call in delta.tool_calls or ():
                arguments = call.function.arguments if call.function else None
                yield from self._write(self._call(call), arguments or "")
            if choice.finish_reason is not None:
                self.finish_reason = choice.finish_reason

    def opened(self) -> list[Block]:
        """The blocks that were opened so far. All but the last of them are closed."""
        return self.row[: self._opened]

    def finish(self) -> Iterator[Step]:
        """Closes what is open and hands out what waited. An answer without any block gets an empty text block."""
        if not self.row:
            self._append(Block("text", 0))
            yield from self._next()
        while self._closed < len(self.row):
            yield from self._close()
            if self._opened < len(self.row):
                yield from self._next()

    def _running(self, kind: Kind) -> Block:
        last = self.row[-1] if self.row else None
        return last if last and last.kind == kind else self._append(Block(kind, len(self.row)))

    def _call(self, delta: DeltaToolCall) -> Block:
        if delta.index not in self._calls:
            name = (delta.function.name if delta.function else None) or ""
            self._calls[delta.index] = self._append(Block("call", len(self.row), delta.id or "", name))
        return self._calls[delta.index]

    def _append(self, block: Block) -> Block:
        self.row.append(block)
        return block

    def _write(self, block: Block, piece: str) -> Iterator[Step]:
        if block.place < self._closed:
            return  # a call whose arguments were whole: only white space can still come
        if piece:
            block.pieces.append(piece)
        if piece and block.place < self._opened:
            yield Step("fill", block, piece)
        while self._opened < len(self.row):
            if self._closed < self._opened:
                if not _whole(self.row[self._closed]):
                    return
                yield from self._close()
            yield from self._next()

    def _next(self) -> Iterator[Step]:
        block = self.row[self._opened]
        self._opened += 1
        yield Step("open", block)
        if block.pieces:
            yield Step("fill", block, block.text)

    def _close(self) -> Iterator[Step]:
        self._closed += 1
        yield Step("close", self.row[self._closed - 1])


def blocks_of(answer: Answer) -> list[Block]:
    """The blocks of a finished answer: reasoning, text, tool calls. Never empty."""
    choice = answer.choices[0] if answer.choices else AnswerChoice()
    row: list[Block] = []
    if choice.reasoning_content:
        row.append(Block("reasoning", 0, pieces=[choice.reasoning_content]))
    if choice.content:
        row.append(Block("text", len(row), pieces=[choice.content]))
    for call in choice.tool_calls:
        row.append(Block("call", len(row), call.id, call.function.name, [call.function.arguments]))
    return row or [Block("text", 0)]


def _whole(block: Block) -> bool:
    if block.kind != "call":
        return True
    try:
        msgspec.json.decode(block.text, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
