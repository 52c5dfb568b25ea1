"""Runs one fake engine until it is stopped: sockets, signals, the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

import uvloop

from inhouse.errors import StackError
from inhouse.fake.door import Door
from inhouse.fake.engine import Engine
from inhouse.fake.settings import Settings

_BACKLOG = 2048


@dataclass(frozen=True, slots=True)
class Place:
    """Where it listens: an address and port (0 picks one), or a unix socket where `host` ends in `.sock`."""

    host: str
    port: int

    @property
    def is_socket(self) -> bool:
        return self.host.endswith(".sock") or "/" in self.host


def run(settings: Settings, *, model: str, place: Place, control: Place | None) -> None:
    """Serves until SIGINT or SIGTERM. Blocking. Raises StackError where it cannot listen."""
    uvloop.run(_run(settings, model, place, control))


async def _run(settings: Settings, model: str, place: Place, control: Place | None) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, os._exit, 0)
    listens, turned = settings.refuse_rate < 1, asyncio.Event()

    def relisten(yes: bool) -> None:
        nonlocal listens
        if yes != listens:
            listens = yes
            turned.set()

    engine = Engine(settings, model, relisten)
    if control is not None:
        await _open(control, lambda: Door(engine, faulty=False), "control")
    server: asyncio.Server | None = None
    while True:
        if listens and server is None:
            server, place = await _open(place, lambda: Door(engine), "listening")
        elif not listens and server is not None:
            server.close()
            server = None
        await turned.wait()
        turned.clear()


async def _open(place: Place, make: Callable[[], Door], word: str) -> tuple[asyncio.Server, Place]:
    """A listening server, and its place with the port that it got. Raises StackError."""
    loop = asyncio.get_running_loop()
    try:
        if place.is_socket:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(place.host)
            server = await loop.create_unix_server(make, place.host, backlog=_BACKLOG)
        else:
            server = await loop.create_server(make, place.host, place.port, backlog=_BACKLOG)
            place = Place(place.host, server.sockets[0].getsockname()[1])
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error.strerror  # asyncio's own names the address again
        raise StackError(
            f"the fake engine cannot listen on {place.host} port {place.port}: {reason}",
            where="--port",
            hint="another program may use it; --port 0 picks a free one",
        ) from None
    print(f"{word} on {place.host if place.is_socket else f'http://{place.host}:{place.port}'}", flush=True)
    return server, place
