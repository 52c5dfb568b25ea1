"""A request on its way down: what to ask of an engine, and how to show what comes back."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from inhouse.core import Usage
from inhouse.errors import ApiError


class Job(msgspec.Struct, frozen=True, gc=False):
    """One HTTP request to an engine. It takes one slot for as long as it runs."""

    path: bytes
    body: bytes
    streams: bool = True
    """False: the engine answers with one JSON document (embeddings)."""
    prompt_param: str = "messages"
    """What the client's API calls the prompt, for errors that speak of it."""
    answer_tokens_max: int | None = None
    """Longest answer that the client wants; None: as long as the context."""
    source: Any = None
    """The struct that `body` was written from, for those who have to write it anew (`wire/rewrite.py`)."""
    deterministic: bool = False
    """The engine was asked for the same answer each time: its answer may be kept and shared."""


class View(Protocol):
    """What the client sees of the engine's answer. Pure; one per request.

    Called as events*, then end or fail. Whatever opens the client's stream comes with the first of these.
    """

    @property
    def streams(self) -> bool:
        """Whether the client gets a stream, or one document at the end."""

    @property
    def usage(self) -> Usage:
        """What the engine has counted so far."""

    @property
    def events_seen(self) -> int:
        """Events with output so far, about one per token: what a hang-up is charged by."""

    def tokens_of(self, job: int) -> int:
        """Tokens, prompt and answer, that one job has taken so far."""

    def events(self, job: int, data: bytes) -> bytes:
        """The client's bytes for whole events (or, where the job does not stream, for the body) of one job.

        Raises EngineError where the engine reports a failure in mid-stream.
        """

    def finished(self, job: int) -> None:
        """The engine's response to `job` is over. Raises EngineError if it ended before its time."""

    def end(self) -> bytes:
        """The closing bytes: the last events of a stream, or the whole JSON body."""

    def fail(self, error: ApiError) -> bytes:
        """The terminal event of a stream that broke off."""


class Call(msgspec.Struct, frozen=True):
    """A parsed request: the model it names, the jobs that make up its answer, and the view of them."""

    model: str
    """The public name; "" means the first model of the stack."""
    jobs: tuple[Job, ...]
    view: View
    choices: int = 1
    """Jobs in a row that share one prompt."""
    may_trim: bool | None = None
    """Whether a prompt that is too long may be made shorter; None: as the stack says."""
