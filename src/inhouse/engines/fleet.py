"""The replicas of one model that run elsewhere: they join, are watched, leave.

Theory of operation. Each source tells what it knows; the fleet is the union. An id that is new gets a member and a task
that watches it. An id that is gone is marked as leaving, takes no new requests, and is dropped once it has none of ours
left (`sweep`). One that comes back before that is as it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from inhouse.engines.discovery import Source
from inhouse.engines.http import Address
from inhouse.engines.member import Member
from inhouse.engines.remote import Remote


class Circle(Protocol):
    """Who is told of members that come and go."""

    def join(self, member: Member) -> None: ...

    def part(self, member: Member) -> None: ...


class Fleet:
    """See the module. `make` makes the watcher of a new endpoint, `fault` is told of errors that should not be.

    `trouble` is told why a source cannot find out, whenever that changes; "" when it can again.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        make: Callable[[str, Address], Remote],
        circle: Circle,
        *,
        fault: Callable[[BaseException], None],
        trouble: Callable[[str], None],
    ) -> None:
        self._sources = sources
        self._make = make
        self._circle = circle
        self._fault = fault
        self._trouble = trouble
        self._troubles = ["" for _ in sources]
        self._known: dict[int, Mapping[str, Address]] = {}
        self._remotes: dict[str, tuple[Address, Remote, asyncio.Task[None]]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Runs until it is cancelled; then nothing is watched any more."""
        tasks = [
            asyncio.create_task(self._follow(number, source), name=f"source-{number}")
            for number, source in enumerate(self._sources)
        ]
        try:
            await asyncio.Event().wait()
        finally:
            tasks += [*self._ending, *(task for _, _, task in self._remotes.values())]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def sweep(self) -> None:
        """About once a second: silent responses are given up, those who have left and are done are dropped."""
        for number, source in enumerate(self._sources):
            source.sweep()
            if source.trouble != self._troubles[number]:
                self._troubles[number] = source.trouble
                self._trouble(source.trouble)
        for name, (_, remote, task) in tuple(self._remotes.items()):
            remote.sweep()
            if remote.member.leaving and not remote.member.in_flight:
                del self._remotes[name]
                self._circle.part(remote.member)
                task.cancel()
                self._ending.add(task)
                task.add_done_callback(self._ending.discard)

    async def _follow(self, number: int, source: Source) -> None:
        def found(addresses: Mapping[str, Address]) -> None:
            self._known[number] = addresses
            self._reconcile()

        try:
            await source.run(found)
        except Exception as error:  # noqa: BLE001 - what was found stays, and the fault is told
            self._fault(error)

    def _reconcile(self) -> None:
        present = {name: address for addresses in self._known.values() for name, address in addresses.items()}
        for name, (_, remote, _) in self._remotes.items():
            leaving = name not in present
            if remote.member.leaving != leaving:
                remote.member.leaving = leaving
                remote.member.touch()
        for name, address in present.items():
            if name not in self._remotes:
                remote = self._make(name, address)
                task = asyncio.create_task(self._watch(remote), name=f"endpoint-{name}")
                self._remotes[name] = (address, remote, task)
                self._circle.join(remote.member)

    async def _watch(self, remote: Remote) -> None:
        try:
            await remote.run()
        except Exception as error:  # noqa: BLE001 - one endpoint that cannot be watched is no reason to lose the others
            self._fault(error)
