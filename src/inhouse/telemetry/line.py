"""What a line of the log says of a request."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from inhouse.telemetry.entry import Entry
from inhouse.telemetry.rounding import tenths, thousandths

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


def level_of(entry: Entry) -> Level:
    return "warning" if entry.status >= 500 or entry.failed else "info"


def line_of(entry: Entry, epoch_s: float) -> dict[str, Any] | RequestLine:
    """`epoch_s` is what the event loop's clock showed, in seconds since 1970, at its zero."""
    usage, arrived_s, first_s = entry.usage, entry.arrived_s, entry.first_token_s
    line = RequestLine(
        thousandths(epoch_s + entry.ended_s),
        level_of(entry),
        "request",
        entry.request_id,
        entry.api,
        entry.model,
        entry.key_id,
        entry.tenant,
        entry.status,
        usage.prompt_tokens,
        usage.cached_tokens,
        usage.completion_tokens,
        tenths(1000 * entry.waited_s),
        None if first_s is None else tenths(1000 * (first_s - arrived_s)),
        tenths(1000 * (entry.ended_s - arrived_s)),
        entry.code or UNSET,
    )
    return line if not entry.facts else fields_of(line) | {**entry.facts}


def fields_of(line: RequestLine) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(line).items() if value is not UNSET}
