"""Folds the chunks of a chat stream into the whole answer, for clients that do not stream."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
from msgspec import UNSET, Raw

from inhouse.core import Usage
from inhouse.wire.chat import Answer, AnswerChoice, ChatChunk, ChunkChoice, DeltaToolCall, FunctionCall, ToolCall


class _Logprobs(msgspec.Struct):
    content: list[Raw] | None = None


_logprobs = msgspec.json.Decoder(_Logprobs | None)
_NO_LOGPROBS = _Logprobs()


@dataclass(slots=True)
class _Call:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Choice:
    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: dict[int, _Call] = field(default_factory=dict)
    logprobs: list[Raw] = field(default_factory=list)
    finish_reason: str | None = None

    def add(self, choice: ChunkChoice) -> None:
        delta = choice.delta
        if delta.content:
            self.content.append(delta.content)
        if delta.reasoning_content:
            self.reasoning.append(delta.reasoning_content)
        for part in delta.tool_calls or ():
            self._add_call(part)
        if choice.logprobs is not UNSET:
            self.logprobs.extend((_logprobs.decode(choice.logprobs) or _NO_LOGPROBS).content or ())
        if choice.finish_reason is not None:
            self.finish_reason = choice.finish_reason

    def _add_call(self, part: DeltaToolCall) -> None:
        call = self.calls.setdefault(part.index, _Call())
        if part.id:
            call.id = part.id
        if part.function is not None:
            call.name += part.function.name or ""
            if part.function.arguments:
                call.arguments.append(part.function.arguments)

    def done(self, index: int) -> AnswerChoice:
        calls = [
            ToolCall(id=call.id, function=FunctionCall(call.name, "".join(call.arguments)))
            for _, call in sorted(self.calls.items())
        ]
        content = "".join(self.content)
        return AnswerChoice(
            index=index,
            content=content if content or not calls else None,
            reasoning_content="".join(self.reasoning) or None,
            tool_calls=calls,
            finish_reason=self.finish_reason or "stop",
            logprobs=self.logprobs,
        )


class AnswerFold:
    """The state of a fold. `add` in any order of choices; chunks of one choice in the order they were sent."""

    __slots__ = ("_choices", "_first")

    def __init__(self) -> None:
        self._choices: dict[int, _Choice] = {}
        self._first: ChatChunk | None = None

    def add(self, chunk: ChatChunk) -> None:
        if self._first is None:
            self._first = chunk
        for choice in chunk.choices:
            self._choices.setdefault(choice.index, _Choice()).add(choice)

    def answer(self, usage: Usage) -> Answer:
        first = self._first or ChatChunk(choices=[])
        return Answer(
            id=first.id,
            created=first.created,
            model=first.model,
            choices=[choice.done(index) for index, choice in sorted(self._choices.items())],
            usage=usage,
        )
