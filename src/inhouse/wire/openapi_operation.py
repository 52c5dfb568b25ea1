"""What the description of the API says of one operation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from msgspec import Struct

from inhouse.wire.openapi_shapes import ErrorBody

Shape = Any
"""A type that msgspec has a schema for."""

ASK = (401, 403, 500)
"""Statuses of an operation that the gateway answers by itself."""
SHORT = (400, 401, 403, 404, 413, 500, 502, 503)
"""Statuses of a question to an engine that takes no slot."""
INFER = (400, 401, 403, 404, 408, 413, 415, 429, 500, 502, 503, 504)
"""Statuses of an operation that a model answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path. `answer` is None where the answer is not JSON of ours or is described in words only."""

    path: str
    summary: str
    answers: str
    method: Literal["get", "post", "delete"] = "post"
    tag: Literal["Generate", "Models and tokens", "Work that can wait", "Operate", "Administer"] = "Generate"
    request: type[Struct] | None = None
    example: dict[str, Any] = field(default_factory=dict)
    form: dict[str, str] = field(default_factory=dict)
    """In place of a JSON body: the fields of a form, and what they are; `file` is a file."""
    answer: Shape = None
    media: str = "application/json"
    streams: str = ""
    """How the answer streams, where the request has `stream`."""
    errors: tuple[int, ...] = INFER
    refusal: Shape = ErrorBody
    open: bool = False
    """Needs no key."""
    needs: str = ""
    """The permission that it needs, where not every key has it."""
    query: dict[str, str] = field(default_factory=dict)
    """What may stand in the query, and what it means; text, none of it required."""
