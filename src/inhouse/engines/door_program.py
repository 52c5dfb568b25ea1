"""Runs a door until it is told to stop: event loop, signals, what is told of those who were not let in."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
from typing import Any, Protocol

import uvloop

from inhouse.engines.door import Door, Settings
from inhouse.engines.tls import Kept

_TELL_EVERY_S = 1.0


class Tell(Protocol):
    def __call__(self, event: str, **fields: object) -> None: ...


def run(settings: Settings, kept: Kept, tell: Tell) -> int:
    """Blocking; returns the exit code. Raises StackError."""
    return uvloop.run(_run(settings, kept, tell))


async def _run(settings: Settings, kept: Kept, tell: Tell) -> int:
    loop = asyncio.get_running_loop()
    refused = _Refused(tell)
    door = Door(settings, kept, refused.tell)
    stop: asyncio.Future[int] = loop.create_future()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, functools.partial(_stop, stop, number))
    await door.run(stop, lambda: tell("listening", port=door.port, open_port=door.pages_port))
    tell("stopped")
    return 0


def _stop(stop: asyncio.Future[int], number: int) -> None:
    if stop.done():
        os._exit(128 + number)
    stop.set_result(number)


class _Refused:
    """At most one line a second, with how many it stands for: who is not let in can knock often."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._silent = 0
        self._next_s = 0.0

    def tell(self, reason: str) -> Any:
        now_s = asyncio.get_running_loop().time()
        if now_s < self._next_s:
            self._silent += 1
            return
        silent, self._silent = self._silent, 0
        self._next_s = now_s + _TELL_EVERY_S
        self._tell("door closed", reason=reason, others=silent)
