"""One request from its body to its last byte: rows in, pieces out, and an ear for the client's hang-up.

Nothing is sent before the first piece is there, so that whatever fails until then is an ordinary error response.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from starlette.types import Receive, Scope, Send

from inhouse.errors import ApiError, BadRequest, BodyTooLarge, ModelLoading
from inhouse.hf_engine import asks, prompts, shapes
from inhouse.hf_engine.loading import Loaded
from inhouse.hf_engine.rows import Piece, Row, Wanted
from inhouse.hf_engine.shapes import ChatShape, GenerateShape, Shape, TextShape
from inhouse.hf_engine.worker import Worker
from inhouse.wire import errors

_JSON = (b"content-type", b"application/json")
_EVENTS = (b"content-type", b"text/event-stream")
Understand = Callable[[Loaded, bytes], tuple[list[Wanted], Any]]


class HungUp(Exception):
    """The client is gone; there is nobody to answer."""


def chat(loaded: Loaded, body: bytes) -> tuple[list[Wanted], Any]:
    ask = asks.chat(body)
    return prompts.chat_rows(loaded, ask), ask


def text(loaded: Loaded, body: bytes) -> tuple[list[Wanted], Any]:
    ask = asks.text(body)
    return prompts.text_rows(loaded, ask), ask


def generate(loaded: Loaded, body: bytes) -> tuple[list[Wanted], Any]:
    ask = asks.generate(body)
    return prompts.generate_rows(loaded, ask), ask


def embedding(loaded: Loaded, body: bytes) -> tuple[list[Wanted], Any]:
    ask = asks.embedding(body)
    return prompts.embedding_rows(loaded, ask), ask


class Answering:
    """An ASGI app for one path whose requests take places in the batch. `understand` runs in a thread."""

    def __init__(self, worker: Worker, name: str, body_bytes_max: int, understand: Understand) -> None:
        self._worker = worker
        self._name = name
        self._body_bytes_max = body_bytes_max
        self._understand = understand

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._answer(receive, send)
        except HungUp:
            return
        except ApiError as error:
            await _document(send, error.status, shapes.refusal(error), errors.headers(error))

    async def _answer(self, receive: Receive, send: Send) -> None:
        body = await read_body(receive, self._body_bytes_max)
        loaded = ready(self._worker, self._name)
        wanted, ask = await asyncio.to_thread(self._understand, loaded, body)
        async with self._pieces(wanted, receive) as pieces:
            if isinstance(ask, asks.EmbeddingAsk):
                await self._send_vectors(wanted, ask, pieces, send)
            elif ask.stream:
                await self._send_stream(wanted, self._shape(ask, len(wanted)), pieces, send)
            else:
                await self._send_whole(wanted, self._shape(ask, len(wanted)), pieces, send)

    @contextlib.asynccontextmanager
    async def _pieces(self, wanted: Sequence[Wanted], receive: Receive) -> AsyncIterator[_Pieces]:
        """What comes of the rows, in the order of its coming. They leave the batch with the block."""
        pieces = _Pieces(len(wanted))
        now_s = time.monotonic()
        rows = [Row(one, pieces.of(index), now_s) for index, one in enumerate(wanted)]
        self._worker.submit(rows)
        watch = asyncio.create_task(_until_gone(receive, pieces.hang_up))
        try:
            yield pieces
        finally:
            self._worker.leave(rows)
            watch.cancel()
            await asyncio.wait([watch])

    def _shape(self, ask: Any, choices: int) -> Shape:
        if isinstance(ask, asks.GenerateAsk):
            return GenerateShape(self._name)
        kind = ChatShape if isinstance(ask, asks.ChatAsk) else TextShape
        head = (secrets.token_hex(12), int(time.time()), self._name, choices)
        return kind(*head, include_usage=asks.include_usage(ask))

    async def _send_stream(self, wanted: Sequence[Wanted], shape: Shape, pieces: _Pieces, send: Send) -> None:
        began = False
        lengths = [0] * len(wanted)
        try:
            while pieces.open_rows:
                index, piece = await pieces.next()
                lengths[index] = piece.tokens
                data = shape.piece(index, piece)
                if not began:
                    await send({"type": "http.response.start", "status": 200, "headers": [_EVENTS]})
                    began, data = True, shape.start() + data
                if data:
                    await send({"type": "http.response.body", "body": data, "more_body": True})
        except ApiError as error:
            if not began:
                raise
            await send({"type": "http.response.body", "body": errors.event(error)})
            return
        await send({"type": "http.response.body", "body": shape.end(_usage(wanted, lengths))})

    async def _send_whole(self, wanted: Sequence[Wanted], shape: Shape, pieces: _Pieces, send: Send) -> None:
        found = await pieces.all()
        lengths = [row[-1].tokens for row in found]
        await _document(send, 200, shape.whole(found, _usage(wanted, lengths)))

    async def _send_vectors(
        self, wanted: Sequence[Wanted], ask: asks.EmbeddingAsk, pieces: _Pieces, send: Send
    ) -> None:
        vectors = [row[0].vector or [] for row in await pieces.all()]
        if ask.dimensions is not None and ask.dimensions > len(vectors[0]):
            raise BadRequest(f"`dimensions` is more than the {len(vectors[0])} of this model", param="dimensions")
        tokens = sum(len(one.prompt) for one in wanted)
        wants_base64 = ask.encoding_format == "base64"
        body = shapes.embeddings(self._name, vectors, tokens, base64_wanted=wants_base64, dimensions=ask.dimensions)
        await _document(send, 200, body)


class _Pieces:
    """The pieces of all rows of a request, until each row has had its last one."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._queue: asyncio.Queue[tuple[int, Piece | ApiError | None]] = asyncio.Queue()
        self.open_rows = rows

    def of(self, index: int) -> Callable[[Piece | ApiError], None]:
        return lambda piece: self._queue.put_nowait((index, piece))

    def hang_up(self) -> None:
        self._queue.put_nowait((0, None))

    async def next(self) -> tuple[int, Piece]:
        """Raises HungUp, and the error of a row that failed."""
        index, piece = await self._queue.get()
        if piece is None:
            raise HungUp
        if isinstance(piece, ApiError):
            raise piece
        if piece.finish or piece.vector is not None:
            self.open_rows -= 1
        return index, piece

    async def all(self) -> list[list[Piece]]:
        found: list[list[Piece]] = [[] for _ in range(self._rows)]
        while self.open_rows:
            index, piece = await self.next()
            found[index].append(piece)
        return found


def ready(worker: Worker, name: str) -> Loaded:
    """Raises ModelLoading until the model is there."""
    if worker.loaded is None:
        raise ModelLoading(f"the model '{name}' is still loading; retry in 2 s", retry_after_s=2.0)
    return worker.loaded


async def read_body(receive: Receive, bytes_max: int) -> bytes:
    """Raises BodyTooLarge, HungUp."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise HungUp
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > bytes_max:
            raise BodyTooLarge(f"the body is larger than {bytes_max} bytes; send less")
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)


async def _until_gone(receive: Receive, tell: Callable[[], Any]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    tell()


def _usage(wanted: Sequence[Wanted], lengths: Sequence[int]) -> dict[str, Any]:
    """As OpenAI counts: a prompt once, however many answers it has."""
    prompts_seen = {id(one.prompt): len(one.prompt) for one in wanted}
    return shapes.usage(sum(prompts_seen.values()), sum(lengths))


async def _document(
    send: Callable[[Any], Awaitable[None]], status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [_JSON, length, *headers]})
    await send({"type": "http.response.body", "body": body})
