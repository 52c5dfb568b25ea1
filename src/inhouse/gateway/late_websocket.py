"""uvicorn's WebSocket protocol, which takes over a connection that began as HTTP; it is loaded with the first one.

Not here: what is said on it (`sockets`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from inhouse.gateway.lean import Config, ServerState

SOCKET_PATHS = frozenset({b"/v1/responses", b"/v1/chat/completions"})


def is_socket(method: bytes, url: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request that offers to upgrade asks for a WebSocket, where there is one."""
    return (
        method == b"GET"
        and url.partition(b"?")[0] in SOCKET_PATHS
        and any(name == b"upgrade" and value.strip().lower() == b"websocket" for name, value in headers)
    )


def handshake(url: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The head that asked for a WebSocket, as it came."""
    lines = [b"GET %b HTTP/1.1" % url, *(b"%b: %b" % header for header in headers)]
    return b"\r\n".join([*lines, b"", b""])


class LateWebSocket(asyncio.Protocol):
    """Made for one connection. To the server it is one of its connections, as any other."""

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], loop: asyncio.AbstractEventLoop
    ) -> None:
        from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

        self._real: Any = WebSocketsSansIOProtocol(config, server_state, app_state, loop)
        self._connections: set[Any] = server_state.connections
        self._transport: Any = None

    def take_over(self, transport: asyncio.Transport, data: bytes) -> None:
        """The connection is its own from here on; `data` is all that came, from the handshake on."""
        self.connection_made(transport)
        transport.set_protocol(self)
        self.data_received(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._real.connection_made(transport)
        self._connections.discard(self._real)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._connections.add(self._real)  # which takes itself out
        self._real.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._real.data_received(data)

    def eof_received(self) -> None:
        self._real.eof_received()

    def pause_writing(self) -> None:
        self._real.pause_writing()

    def resume_writing(self) -> None:
        self._real.resume_writing()

    def shutdown(self) -> None:
        self._real.shutdown()

    def hang_up(self) -> None:
        self._transport.abort()
