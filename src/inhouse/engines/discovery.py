"""Where endpoints come from: the list in the stack, a name in DNS, a Service of Kubernetes.

A source calls `found` with all that it knows whenever that changes, and keeps what it knew while it cannot find out:
an address server that is down is no reason to stop working.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Protocol

from inhouse.engines.addresses import Name, numbered
from inhouse.engines.http import Address
from inhouse.engines.tls import Kept

Found = Callable[[Mapping[str, Address]], None]
_GONE = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
_OTHER_FAMILY = {*_GONE, getattr(socket, "EAI_ADDRFAMILY", socket.EAI_NONAME)}
_LOOKUP_S_MAX = 10.0


class Source(Protocol):
    """Endpoints by id, for as long as `run` runs."""

    trouble: str
    """Why it cannot find out now; "" while it can."""

    async def run(self, found: Found) -> None: ...

    def sweep(self) -> None:
        """Called about once a second."""


class Listed:
    """What the stack lists. It never changes."""

    trouble = ""

    def __init__(self, addresses: Mapping[str, Address]) -> None:
        self._addresses = addresses

    async def run(self, found: Found) -> None:
        found(self._addresses)

    def sweep(self) -> None:
        return None


class Resolved:
    """All addresses of a name in DNS (of a headless Service, its ready pods), looked up from time to time.

    Of one family, as a host with both would count twice: IPv4, and IPv6 where the name has no IPv4 at all.
    """

    def __init__(self, name: Name, tls: Kept | None, *, interval_s: float) -> None:
        self.trouble = ""
        self._name = name
        self._tls = tls
        self._interval_s = interval_s

    async def run(self, found: Found) -> None:
        while True:
            addresses = await self._look_up()
            if addresses is not None:
                found(addresses)
            await asyncio.sleep(self._interval_s)

    def sweep(self) -> None:
        return None

    async def _look_up(self) -> dict[str, Address] | None:
        """None: it could not be found out. A name that does not exist has no addresses, which is an answer."""
        name = self._name
        try:
            async with asyncio.timeout(_LOOKUP_S_MAX):
                try:
                    rows = await self._rows(socket.AF_INET)
                except socket.gaierror as error:
                    if error.errno not in _OTHER_FAMILY:
                        raise  # nobody knows whether it has IPv4: that it is not found is no answer
                    rows = await self._rows(socket.AF_INET6)
        except TimeoutError:
            self.trouble = f"no answer for {name.host} within {_LOOKUP_S_MAX:g} s"
            return None
        except OSError as error:
            self.trouble = f"{name.host} cannot be looked up: {error.strerror or type(error).__name__}"
            return {} if isinstance(error, socket.gaierror) and error.errno in _GONE else None
        self.trouble = ""
        return dict(numbered(host, port, name, self._tls) for host, port in rows)

    async def _rows(self, family: socket.AddressFamily) -> list[tuple[str, int]]:
        rows = await asyncio.get_running_loop().getaddrinfo(
            self._name.host, int(self._name.port), family=family, type=socket.SOCK_STREAM
        )
        return [(str(row[4][0]), int(row[4][1])) for row in rows]
