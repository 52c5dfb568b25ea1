"""The spine: credentials in, answer out, everything given back on the way up, and one record of it, however it ends.

    identify, may infer                     401 403
      parse(body)                           400 408 413 415
        find the lanes of the model         403 404
          make it fit, hold the quota       400 403 429
            a turn at a slot                429 503 504
              the engine's stream           502 504
    ← client ← view ← events ← engine

Leaving is entering in reverse: stream closed → slot freed → quota settled → booked for the tokens really sent. A
hang-up cancels the task that runs this; it is swallowed here and nowhere else.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from inhouse.core import Identity, Usage
from inhouse.dispatch import direct
from inhouse.dispatch.lane import Lane
from inhouse.dispatch.prepare import prepare
from inhouse.errors import (
    ApiError,
    AuditUnavailable,
    InternalError,
    QueueFull,
    RateLimited,
    ShuttingDown,
    Unable,
    Unauthorized,
    Unavailable,
)
from inhouse.parts import BOOKED_AT_ONCE, Parts, book_all
from inhouse.telemetry.entry import HUNG_UP, Entry
from inhouse.telemetry.log import place_of
from inhouse.telemetry.story import Held, Limited
from inhouse.tenancy.roles import require
from inhouse.wire.call import Call, View


class Request(direct.Client, Protocol):
    """One request at the door, and the way back to its client."""

    limit_lines: bytes
    """Where the caller's limits stand, as lines of the answer's head."""

    @property
    def demanded(self) -> str:
        """The model that the caller wants past the route (`x-inhouse-model`), "" where none."""

    notes: list[tuple[bytes, bytes]]
    """What was changed about the request on its way, as headers of the answer."""

    @property
    def entry(self) -> Entry: ...

    @property
    def credentials(self) -> tuple[bytes | None, bytes | None]:
        """The raw values of `Authorization` and `x-api-key`."""

    async def call(self) -> Call | None:
        """The parsed body; None: it goes on elsewhere, and its client knows. Raises BadRequest and its kin."""

    def finish(self, view: View, closing: bytes) -> None:
        """The whole answer, or the end of its stream."""

    def fail(self, view: View | None, error: ApiError) -> None:
        """A refusal; after the first byte of a stream, its terminal event."""

    def stopped_by(self) -> ApiError | None:
        """Why the request was cancelled, where it was not the client who left."""


class Begun(Protocol):
    """A request that is under way, and met something that its own way has no answer to (`pipeline_straight`)."""

    @property
    def view(self) -> View: ...

    async def go_on(self) -> None:
        """The rest of its answer. Raises ApiError."""


async def answer(parts: Parts, request: Request, *, admitted: bool = False) -> None:
    """Answers one request. Never raises; every way out is told to the client and booked. `admitted`: it came before."""
    entry = request.entry
    entry.begun = True
    view: View | None = None
    try:
        if parts.draining and not admitted:
            raise ShuttingDown("this server is shutting down; retry in 5 s", retry_after_s=5.0)
        if parts.audit.refusing and not admitted:
            raise AuditUnavailable("the audit cannot be written; the log of this server says why", retry_after_s=5.0)
        identity = parts.identify(*request.credentials)
        entry.key_id, entry.tenant = identity.key_id, identity.tenant
        require(identity, "infer")
        call = await request.call()
        if call is not None:
            view = call.view
            lanes = parts.ways.of(call, identity, request.demanded, request.session, entry)
            for found in lanes:
                try:
                    await _answer_from(found, parts, request, identity, call)
                    break
                except (QueueFull, Unavailable, Unable) as error:
                    if found is lanes[-1] or view.events_seen:
                        raise
                    parts.ways.passed_on(entry, error)
        entry.status = 200
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the last line of defence: a fault of ours must not hang the client
        end_with(error, parts, request, view)
    book(parts, entry, view, time.monotonic())


async def answer_rest(parts: Parts, request: Request, begun: Begun) -> None:
    """As `answer`, from where the request has come by itself."""
    try:
        await begun.go_on()
        request.entry.status = 200
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - as in `answer`
        end_with(error, parts, request, begun.view)
    book(parts, request.entry, begun.view, time.monotonic())


def end_with(error: BaseException, parts: Parts, request: Request, view: View | None) -> None:
    """What a request came to that was not answered: told to its client, and noted."""
    entry = request.entry
    if isinstance(error, ApiError):
        if isinstance(error, Unauthorized):
            entry.key_id = error.key_id
            entry.note("credential", error.why)
        elif isinstance(error, RateLimited):
            entry.step(Limited(asyncio.get_running_loop().time(), error.limits))
        _fail(request, view, error)
    elif isinstance(error, asyncio.CancelledError):
        reason = request.stopped_by()
        if reason is not None:
            _fail(request, view, reason)
        else:
            entry.status = HUNG_UP
    else:
        # the kind and place of the fault, never its text, which may hold content
        parts.log.event("error", "internal error", request_id=entry.request_id, fault=place_of(error))
        _fail(request, view, InternalError("an internal error; the log of this server says more under the request id"))


async def _answer_from(found: Lane, parts: Parts, request: Request, identity: Identity, call: Call) -> None:
    """The answer of one lane, its quota held and settled. Raises ApiError."""
    entry, view = request.entry, call.view
    entry.model = found.model
    share = parts.shares.of(identity.tenant)
    call, bound, hold = await prepare(parts.quotas, identity, found, call, entry, request.notes)
    try:
        held = hold.reservation
        if held is not None:
            entry.step(Held(hold.at.steady_us / 1_000_000, held.scopes, held.tokens, held.money))
        request.limit_lines = hold.lines
        request.finish(view, await direct.answer(call, found, share, request, entry))
    finally:
        hold.settle(bound.spent(view.usage, view.events_seen, entry.reused_tokens))
        entry.money = hold.money


def _fail(request: Request, view: View | None, error: ApiError) -> None:
    request.fail(view, error)
    request.entry.code = error.code
    if not request.entry.failed:
        request.entry.status = error.status


def _note_reuse(entry: Entry) -> None:
    entry.usage = entry.usage.without(entry.reused_tokens)
    entry.note("cache", entry.cache)
    if entry.reused_tokens:
        entry.note("reused_tokens", entry.reused_tokens)


def never_begun(parts: Parts, entry: Entry) -> None:
    """Books a request whose client left before its turn on the connection, or before the event loop came to it."""
    entry.begun = True
    entry.status = HUNG_UP
    book(parts, entry, None, time.monotonic())


def book(parts: Parts, entry: Entry, view: View | None, now_s: float) -> None:
    """A request is over. `view` is None where there was none, or the entry has its usage already."""
    entry.ended_s = now_s
    if view is not None:
        entry.events = view.events_seen
        entry.usage = view.usage
        if not entry.usage.total_tokens:  # an engine that was cut off has not said it: its events are the tokens sent
            entry.usage = Usage(completion_tokens=view.events_seen)
        if entry.cache:
            _note_reuse(entry)
    parts.ways.ended(entry)
    over = parts.over
    over.append(entry)
    if len(over) == BOOKED_AT_ONCE:
        asyncio.get_running_loop().call_soon(book_all, parts)
