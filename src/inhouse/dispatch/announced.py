"""What gateways and workers of one queue tell each other through Redis, beside jobs and answers."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from inhouse.errors import EngineError
from inhouse.wire.queued import render_error

_T = TypeVar("_T", bound=msgspec.Struct)
WHY_SILENT = "its worker was silent for longer than its lease"


class About(msgspec.Struct, omit_defaults=True):
    """What a worker says of itself."""

    slots: int = 0
    busy: int = 0
    context_tokens: int | None = None
    engine: str = ""
    host: str = ""


class Waiting(msgspec.Struct):
    """What waits in a gateway, and what it has handed over."""

    requests: int = 0
    tokens: int = 0
    handed: int = 0
    handed_tokens: int = 0


def told(kind: type[_T], text: bytes) -> _T:
    """One of these as it was written; of what cannot be read, nothing is known."""
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError:
        return kind()


def dead_error(model: str, attempts_max: int) -> bytes:
    """What a client is told whose job is given up."""
    return render_error(
        EngineError(
            f"{attempts_max} workers of '{model}' failed at this request; it lies with the dead letters "
            "(`inhouse queue dead list`)"
        )
    )
