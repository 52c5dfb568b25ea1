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
import time
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from inhouse.admission.notices import Standing
from inhouse.dispatch.follower import Source
from inhouse.dispatch.watch import TimeLimits
from inhouse.errors import ApiError, BodyTooLarge, RequestTimeout, UnsupportedMedia
from inhouse.gateway import timing
from inhouse.gateway.apis import parsed
from inhouse.gateway.head import Head
from inhouse.gateway.lean import FLAG, Flag
from inhouse.gateway.response import EVENT_STREAM, JSON, head_of, header_lines
from inhouse.gateway.wire import Wire
from inhouse.parts import Parts
from inhouse.pipeline import answer, never_begun
from inhouse.pipeline_line import Line
from inhouse.pipeline_straight import plain_of, set_off
from inhouse.telemetry.entry import Entry
from inhouse.tenancy.roles import allows
from inhouse.wire import errors, sse
from inhouse.wire.call import Call, View
from inhouse.wire.chat import PlainChat
from inhouse.wire.lenient import ignored_header
from inhouse.wire.openai_chat import plain_call


class Exchange:
    """See the module. `body` is there already where it came along with the head."""

    # what uvicorn's protocol reads and sets
    response_complete = False
    disconnected = False
    message_event: ClassVar[Flag] = FLAG
    # what the pipeline reads and sets
    limit_lines = b""
    # ours
    _line: Line | None = None
    """Where it goes the straight line: until that is over, or a task has begun to go on with it."""
    _plain: PlainChat | None = None
    _body_whole = False
    _body_bytes = 0
    _gathers = False
    """The straight line may be open to it once the body is there; nothing answers yet."""
    _admitted = False
    """It came while new requests were taken."""
    _time_asked: TimeLimits | None = None
    _noted_s = 0.0
    _task: asyncio.Task[None] | None = None
    _stopped_by: ApiError | None = None
    _body_error: ApiError | None = None
    _body_waiter: asyncio.Future[None] | None = None
    _body_since_s = 0.0
    _opening: bytes | None = None
    _begun = False
    _paused = False

    def __init__(self, wire: Wire, parts: Parts, head: Head, body: bytes | None = None) -> None:
        self._id_hex = id_hex = parts.request_ids.new()
        self.head = head
        self.entry = Entry(head.request_id or id_hex, head.api.name, time.monotonic())
        self.keep_alive = head.keep_alive
        self.notes: list[tuple[bytes, bytes]] = []
        self._wire = wire
        self._parts = parts
        self._sources: list[Source] = []
        if body is not None:
            self._body_whole = True
            self._body = [body]
            return
        self._body = []
        if head.length is not None:
            self._check_length(head.length)

    # the connection calls these
    def run(self) -> None:
        """It goes the straight line where it can; else a task answers."""
        if self.head.usual and not self._paused and self._body_error is None:
            if not self._body_whole:
                if self._may_gather():
                    self._gathers, self._admitted, self._body_since_s = True, True, time.monotonic()
                    self._wire.under_way(self)
                    return
            elif self._set_off(self._joined()):
                self._wire.under_way(self)
                return
        self.carry(answer(self._parts, self, admitted=self._admitted))

    def _may_gather(self) -> bool:
        """Whether there is no reason to refuse it before its body is there."""
        parts, head, entry = self._parts, self.head, self.entry
        identity = None if head.expects_continue or parts.closed_to_new else parts.recognise(head.proof)
        if identity is None or not allows(identity, "infer"):
            return False
        entry.key_id, entry.tenant = identity.key_id, identity.tenant
        return True

    def _set_off(self, body: bytes) -> bool:
        parts = self._parts
        if parts.closed_to_new and not self._admitted:
            return False
        identity = parts.recognise(self.head.proof)
        if identity is None:
            return False
        plain = self._plain = plain_of(parts, body)
        if plain is not None:
            self._body = []  # it is all in there
            self._line = set_off(parts, self, identity, plain)
        return self._line is not None

    def feed(self, data: bytes) -> None:
        if self._body_error is not None or self.response_complete:
            return  # read past
        self._check_length(self._body_bytes + len(data))
        self._body_bytes += len(data)
        self._body.append(data)

    def fed(self) -> None:
        self._body_whole = True
        self._wake()

    def _joined(self) -> bytes:
        """The body, which is whole."""
        body = self._body
        if len(body) != 1:
            body = self._body = [b"".join(body)]
        return body[0]

    def lost(self) -> None:
        """The client has gone."""
        self.disconnected = True
        self._gathered()
        if self._task is not None and self._line is None and not self.response_complete:
            self._task.cancel()
        self._task = None  # what it ends with leads back here
        if self._line is not None and not self.response_complete:
            self._line.leave()
        if not self.entry.begun:  # the task, if there is one, ends without having run
            never_begun(self._parts, self.entry)

    def stop(self, reason: ApiError) -> None:
        """The server ends the answer and says why."""
        if self._stopped_by is not None or self.response_complete:
            return
        if self._gathers:
            self.refuse_body(reason)
        elif self._line is not None:
            self._stopped_by = reason
            self._line.leave()
        elif self._task is not None:
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
        waits = self._gathers or self._body_waiter is not None
        if waits and now_s - self._body_since_s > body_s_max:
            self.refuse_body(RequestTimeout(f"the body did not arrive within {body_s_max:g} s; send it faster"))

    def refuse_body(self, error: ApiError) -> None:
        """What is left of the body is not wanted; the answer is `error`."""
        self._body_error = error
        self._body = []
        self._wake()

    # the straight line calls these
    def carry(self, rest: Coroutine[Any, Any, None]) -> None:
        task = self._task = asyncio.get_running_loop().create_task(rest)
        self._wire.carries(task)

    def arrived(self) -> None:
        self._line = None
        self._wire.over(self)

    # the pipeline calls these
    @property
    def credentials(self) -> tuple[bytes | None, bytes | None]:
        return self.head.credentials

    @property
    def demanded(self) -> str:
        return self.head.demanded

    @property
    def session(self) -> str:
        return self.head.session

    @property
    def prefer_wait_s(self) -> float:
        return self.head.prefer_wait_s

    def stopped_by(self) -> ApiError | None:
        return self._stopped_by

    async def call(self) -> Call | None:
        head = self.head
        body = b"" if self._plain is not None else await self._whole_body()
        if head.api.name == "responses" and b'"background"' in body and await self._diverted(body):
            return None
        if head.timeout is not None:
            self._time_asked = timing.limits(head.timeout)
        if self._plain is not None:  # it was to go the straight line
            return plain_call(self._plain)
        call, ignored = parsed(head.api, body, self._parts.stack.requests, self._id_hex, time.time())
        if ignored:
            self.notes.append(ignored_header(ignored))
        return call

    async def _diverted(self, body: bytes) -> bool:
        divert = self._parts.divert
        answer = divert and await divert(b"/v1/responses", body, self._parts.identify(*self.head.credentials))
        if answer is None:
            return False
        self._respond(200, JSON, answer)
        return True

    async def _whole_body(self) -> bytes:
        if not self.head.json:
            raise UnsupportedMedia("the body must be JSON: send the header `Content-Type: application/json`")
        if not self._body_whole and self._body_error is None:
            if self.head.expects_continue:
                self._wire.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            loop = asyncio.get_running_loop()
            self._body_waiter, self._body_since_s = loop.create_future(), loop.time()
            try:
                await self._body_waiter
            finally:
                self._body_waiter = None
        if self._body_error is not None:
            raise self._body_error
        body, self._body = self._joined(), []
        return body

    def attach(self, source: Source) -> None:
        self._wire.opened(self._task)
        self._sources.append(source)
        if self._paused:
            source.pause()

    def detach(self, source: Source) -> None:
        self._sources.remove(source)

    def time_limits(self, lane: TimeLimits, *, kept_alive: bool) -> TimeLimits:
        head = self.head
        if head.plain:
            return lane
        return timing.lowered(
            lane,
            asked=self._time_asked,
            prefer_s=head.prefer_wait_s,
            library_s=head.library_s,
            kept_alive=kept_alive,
        )

    def waits(self, standing: Standing) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s > self._noted_s and not self._paused:  # several choices of one answer may wait: one says it
            self._noted_s = now_s
            self.begin()
            self.write(sse.queued(standing.position, standing.wait_s, standing.doing))

    def begin(self) -> None:
        if not self._begun:
            self._begun = True
            chunked = self.head.chunked
            framing = b"transfer-encoding: chunked\r\n" if chunked else b""
            self.keep_alive = self.keep_alive and chunked
            self._opening = self._head(200, EVENT_STREAM + framing)

    def write(self, data: bytes) -> None:
        if self.disconnected:
            return
        if self.head.chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        if self._opening is not None:
            data, self._opening = self._opening + data, None
        self._wire.write(data)

    @property
    def framed(self) -> Callable[[bytes], None] | None:
        return self._hand_on if self.head.chunked and self._begun and self._opening is None else None

    def _hand_on(self, data: bytes) -> None:
        if not self.disconnected:
            self._wire.write(data)

    def finish(self, view: View, closing: bytes) -> None:
        if view.streams:
            self._close_stream(closing)
        else:
            self._respond(200, JSON, closing)

    def fail(self, view: View | None, error: ApiError) -> None:
        if view is None or not self._begun or self._opening is not None:
            self._opening = None  # nothing was sent yet: it can still be an ordinary refusal
            self._refuse(error)
            return
        self.entry.failed = True
        self.entry.status = 200
        self._close_stream(view.fail(error))

    def document(self, answer: bytes) -> None:
        if self.disconnected:
            return
        wire, head = self._wire, self.head
        wire.write(
            b"HTTP/1.1 200 OK\r\n%bcontent-type: application/json\r\ncontent-length: %d\r\n"
            b"x-request-id: %b\r\n%b%b%b\r\n%b"
            % (
                wire.default_headers(),
                len(answer),
                self.entry.request_id.encode(),
                self.limit_lines,
                head.cors,
                b"" if self.keep_alive else b"connection: close\r\n",
                answer,
            )
        )
        self.response_complete = True
        wire.answered(self)

    # the rest is ours
    def _head(self, status: int, lines: bytes) -> bytes:
        own = self.limit_lines + header_lines(self.notes) if self.notes else self.limit_lines
        last = self.head.cors if self.keep_alive else self.head.cors + b"connection: close\r\n"
        return head_of(self.entry, status, self._wire.default_headers() + lines, own + last)

    def _respond(self, status: int, lines: bytes, body: bytes) -> None:
        if self.disconnected:
            return
        head = self._head(status, b"%bcontent-length: %d\r\n" % (lines, len(body)))
        self._wire.write(head + body)
        self._complete()

    def _refuse(self, error: ApiError) -> None:
        if not self._body_whole:
            self.keep_alive = False  # what is left of the body is not worth reading
        body = self.head.api.error_body(error, self.entry.request_id)
        self._respond(error.status, JSON + header_lines(errors.headers(error)), body)

    def _close_stream(self, closing: bytes) -> None:
        if self.disconnected:
            return
        self.begin()
        opening, self._opening = self._opening or b"", None
        if self.head.chunked:
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
            way_out = "send less, or raise `gateway.request_bytes_max` in inhouse.yaml"
            self.refuse_body(BodyTooLarge(f"the body is larger than {limit} bytes; {way_out}"))

    def _wake(self) -> None:
        if self._gathered():
            self.run()
        elif self._body_waiter is not None and not self._body_waiter.done():
            self._body_waiter.set_result(None)

    def _gathered(self) -> bool:
        """Ends the wait for a body that nothing else waits for; whether there was one."""
        if not self._gathers:
            return False
        self._gathers = False
        self._wire.over(self)
        return True
