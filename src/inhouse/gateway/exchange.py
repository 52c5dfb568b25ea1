"""One hot request on its connection: the body as it comes in, the answer as it goes out.

Theory of operation. `GatewayProtocol` makes an Exchange at the headers and feeds it the body; `run` is the task that
answers it (`pipeline.answer`). Three things can happen from outside at any time: the client leaves (`lost`: the task is
cancelled, nothing more is written), the server stops (`stop`: the task is cancelled and the client is told why), the
client reads too slowly (`pause`: the engine's reply is not read until `resume`).

To uvicorn's protocol an Exchange looks like its own request cycle: `response_complete`, `keep_alive`,
`disconnected` and `message_event` are what that code reads and sets.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable
from http import HTTPStatus
from typing import Protocol

from inhouse.admission.notices import Standing
from inhouse.dispatch.follower import Source
from inhouse.dispatch.watch import TimeLimits
from inhouse.errors import ApiError, BodyTooLarge, RequestTimeout, UnsupportedMedia
from inhouse.gateway import timing
from inhouse.gateway.apis import Api, parsed
from inhouse.pipeline import answer, never_begun
from inhouse.runtime import Parts
from inhouse.telemetry.entry import Entry
from inhouse.wire import errors, sse
from inhouse.wire.call import Call, View
from inhouse.wire.lenient import ignored_header
from inhouse.wire.records import sane_request_id

STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_EVENT_STREAM = (
    b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"
)
_NAME_BYTES_MAX = 128
_JSON = b"content-type: application/json\r\n"


class Wire(Protocol):
    """The connection as an Exchange sees it."""

    def write(self, data: bytes) -> None: ...

    def default_headers(self) -> bytes:
        """`date` and what else belongs to every response, as header lines."""

    def answered(self, exchange: Exchange) -> None:
        """The response is written whole."""


class _Flag:
    """Stands in for the event that uvicorn sets when a request cycle has news; an Exchange is told directly."""

    __slots__ = ()

    def set(self) -> None:
        return None


_FLAG = _Flag()
_LIBRARY_TIMEOUTS = (b"x-stainless-read-timeout", b"x-stainless-timeout")


class Exchange:
    """See the module. Headers are the raw ones, names in lower case."""

    def __init__(
        self,
        wire: Wire,
        parts: Parts,
        api: Api,
        headers: dict[bytes, bytes],
        *,
        keep_alive: bool,
        chunked: bool,
        expects_continue: bool,
    ) -> None:
        self._id_hex = parts.request_ids.new()
        self.entry = Entry(self._id_hex, api.name, time.monotonic())
        self.keep_alive = keep_alive
        self.response_complete = False
        self.disconnected = False
        self.message_event = _FLAG
        self.prefer_wait_s = 0.0
        self.limit_lines = b""
        self.notes: list[tuple[bytes, bytes]] = []
        self._time_asked: TimeLimits | None = None
        self._library_s = math.inf
        self._noted_s = 0.0
        self._wire = wire
        self._parts = parts
        self._api = api
        self._chunked = chunked
        self._expects_continue = expects_continue
        self._task: asyncio.Task[None] | None = None
        self._stopped_by: ApiError | None = None
        # the body
        get = headers.get
        self.credentials = (get(b"authorization"), get(b"x-api-key"))
        self._media = get(b"content-type")
        self._cors = b""
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._body_whole = False
        self._body_error: ApiError | None = None
        self._body_waiter: asyncio.Future[None] | None = None
        self._body_since_s = 0.0
        # the answer
        self._opening: bytes | None = None
        self._begun = False
        self._sources: list[Source] = []
        self._paused = False
        length, prefer, origin = get(b"content-length"), get(b"prefer"), get(b"origin")
        if length is not None and length.isdigit():
            self._check_length(int(length))
        own_id = get(b"x-request-id")
        if own_id is not None:
            self.entry.request_id = sane_request_id(own_id) or self._id_hex
        if prefer is not None:
            self.prefer_wait_s = timing.prefer_wait_s(prefer)
        if origin is not None:
            self._cors = _cors(origin, parts.stack.gateway.cors_origins)
        demanded, session = get(b"x-inhouse-model"), get(b"x-inhouse-session")
        self.demanded = "" if demanded is None else demanded[:_NAME_BYTES_MAX].decode("latin-1")
        self.session = "" if session is None else session[:_NAME_BYTES_MAX].decode("latin-1")
        self._timeout = get(b"x-inhouse-timeout")
        for name in _LIBRARY_TIMEOUTS:
            if (value := get(name)) is not None:
                self._library_s = min(self._library_s, timing.seconds(value) or math.inf)

    # the connection calls these
    def run(self) -> asyncio.Task[None]:
        task = self._task = asyncio.get_running_loop().create_task(answer(self._parts, self))
        return task

    def feed(self, data: bytes) -> None:
        if self._body_error is not None or self.response_complete:
            return  # read past
        self._check_length(self._body_bytes + len(data))
        self._body_bytes += len(data)
        self._body.append(data)

    def fed(self) -> None:
        self._body_whole = True
        self._wake()

    def lost(self) -> None:
        """The client has gone."""
        self.disconnected = True
        if self._task is not None and not self.response_complete:
            self._task.cancel()
        if not self.entry.begun:  # the task, if there is one, ends without having run
            never_begun(self._parts, self.entry)

    def stop(self, reason: ApiError) -> None:
        """The server ends the answer and says why."""
        if self._task is not None and self._stopped_by is None and not self.response_complete:
            self._stopped_by = reason
            self._task.cancel()

    def pause(self) -> None:
        self._paused = True
        for source in tuple(self._sources):
            source.pause()

    def resume(self) -> None:
        self._paused = False
        for source in tuple(self._sources):
            source.resume()

    def check(self, now_s: float, *, body_s_max: float) -> None:
        """About once a second: a body that takes too long."""
        if self._body_waiter is not None and now_s - self._body_since_s > body_s_max:
            self.refuse_body(RequestTimeout(f"the body did not arrive within {body_s_max:g} s; send it faster"))

    def refuse_body(self, error: ApiError) -> None:
        """What is left of the body is not wanted; the answer is `error`."""
        self._body_error = error
        self._body = []
        self._wake()

    # the pipeline calls these
    def stopped_by(self) -> ApiError | None:
        return self._stopped_by

    async def call(self) -> Call:
        body = await self._whole_body()
        if self._timeout is not None:
            self._time_asked = timing.limits(self._timeout)
        call, ignored = parsed(self._api, body, self._parts.stack.requests, self._id_hex, time.time())
        if ignored:
            self.notes.append(ignored_header(ignored))
        return call

    async def _whole_body(self) -> bytes:
        media = self._media
        if media is not None and media != b"application/json" and b"json" not in media.lower():
            raise UnsupportedMedia("the body must be JSON: send the header `Content-Type: application/json`")
        if not self._body_whole and self._body_error is None:
            if self._expects_continue:
                self._wire.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            loop = asyncio.get_running_loop()
            self._body_waiter, self._body_since_s = loop.create_future(), loop.time()
            try:
                await self._body_waiter
            finally:
                self._body_waiter = None
        if self._body_error is not None:
            raise self._body_error
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        return body

    def attach(self, source: Source) -> None:
        self._sources.append(source)
        if self._paused:
            source.pause()

    def detach(self, source: Source) -> None:
        self._sources.remove(source)

    def time_limits(self, lane: TimeLimits, *, kept_alive: bool) -> TimeLimits:
        return timing.lowered(
            lane,
            asked=self._time_asked,
            prefer_s=self.prefer_wait_s,
            library_s=self._library_s,
            kept_alive=kept_alive,
        )

    def waits(self, standing: Standing) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s > self._noted_s and not self._paused:  # several choices of one answer may wait: one says it
            self._noted_s = now_s
            self.begin()
            self.write(sse.queued(standing.position, standing.wait_s))

    def begin(self) -> None:
        if not self._begun:
            self._begun = True
            framing = b"transfer-encoding: chunked\r\n" if self._chunked else b""
            self.keep_alive = self.keep_alive and self._chunked
            self._opening = self._head(200, _EVENT_STREAM + framing)

    def write(self, data: bytes) -> None:
        if self.disconnected:
            return
        framed = b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data
        opening, self._opening = self._opening, None
        self._wire.write(framed if opening is None else opening + framed)

    def finish(self, view: View, closing: bytes) -> None:
        if view.streams:
            self._close_stream(closing)
        else:
            self._respond(200, _JSON, closing)

    def fail(self, view: View | None, error: ApiError) -> None:
        if view is None or not self._begun or self._opening is not None:
            self._opening = None  # nothing was sent yet: it can still be an ordinary refusal
            self._refuse(error)
            return
        self.entry.failed = True
        self.entry.status = 200
        self._close_stream(view.fail(error))

    # the rest is ours
    def _head(self, status: int, lines: bytes) -> bytes:
        if self.entry.cache and status == 200:
            lines += b"x-inhouse-cache: %b\r\n" % self.entry.cache.encode()
        if self.entry.failovers:
            lines += b"x-inhouse-failovers: %d\r\n" % self.entry.failovers
        return b"%b%b%bx-request-id: %b\r\n%b%b%b%b\r\n" % (
            STATUS_LINES[status],
            self._wire.default_headers(),
            lines,
            self.entry.request_id.encode(),
            b"x-inhouse-queue-wait: %.3f\r\n" % self.entry.waited_s if self.entry.waited_s else b"",
            self.limit_lines + _lines(self.notes) if self.notes else self.limit_lines,
            self._cors,
            b"" if self.keep_alive else b"connection: close\r\n",
        )

    def _respond(self, status: int, lines: bytes, body: bytes) -> None:
        if self.disconnected:
            return
        head = self._head(status, b"%bcontent-length: %d\r\n" % (lines, len(body)))
        self._wire.write(head + body)
        self._complete()

    def _refuse(self, error: ApiError) -> None:
        if not self._body_whole:
            self.keep_alive = False  # what is left of the body is not worth reading
        lines = b"".join(b"%b: %b\r\n" % header for header in errors.headers(error))
        self._respond(error.status, _JSON + lines, self._api.error_body(error, self.entry.request_id))

    def _close_stream(self, closing: bytes) -> None:
        if self.disconnected:
            return
        self.begin()
        opening, self._opening = self._opening or b"", None
        if self._chunked:
            last = b"%x\r\n%b\r\n" % (len(closing), closing) if closing else b""
            self._wire.write(opening + last + b"0\r\n\r\n")
        else:
            self._wire.write(opening + closing)
        self._complete()

    def _complete(self) -> None:
        self.response_complete = True
        self._wire.answered(self)

    def _check_length(self, body_bytes: int) -> None:
        limit = self._parts.stack.gateway.request_bytes_max
        if body_bytes > limit and self._body_error is None:
            self.refuse_body(
                BodyTooLarge(
                    f"the body is larger than {limit} bytes; send less, or raise `gateway.request_bytes_max` "
                    "in inhouse.yaml"
                )
            )

    def _wake(self) -> None:
        if self._body_waiter is not None and not self._body_waiter.done():
            self._body_waiter.set_result(None)


def _lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def _cors(origin: bytes, allowed: list[str]) -> bytes:
    if "*" in allowed:
        return b"access-control-allow-origin: *\r\n"
    if origin.decode("latin-1") in allowed:
        return b"access-control-allow-origin: %b\r\nvary: origin\r\n" % origin
    return b""
