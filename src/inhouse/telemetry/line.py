"""What a line of the log says of a request."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

Level = Literal["debug", "info", "warning", "error"]


class RequestLine(msgspec.Struct, gc=False):
    """The line of one request; the names are those of the line."""

    time: float
    level: Level
    event: str
    request_id: str
    api: str
    model: str
    key_id: str
    tenant: str
    status: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    waited_ms: float
    ttft_ms: float | None
    e2e_ms: float
    code: str | UnsetType = UNSET
