"""What is read of an engine's events to know what a client has been shown."""

from __future__ import annotations

from msgspec import UNSET, Raw, Struct, UnsetType


class SentDelta(Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None  # vLLM's newer name for it
    tool_calls: list[Raw] | None = None


class SentChoice(Struct):
    delta: SentDelta | None = None
    text: str | None = None
    finish_reason: str | None = None


class SentEvent(Struct):
    choices: list[SentChoice] = []
    id: str = ""
    created: int = 0
    model: str = ""
    usage: Raw | UnsetType = UNSET
