"""The WebSocket door: several requests at once on one connection, each answered in frames.

Theory of operation. A socket has a reader, which turns frames into `Aside`s, and a writer, which sends what they say,
in the order in which it comes. Between them lies a bounded buffer: while it is full, the engines' answers are not read
on, so a client that reads slowly costs its own requests time and nobody anything else. When the client goes, its
requests are cancelled, as those of any connection.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from inhouse.admission.notices import Standing
from inhouse.core import Identity
from inhouse.errors import ApiError, BadRequest, Conflict, QueueFull
from inhouse.gateway.apis import APIS
from inhouse.gateway.aside import Aside
from inhouse.parts import Parts
from inhouse.tenancy.roles import require
from inhouse.wire import socket_frames, sse

_KEY_IN_PROTOCOL = "openai-insecure-api-key."
_REFUSED = 1008


class Sockets:
    """All sockets of a gateway."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._open: set[_Socket] = set()

    @property
    def busy(self) -> bool:
        """Whether an answer is under way on any of them."""
        return any(socket.busy for socket in self._open)

    def stop(self, reason: ApiError) -> None:
        """Ends all answers; the clients are told why."""
        for socket in tuple(self._open):
            socket.stop(reason)

    async def responses(self, websocket: WebSocket) -> None:
        await self._serve(websocket, b"/v1/responses", "response")

    async def chat(self, websocket: WebSocket) -> None:
        await self._serve(websocket, b"/v1/chat/completions", "chat")

    async def _serve(self, websocket: WebSocket, path: bytes, word: str) -> None:
        offered = websocket.scope.get("subprotocols", [])
        try:
            identity = self._parts.identify(*_credentials(websocket.headers, offered))
            require(identity, "infer")
        except ApiError as error:
            await websocket.close(_REFUSED, reason=error.message[:120])  # before it is open: HTTP 403
            return
        chosen = next((name for name in offered if not name.startswith(_KEY_IN_PROTOCOL)), None)
        await websocket.accept(chosen)
        socket = _Socket(self._parts, websocket, path, word, identity)
        self._open.add(socket)
        try:
            await socket.run()
        finally:
            self._open.discard(socket)


def _credentials(headers: Mapping[str, str], offered: list[str]) -> tuple[bytes | None, bytes | None]:
    """Of the headers; a browser cannot set them, and offers its key as a subprotocol."""
    raw = [headers.get(name) for name in ("authorization", "x-api-key")]
    hidden = next((name.removeprefix(_KEY_IN_PROTOCOL) for name in offered if name.startswith(_KEY_IN_PROTOCOL)), None)
    if hidden is not None and raw == [None, None]:
        raw[0] = f"Bearer {hidden}"
    found = [None if value is None else value.encode("latin-1", "replace") for value in raw]
    return found[0], found[1]


class _Socket:
    """One connection. `run` until it is over."""

    def __init__(self, parts: Parts, websocket: WebSocket, path: bytes, word: str, identity: Identity) -> None:
        self._parts, self._websocket, self._word, self._identity = parts, websocket, word, identity
        self._api, self._spec = APIS[path], parts.stack.sockets
        self._running: dict[str | None, tuple[Aside, asyncio.Task[None]]] = {}
        self._out: deque[str] = deque()
        self._out_bytes = 0
        self._full = False
        self._news = asyncio.Event()

    @property
    def busy(self) -> bool:
        return bool(self._running or self._out)

    async def run(self) -> None:
        writer = asyncio.create_task(self._write(), name="socket writer")
        try:
            while True:
                message = await self._websocket.receive()
                if message["type"] == "websocket.disconnect":
                    break
                self._heard(message.get("text") or message.get("bytes") or "")
        finally:
            tasks = [task for _, task in self._running.values()]
            for task in [*tasks, writer]:
                task.cancel()
            await asyncio.gather(*tasks, writer, return_exceptions=True)

    def stop(self, reason: ApiError) -> None:
        for aside, _ in tuple(self._running.values()):
            aside.stop(reason)

    def _heard(self, text: str | bytes) -> None:
        stream_id: str | None = None
        try:
            frame = socket_frames.parse(text, self._word)
            stream_id = frame.stream_id
            if frame.kind == "cancel":
                self._cancel(stream_id)
            else:
                self._begin(stream_id, frame.body)
        except ApiError as error:
            self.say(socket_frames.error(error, stream_id))

    def _begin(self, stream_id: str | None, body: bytes) -> None:
        if stream_id in self._running:
            named = "without a `stream_id`" if stream_id is None else "of this `stream_id`"
            raise Conflict(f"a request {named} is under way on this socket; give each its own `stream_id`")
        if len(self._running) >= self._spec.requests_max:
            raise QueueFull(
                f"{len(self._running)} requests are under way on this socket, which is as many as it may have "
                "(`sockets.requests_max`); wait for one to end",
                retry_after_s=1.0,
            )
        aside = Aside(self._parts, self._api, body, _Answer(self, stream_id), self._identity)
        if self._full:
            aside.pause()
        task = aside.start()
        self._running[stream_id] = (aside, task)
        task.add_done_callback(lambda done: self._running.pop(stream_id, None))

    def _cancel(self, stream_id: str | None) -> None:
        found = self._running.get(stream_id)
        if found is None:
            raise BadRequest("no such request is under way on this socket", param="stream_id")
        found[0].stop(Conflict("the request was cancelled by its client"))

    def say(self, frame: str) -> None:
        self._out.append(frame)
        self._out_bytes += len(frame)
        self._news.set()
        if not self._full and self._out_bytes > self._spec.buffer:
            self._full = True
            for aside, _ in self._running.values():
                aside.pause()

    async def _write(self) -> None:
        websocket = self._websocket
        while True:
            while self._out:
                frame = self._out[0]
                if websocket.application_state is not WebSocketState.CONNECTED:
                    return
                try:
                    await websocket.send_text(frame)
                except (WebSocketDisconnect, RuntimeError):
                    return  # it is gone; the reader hears of it
                self._out.popleft()
                self._out_bytes -= len(frame)
                if self._full and self._out_bytes <= self._spec.buffer // 2:
                    self._full = False
                    for aside, _ in self._running.values():
                        aside.resume()
            self._news.clear()
            await self._news.wait()


class _Answer:
    """A `Sink`: the events of one answer, as frames."""

    def __init__(self, socket: _Socket, stream_id: str | None) -> None:
        self._socket, self._stream_id = socket, stream_id

    def waits(self, standing: Standing) -> None:
        self._socket.say(socket_frames.waiting(standing.position, standing.wait_s, self._stream_id))

    def events(self, data: bytes) -> None:
        for payload in sse.payloads(data):
            self._socket.say(socket_frames.event(payload, self._stream_id))

    def closed(self, data: bytes) -> None:
        self.events(data)

    def document(self, body: bytes) -> None:
        self._socket.say(socket_frames.event(body, self._stream_id))

    def refused(self, status: int, body: bytes, error: ApiError) -> None:
        self._socket.say(socket_frames.error(error, self._stream_id))
