"""A batch of requests: the nouns that its store, its API and its runner share. No I/O.

Source of names and states: OpenAI's API reference, "Batch". Times are whole seconds since 1970.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

Status = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]
OVER: frozenset[Status] = frozenset({"failed", "completed", "expired", "cancelled"})


class LineProblem(Struct, kw_only=True):
    """What is wrong with one line of the input."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class Problems(Struct, kw_only=True):
    object: Literal["list"] = "list"
    data: list[LineProblem]


class Counts(Struct):
    """Requests of a batch."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class BatchObject(Struct, kw_only=True):
    """A batch, as clients see it."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    errors: Problems | None = None
    input_file_id: str
    completion_window: str = "24h"
    status: Status = "validating"
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int = 0
    in_progress_at: int | None = None
    expires_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: Counts = msgspec.field(default_factory=Counts)
    metadata: dict[str, str] | None = None
