"""The fake engine's HTTP: a plain protocol on httptools, and the table of its paths.

It does what clients of engines need and no more: HTTP/1.1 with keep-alive, bodies with a length or in chunks, one
request at a time on a connection (what is pipelined waits).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from http import HTTPStatus
from typing import Any, cast

import httptools
import msgspec

from inhouse.fake import counting, metrics, wire
from inhouse.fake.engine import Engine, Job
from inhouse.fake.settings import WrongSetting, shown
from inhouse.fake.text import tokens_of
from inhouse.fake.wire import ChatAsk, EmbeddingAsk, Refused, RerankAsk, TextAsk

_GARBAGE = b"\x00\x7f this engine is no web server \xff\xfe\r\n\r\n"
_BODY_BYTES_MAX = 64 * 1024 * 1024
_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}
_encode = msgspec.json.encode
_chat = msgspec.json.Decoder(ChatAsk)
_text = msgspec.json.Decoder(TextAsk)
_embedding = msgspec.json.Decoder(EmbeddingAsk)
_ranking = msgspec.json.Decoder(RerankAsk)


class Door(asyncio.Protocol):
    """One connection. `faulty` is False for the control port, which always answers."""

    def __init__(self, engine: Engine, *, faulty: bool = True) -> None:
        self.engine = engine
        self.body = b""
        self.path = b""
        self._faulty = faulty
        self._transport: asyncio.Transport | None = None
        self._parser: Any = httptools.HttpRequestParser(self)
        self._url = b""
        self._parts: list[bytes] = []
        self._body_bytes = 0
        self._waiting: deque[tuple[bytes, bytes, bytes, bool]] = deque()
        self._busy = False
        self._keep_alive = True
        self._job: Job | None = None

    # asyncio
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._faulty and self.engine.faults.of_connection(self.engine.settings):
            self.engine.refused("refuse")
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.break_off()
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._waiting.clear()
        if self._job is not None:
            self.engine.left(self._job)

    # httptools
    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > _BODY_BYTES_MAX:
            self.break_off()
            return
        self._parts.append(body)

    def on_message_complete(self) -> None:
        method, keep_alive = self._parser.get_method(), bool(self._parser.should_keep_alive())
        self._waiting.append((method, self._url, b"".join(self._parts), keep_alive))
        self._url, self._parts, self._body_bytes = b"", [], 0

    # for Engine
    def begin_stream(self) -> None:
        self._write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")

    def stream(self, data: bytes) -> None:
        if data:
            self._write(b"%x\r\n%b\r\n" % (len(data), data))

    def end_stream(self) -> None:
        self._write(b"0\r\n\r\n")
        self._over()

    def respond(self, status: int, body: bytes, media: str = "application/json") -> None:
        head = b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n" % (
            status,
            _PHRASES.get(status, b"-"),
            media.encode(),
            len(body),
        )
        self._write(head + body)
        self._over()

    def break_off(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # the rest is ours
    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _over(self) -> None:
        self._busy, self._job = False, None
        if not self._keep_alive:
            self.break_off()
        elif self._waiting:
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        if self._busy or not self._waiting or self._transport is None:
            return
        method, url, self.body, self._keep_alive = self._waiting.popleft()
        self._busy = True
        path = self.path = url.partition(b"?")[0]
        try:
            if path in self.engine.dialect.lacks:
                raise Refused(404, "not_found_error", "Not Found")
            if method == b"POST" and path in SLOW:
                self._slow(SLOW[path])
            elif handler := PATHS.get((method, path)):
                handler(self)
            else:
                raise Refused(404, "not_found_error", "this fake engine has no such path")
        except Refused as refusal:
            self._refuse(refusal)
        except WrongSetting as error:
            self._refuse(Refused(400, "invalid_request_error", str(error)))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._refuse(Refused(400, "invalid_request_error", f"the body cannot be read: {error}"))

    def _refuse(self, refusal: Refused) -> None:
        self.respond(refusal.status, refusal.body(self.engine.dialect))

    def _slow(self, take: Callable[[Door, str], Job]) -> None:
        """A request that takes a slot, and may fail."""
        engine = self.engine
        if engine.loading:
            raise Refused(503, "unavailable_error", "Loading model")
        fault = engine.faults.of_request(engine.settings) if self._faulty else ""
        if fault:
            engine.refused(fault)
        if fault == "half_open":
            return
        if fault == "garbage":
            self._write(_GARBAGE)
            return
        if fault == "error":
            raise Refused(engine.settings.error_status, "server_error", "this failure was asked for")
        job = take(self, fault)
        if not job.gone:
            self._job = job


def _health(door: Door) -> None:
    engine = door.engine
    if engine.settings.health_hangs:
        return
    if engine.loading:
        raise Refused(503, "unavailable_error", "Loading model")
    if engine.settings.unhealthy:
        raise Refused(500, "server_error", "this engine was told to be unwell")
    door.respond(200, engine.dialect.health_body)


def _props(door: Door) -> None:
    settings = door.engine.settings
    body = {
        "total_slots": settings.slots,
        "default_generation_settings": {"n_ctx": settings.context_tokens},
        "model_alias": door.engine.model,
        "model_path": "fake",
        "build_info": "inhouse-fake-engine",
    }
    door.respond(200, _encode(body))


def _slots(door: Door) -> None:
    door.respond(200, _encode(door.engine.slots()))


def _metrics(door: Door) -> None:
    engine = door.engine
    if door.path != engine.dialect.metrics_path:
        raise Refused(404, "not_found_error", "this engine has its metrics elsewhere")
    flavour = engine.settings.metrics_as
    if flavour == "same":
        flavour = engine.dialect.metrics_as
    page = metrics.page(flavour, engine.read_figures(), engine.model)
    if page is None:
        raise Refused(404, "not_found_error", "this engine has no metrics")
    door.respond(200, page, "text/plain; version=0.0.4")


def _models(door: Door) -> None:
    context, dialect = door.engine.settings.context_tokens, door.engine.dialect
    card: dict[str, Any] = {"id": door.engine.model, "object": "model", "created": 0, "owned_by": dialect.owner}
    if dialect.tells_context:
        card |= {"max_model_len": context, "meta": {"n_ctx": context}}
    door.respond(200, _encode({"object": "list", "data": [card]}))


def _info(door: Door) -> None:
    _only(door, "tgi")
    settings = door.engine.settings
    body = {
        "model_id": door.engine.model,
        "max_concurrent_requests": settings.slots,
        "max_input_tokens": settings.context_tokens - 1,
        "max_total_tokens": settings.context_tokens,
        "version": "3.3.7",
        "router": "text-generation-router",
    }
    door.respond(200, _encode(body))


def _tags(door: Door) -> None:
    _only(door, "ollama")
    door.respond(200, _encode({"models": [{"name": name} for name in door.engine.known]}))


def _loaded(door: Door) -> None:
    _only(door, "ollama")
    context = door.engine.settings.context_tokens
    door.respond(200, _encode({"models": [{"name": name, "context_length": context} for name in door.engine.loaded]}))


def _create(door: Door) -> None:
    _only(door, "ollama")
    name = _tagged(msgspec.json.decode(door.body, type=_OfOllama).model)
    if name not in door.engine.known:
        door.engine.known.append(name)
    door.respond(200, b'{"status":"success"}')


def _load(door: Door) -> None:
    """What an empty request does: the model is loaded."""
    _only(door, "ollama")
    name = _tagged(msgspec.json.decode(door.body, type=_OfOllama).model)
    if name not in door.engine.known:
        raise Refused(404, "not_found_error", f"model '{name}' not found")
    if name not in door.engine.loaded:
        door.engine.loaded.append(name)
    door.respond(200, _encode({"model": name, "done": True, "done_reason": "load"}))


class _OfOllama(msgspec.Struct):
    model: str


def _tagged(name: str) -> str:
    return name if ":" in name else f"{name}:latest"


def _only(door: Door, speaks: str) -> None:
    if door.engine.settings.speaks != speaks:
        raise Refused(404, "not_found_error", "this fake engine has no such path")


def _count(door: Door) -> None:
    settings = door.engine.settings
    speaks, context = settings.speaks, settings.context_tokens
    door.respond(200, _encode(counting.answer(door.path, door.body, speaks, door.engine.vocabulary, context)))


def _take_chat(door: Door, fault: str) -> Job:
    return door.engine.generate(wire.chat_plan(_chat.decode(door.body), door.engine.settings), door, fault)


def _take_text(door: Door, fault: str) -> Job:
    plan = wire.text_plan(_text.decode(door.body), door.engine.settings, door.engine.vocabulary)
    return door.engine.generate(plan, door, fault)


def _take_embedding(door: Door, fault: str) -> Job:
    ask, settings = _embedding.decode(door.body), door.engine.settings
    inputs = [ask.input] if isinstance(ask.input, str) else ask.input
    prompt = [token for one in inputs for token in tokens_of(one)] or ["<start>"]
    return door.engine.embed(prompt, lambda: wire.embeddings(ask, settings, len(prompt)), door)


def _take_ranking(door: Door, fault: str) -> Job:
    ask, dialect = _ranking.decode(door.body), door.engine.dialect
    prompt = [token for document in ask.documents for token in tokens_of(f"{ask.query} {document}")]
    return door.engine.embed(prompt or ["<start>"], lambda: wire.ranking(ask, dialect, len(prompt)), door)


def _show_settings(door: Door) -> None:
    door.respond(200, _encode(shown(door.engine.settings)))


def _change_settings(door: Door) -> None:
    changes = msgspec.json.decode(door.body, type=dict[str, Any])
    door.engine.configure(changes)
    _show_settings(door)


def _stats(door: Door) -> None:
    engine = door.engine
    body = {"hang_ups": engine.hang_ups, "faults": engine.failed, **asdict(engine.read_figures())}
    door.respond(200, _encode(body))


SLOW: dict[bytes, Callable[[Door, str], Job]] = {
    b"/v1/chat/completions": _take_chat,
    b"/v1/completions": _take_text,
    b"/v1/embeddings": _take_embedding,
    b"/v1/rerank": _take_ranking,
}
PATHS: dict[tuple[bytes, bytes], Callable[[Door], None]] = {
    (b"GET", b"/health"): _health,
    (b"GET", b"/v1/health"): _health,
    (b"GET", b"/ping"): _health,
    (b"GET", b"/props"): _props,
    (b"GET", b"/slots"): _slots,
    (b"GET", b"/metrics"): _metrics,
    (b"GET", b"/prometheus/metrics"): _metrics,
    (b"GET", b"/info"): _info,
    (b"GET", b"/api/tags"): _tags,
    (b"GET", b"/api/ps"): _loaded,
    (b"POST", b"/api/create"): _create,
    (b"POST", b"/api/generate"): _load,
    (b"POST", b"/api/embed"): _load,
    (b"GET", b"/v1/models"): _models,
    (b"POST", b"/tokenize"): _count,
    (b"POST", b"/detokenize"): _count,
    (b"POST", b"/chat_tokenize"): _count,
    (b"POST", b"/v1/chat/completions/input_tokens"): _count,
    (b"GET", b"/fake/settings"): _show_settings,
    (b"POST", b"/fake/settings"): _change_settings,
    (b"GET", b"/fake/stats"): _stats,
}
