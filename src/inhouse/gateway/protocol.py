"""uvicorn's httptools protocol, with the hot endpoints served by it directly, without ASGI.

At the headers a POST to one of `apis.APIS` becomes an `Exchange`; everything else goes on to the ASGI app as usual.
What this adds for both: limits on heads, bodies and connections, errors in the API's own shape, and liveness answered
in the parser's own callback, ahead of all other work.

Theory of operation. `cycle` is the newest request of the connection, as in uvicorn; `_exchanges` holds the hot ones
that are not answered yet, the running one first. Requests that were pipelined wait in uvicorn's `pipeline`; reading
goes on meanwhile, for only a reader learns of a hang-up, up to `_AHEAD_BYTES_MAX`.
A client that closes its sending side counts as gone, as in Go's net/http: it cannot be told from a hang-up.
A request that offers to change the protocol (`Upgrade`, which Java's client does by default) is answered as if it had
not: the parser stops after its head, which is then fed once more without the offer.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httptools

from inhouse.errors import ApiError, BadRequest, HeadersTooLarge, RequestTimeout, Unavailable
from inhouse.gateway.apis import hot_of
from inhouse.gateway.exchange import Exchange
from inhouse.gateway.head import Again, Head, again, head_of, size_of, without_upgrade
from inhouse.gateway.late_websocket import LateWebSocket, handshake, is_socket
from inhouse.gateway.lean import Config, Flow, HttpToolsProtocol, Pipelined, ServerState
from inhouse.gateway.response import alive, refusal
from inhouse.gateway.stall import Stall
from inhouse.gateway.wire import Wire
from inhouse.parts import Parts
from inhouse.telemetry.log import place_of

_LINGER_S = 2.0
_AHEAD_BYTES_MAX = 256 * 1024


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
        self.pipeline = cast(Any, Pipelined())
        self._parts = parts
        self._read = b""
        self._limits = parts.stack.gateway
        self._notes_client = parts.stack.audit.client_address
        self._head_since_s = self.loop.time()
        self._body_since_s = self._head_since_s
        self._plain_head = b""
        self._socket_head = b""
        self._answered_here = False
        self._stall = Stall(self._head_since_s)
        self._wire = Wire(self.loop, server_state, self._answered, body_bytes_max=self._limits.request_bytes_max)

    # asyncio
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, transport))
        self.flow = Flow(self.transport)
        self._wire.open(self.transport)
        if len(self.connections) > self._limits.connections_max:
            self._refuse(Unavailable("this server has too many open connections; retry in 1 s", retry_after_s=1))

    def data_received(self, data: bytes) -> None:
        wire = self._wire
        if wire.closing:
            return  # read past until the client has our answer
        wire.silent = False
        wire.idle_since_s = None
        if wire.in_head:
            if not wire.head_bytes:
                again = wire.again
                if again is not None and self._comes_again(again, data):
                    return
                self._read = data
                self._head_since_s = self.loop.time()
            wire.head_bytes += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            if not wire.closing:
                self._broken(error)
        else:
            if wire.in_head and wire.head_bytes > self._limits.headers_bytes_max:
                self._refuse(self._head_too_large())
        if not self.pipeline:
            wire.ahead_bytes = 0
            return
        wire.ahead_bytes += len(data)
        if wire.ahead_bytes > _AHEAD_BYTES_MAX and not self.transport.is_closing():
            self.flow.pause_reading()

    def eof_received(self) -> None:
        self._wire.flush()
        for exchange in tuple(self._wire.exchanges):
            exchange.lost()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._wire.closing = True
        self.pipeline.clear()
        for exchange in tuple(self._wire.exchanges):
            exchange.lost()
        self._wire.exchanges.clear()
        # these point back here: without them, what a connection held is free at once, not when the collector comes by
        self.cycle = self.parser = cast(Any, None)
        self._wire.lost()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._wire.exchanges:
            self._wire.exchanges[0].pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._wire.exchanges:
            self._wire.exchanges[0].resume()

    # httptools
    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        head_bytes, self._wire.head_bytes, self._wire.in_head = self._wire.head_bytes, 0, False
        if (
            head_bytes > self._limits.headers_bytes_max
            and size_of(self.url, self.headers) > self._limits.headers_bytes_max
        ):
            error = self._head_too_large()
            self._refuse(error)
            raise error  # ends the parsing
        method = self.parser.get_method()
        if self.parser.should_upgrade():
            if self._idle() and is_socket(method, self.url, self.headers):
                self._socket_head = handshake(self.url, self.headers)
            elif method == b"CONNECT":
                no_proxy = BadRequest("this server is no proxy: send requests for its own paths")
                self._refuse(no_proxy)
                raise no_proxy
            else:
                self._plain_head = without_upgrade(method, self.url, self.headers)
            return
        api = hot_of(method, self.url, self.headers)
        if api is None:
            self._body_since_s = self.loop.time()
            if self.url == b"/health/live" and self.parser.get_method() == b"GET" and self._idle():
                self._answered_here = True
                self._wire.write(alive(self._wire.default_headers(), keep_alive=self._keeps_alive()))
            else:
                self._begin_asgi()
                if self.pipeline:
                    self.flow.resume_reading()
            return
        http_1_1 = self.parser.get_http_version() == "1.1"
        head = head_of(
            api,
            dict(self.headers),
            origins=self._limits.cors_origins,
            keep_alive=http_1_1 and self.parser.should_keep_alive(),
            chunked=http_1_1,
            expects_continue=self.expect_100_continue and http_1_1,
        )
        self._wire.again = again(head, self._read) if self._read else None
        waiting = not self._idle()
        exchange = self._exchange(head)
        if waiting:
            self.pipeline.appendleft((cast(Any, exchange), self.app))
        else:
            self._start_asgi_task(cast(Any, exchange), self.app)

    def _comes_again(self, again: Again, data: bytes) -> bool:
        """Whether it is one whole request with the head of the one before; then it is on its way."""
        wire = self._wire
        cycle = self.cycle
        if self.pipeline or not (cycle is None or cycle.response_complete):
            return False
        body = again.bytes.body_in(data)
        if body is None or len(body) > wire.body_bytes_max:
            return False
        wire.ahead_bytes = 0
        exchange = self._exchange(again.head, body)
        if self.flow.write_paused:  # by the answer before this one
            exchange.pause()
        exchange.run()
        return True

    def _exchange(self, head: Head, body: bytes | None = None) -> Exchange:
        wire = self._wire
        exchange = Exchange(wire, self._parts, head, body)
        if self._notes_client and self.client:
            exchange.entry.client = self.client[0]
        self.cycle = cast(Any, exchange)
        wire.exchanges.append(exchange)
        return exchange

    def on_body(self, body: bytes) -> None:
        cycle = cast(Any, self.cycle)
        if self._answered_here:
            return
        if isinstance(cycle, Exchange):
            cycle.feed(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._wire.in_head = True
        self._read = b""  # what follows in the same read does not begin it
        cycle = cast(Any, self.cycle)
        if self._plain_head or self._socket_head:
            return
        if self._answered_here:
            self._answered_here = False
            if self._keeps_alive():
                self.on_response_complete()
            else:
                self._close()
        elif isinstance(cycle, Exchange):
            cycle.fed()
        else:
            super().on_message_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if not isinstance(cycle, Exchange):
            super()._start_asgi_task(cycle, app)
            return
        if self.flow.write_paused:  # by the answer before this one
            cycle.pause()
        cycle.run()

    def _answered(self, exchange: Exchange) -> None:
        """Its response is written whole."""
        wire = self._wire
        exchanges = wire.exchanges
        if exchanges and exchanges[0] is exchange:
            del exchanges[0]
        elif exchange in exchanges:
            exchanges.remove(exchange)
        if not exchange.keep_alive:
            self.pipeline.clear()
            wire.exchanges.clear()
            self._linger()
        self.on_response_complete()

    def hang_up(self) -> None:
        self.transport.abort()

    # for the server
    def check(self, now_s: float) -> None:
        """About once a second: whatever takes too long ends."""
        for exchange in tuple(self._wire.exchanges):
            exchange.check(now_s, body_s_max=self._limits.body_timeout)
        if self._stall.lasts_s(self.transport, now_s, paused=self.flow.write_paused) > self._limits.body_timeout:
            self.transport.abort()
        elif self._wire.closing:
            return
        elif not self._wire.in_head and not self.pipeline and (self._idle() or not self._wire.exchanges):
            if now_s - self._body_since_s > self._limits.body_timeout:
                self._give_body_up()
        elif self._wire.head_bytes and self._idle() and now_s - self._head_since_s > self._limits.body_timeout:
            self._close()
        elif self._wire.silent and now_s - self._head_since_s > self._limits.keep_alive:
            self._close()  # connected, and never said anything
        elif self._wire.idle_since_s is not None and now_s - self._wire.idle_since_s > self._limits.keep_alive:
            self._close()

    def stop(self, reason: ApiError) -> None:
        """Ends what is running; the client is told why."""
        for exchange in tuple(self._wire.exchanges):
            exchange.stop(reason)

    def shutdown(self) -> None:
        self._wire.flush()
        super().shutdown()
        for exchange in self._wire.exchanges:
            exchange.keep_alive = False

    # the rest is ours
    def on_response_complete(self) -> None:
        """As uvicorn's, without a timer per response: `check` ends idle connections."""
        wire = self._wire
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        else:
            wire.idle_since_s = self.loop.time()

    def _parse(self, data: bytes) -> None:
        """Feeds the parser; where a request offers to upgrade, its head once more without the offer."""
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if self._socket_head:
                    self.connections.discard(self)
                    self._wire.closing = True
                    self._wire.flush()
                    socket = LateWebSocket(self.config, self.server_state, self.app_state, self.loop)
                    socket.take_over(self.transport, self._socket_head + data[upgrade.args[0] :])
                    return
                head, self._plain_head = self._plain_head, b""
                data = head + data[upgrade.args[0] :]
            else:
                return

    def _begin_asgi(self) -> None:
        """uvicorn's way; it fills a scope at the begin of each message, which hot requests do without."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        super().on_headers_complete()

    def _head_too_large(self) -> HeadersTooLarge:
        return HeadersTooLarge(f"the headers are larger than {self._limits.headers_bytes_max} bytes; send fewer")

    def _keeps_alive(self) -> bool:
        return self.parser.get_http_version() == "1.1" and bool(self.parser.should_keep_alive())

    def _give_body_up(self) -> None:
        """The body of a request to the ASGI app does not come to its end."""
        cycle = cast(Any, self.cycle)
        if self._idle() or cycle.response_started:  # it has, or will have, its answer
            self._close()
            return
        limit_s = self._limits.body_timeout
        self._refuse_in_place_of(cycle, RequestTimeout(f"the body did not arrive within {limit_s:g} s; send it faster"))

    def _refuse_in_place_of(self, cycle: Any, error: ApiError) -> None:
        """The answer to a request that the ASGI app works at and has not begun to answer."""
        cycle.disconnected = cycle.response_complete = True  # what the app still says is not sent
        cycle.message_event.set()
        self._refuse(error)

    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _broken(self, error: httptools.HttpParserError) -> None:
        """The parser did not get through what came."""
        if isinstance(error, httptools.HttpParserCallbackError) and not self._idle():
            # a fault of ours: nobody may be left to answer what is under way
            self._parts.log.event("error", "internal error", fault=place_of(error.__context__ or error))
            self.transport.abort()
        else:
            self._refuse(BadRequest("this is not a valid HTTP/1.1 request"))

    def _refuse(self, error: ApiError) -> None:
        """An answer to what never became a request, and the end of the connection."""
        if not self._idle():  # an answer is being written: a second one must not run into it
            self._refuse_after_answers(error)
            return
        self._wire.write(refusal(error, self._wire.default_headers()))
        self._linger()

    def _refuse_after_answers(self, error: ApiError) -> None:
        """What came before the fault is answered still."""
        self._wire.closing = True
        self.cycle.keep_alive = False
        if self._wire.in_head:
            return
        if self._wire.exchanges and cast(Any, self.cycle) is self._wire.exchanges[-1]:
            self._wire.exchanges[-1].refuse_body(error)
        elif self._wire.exchanges or self.pipeline or cast(Any, self.cycle).response_started:
            self._close()
        else:
            self._refuse_in_place_of(self.cycle, error)

    def _linger(self) -> None:
        """Closes, but reads past what the client still sends: a reset would take our answer from it."""
        self._wire.closing = True
        if self._wire.in_head and not self._wire.head_bytes and not self._wire.silent:
            self._close()
            return
        self._wire.flush()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER_S, self.transport.close)

    def _close(self) -> None:
        self._wire.flush()
        self.transport.close()
