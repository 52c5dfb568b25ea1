"""uvicorn's parts that the gateway is made of, without its command line.

The package `uvicorn` imports `uvicorn.main`, and with it click, multiprocessing and supervisors: 1.6 MiB that a gateway
would carry for nothing. Whoever wants them still gets them by `import uvicorn.main`.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_NAMES = ("Server", "main", "run")
"""What the package takes from there."""


@contextmanager
def _without_its_command_line() -> Iterator[None]:
    if "uvicorn" in sys.modules:  # somebody has imported all of it already
        yield
        return
    empty = ModuleType("uvicorn.main")
    empty.__dict__.update(dict.fromkeys(_NAMES))
    sys.modules[empty.__name__] = empty
    try:
        yield
    finally:
        del sys.modules[empty.__name__]
        for name in _NAMES:
            sys.modules["uvicorn"].__dict__.pop(name, None)  # better missing than None


with _without_its_command_line():
    from uvicorn.config import Config
    from uvicorn.protocols.http.flow_control import FlowControl
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    from uvicorn.server import Server, ServerState

__all__ = ["FLAG", "Config", "Flag", "Flow", "HttpToolsProtocol", "Pipelined", "Server", "ServerState"]


class Flow(FlowControl):
    """uvicorn's, with an event only where an answer of the ASGI app has to wait: a KiB less for each connection."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.read_paused = self.write_paused = False

    @functools.cached_property
    def _is_writable_event(self) -> asyncio.Event:  # type: ignore[override]
        event = asyncio.Event()
        if not self.write_paused:
            event.set()
        return event


class Pipelined(list[tuple[Any, Any]]):
    """The requests of a connection that wait for those before them; uvicorn's deque takes a KiB while it is empty."""

    __slots__ = ()

    def appendleft(self, one: tuple[Any, Any]) -> None:
        self.insert(0, one)


class Flag:
    """Stands in for the event that uvicorn sets when a request cycle has news; an Exchange is told directly."""

    __slots__ = ()

    def set(self) -> None:
        return None


FLAG = Flag()
