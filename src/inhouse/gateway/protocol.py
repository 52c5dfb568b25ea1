"""uvicorn's httptools protocol, with the hot endpoints served by it directly, without ASGI.

At the headers a POST to one of `apis.APIS` becomes an `Exchange`; everything else goes on to the ASGI app as usual.
What this adds for both: limits on heads, bodies and connections, errors in the API's own shape, and liveness answered
in the parser's own callback, ahead of all other work.

Theory of operation. `cycle` is the newest request of the connection, as in uvicorn; `_exchanges` holds the hot ones
that are not answered yet, the running one first. Requests that were pipelined wait in uvicorn's `pipeline`.
A client that closes its sending side counts as gone, as in Go's net/http: it cannot be told from a hang-up.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from inhouse.errors import ApiError, BadRequest, HeadersTooLarge, Unavailable
from inhouse.gateway.apis import APIS
from inhouse.gateway.exchange import STATUS_LINES, Exchange
from inhouse.runtime import Parts
from inhouse.wire import errors

_LINGER_S = 2.0
_ALIVE = b'{"status":"ok"}'


class GatewayProtocol(HttpToolsProtocol):
    """One client connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        parts: Parts,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._parts = parts
        self._limits = parts.stack.gateway
        self._exchanges: list[Exchange] = []
        self._head_bytes = 0
        self._in_head = True
        self._head_since_s = self.loop.time()
        self._closing = False
        self._answered_here = False
        self._silent = True

    # asyncio
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, transport))
        if len(self.connections) > self._limits.connections_max:
            self._refuse(Unavailable("this server has too many open connections; retry in 1 s", retry_after_s=1))

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return  # read past until the client has our answer
        self._unset_keepalive_if_required()
        self._silent = False
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes == len(data):
                self._head_since_s = self.loop.time()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(BadRequest("this server does not upgrade connections; send plain HTTP/1.1"))
        except httptools.HttpParserError:
            if not self._closing:
                self._refuse(BadRequest("this is not a valid HTTP/1.1 request"))
        else:
            if self._in_head and self._head_bytes > self._limits.headers_bytes_max:
                limit = self._limits.headers_bytes_max
                self._refuse(HeadersTooLarge(f"the headers are larger than {limit} bytes; send fewer"))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._closing = True
        self.pipeline.clear()
        for exchange in tuple(self._exchanges):
            exchange.lost()
        self._exchanges.clear()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._exchanges:
            self._exchanges[0].pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._exchanges:
            self._exchanges[0].resume()

    # httptools
    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        path = self.url.partition(b"?")[0]
        api = APIS.get(path)
        if api is None or self.parser.get_method() != b"POST":
            if path == b"/health/live" and self.parser.get_method() == b"GET" and self._idle():
                self._answered_here = True
                self._answer_alive()
            else:
                super().on_headers_complete()
            return
        http_1_1 = self.parser.get_http_version() == "1.1"
        waiting = not self._idle()
        exchange = Exchange(
            self,
            self._parts,
            api,
            self.headers,
            keep_alive=http_1_1 and self.parser.should_keep_alive(),
            chunked=http_1_1,
            expects_continue=self.expect_100_continue,
        )
        self.cycle = cast(Any, exchange)
        self._exchanges.append(exchange)
        if waiting:
            self.flow.pause_reading()
            self.pipeline.appendleft((cast(Any, exchange), self.app))
        else:
            self._start_asgi_task(cast(Any, exchange), self.app)

    def on_body(self, body: bytes) -> None:
        cycle = cast(Any, self.cycle)
        if self._answered_here:
            return
        if isinstance(cycle, Exchange):
            cycle.feed(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head = True
        cycle = cast(Any, self.cycle)
        if self._answered_here:
            self._answered_here = False
            if not self.parser.should_keep_alive():
                self.transport.close()
        elif isinstance(cycle, Exchange):
            cycle.fed()
        else:
            super().on_message_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if not isinstance(cycle, Exchange):
            super()._start_asgi_task(cycle, app)
            return
        task = cycle.run()
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    # for Exchange
    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def default_headers(self) -> bytes:
        return b"".join([b"%b: %b\r\n" % header for header in self.server_state.default_headers])

    def answered(self, exchange: Exchange) -> None:
        if exchange in self._exchanges:
            self._exchanges.remove(exchange)
        if not exchange.keep_alive:
            self._linger()
        self.on_response_complete()

    def hang_up(self) -> None:
        self.transport.abort()

    # for the server
    def check(self, now_s: float) -> None:
        """About once a second: whatever takes too long ends."""
        for exchange in tuple(self._exchanges):
            exchange.check(now_s, body_s_max=self._limits.body_timeout, stall_s_max=self._limits.body_timeout)
        if self._in_head and self._head_bytes and now_s - self._head_since_s > self._limits.body_timeout:
            self.transport.close()
        elif self._silent and now_s - self._head_since_s > self._limits.keep_alive:
            self.transport.close()  # connected, and never said anything

    def stop(self, reason: ApiError) -> None:
        """Ends what is running; the client is told why."""
        for exchange in tuple(self._exchanges):
            exchange.stop(reason)

    def shutdown(self) -> None:
        super().shutdown()
        for exchange in self._exchanges:
            exchange.keep_alive = False

    # the rest is ours
    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _answer_alive(self) -> None:
        self.transport.write(
            b"%b%bcontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (STATUS_LINES[200], self.default_headers(), len(_ALIVE), _ALIVE)
        )

    def _refuse(self, error: ApiError) -> None:
        """An answer to what never became a request, and the end of the connection."""
        if self._exchanges:  # an answer is being written: a second one must not run into it
            self.transport.close()
            return
        body = errors.body(error)
        lines = b"".join(b"%b: %b\r\n" % header for header in errors.headers(error))
        self.transport.write(
            b"%b%b%bcontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (STATUS_LINES[error.status], self.default_headers(), lines, len(body), body)
        )
        self._linger()

    def _linger(self) -> None:
        """Closes, but reads past what the client still sends: a reset would take our answer from it."""
        self._closing = True
        if self._in_head and not self._head_bytes:
            self.transport.close()
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER_S, self.transport.close)
