"""The endpoints as they were last shown to a router, and who of them may have a request: the filters.

A snapshot changes far less often than requests come. What follows from snapshots alone is worked out when they are
first shown, and kept for as long as the same tuple of them is shown again and their figures are not too old. What
changes with every request (in flight, health, tried already) is looked at each time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from inhouse.core import Endpoint
from inhouse.routing.ask import Refusal, RouteAsk
from inhouse.routing.known import Known
from inhouse.routing.policies import Field, unknown_as_mean
from inhouse.routing.settings import RouterSettings


class Lineup:
    """`ready` are those that are, `absent` the others. `endpoints` is what it was made from, if that cannot change."""

    __slots__ = ("absent", "endpoints", "kv_free", "names", "oldest_s", "ready", "sizes", "unsized")

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self.endpoints = endpoints if type(endpoints) is tuple else None
        self.ready: list[Known] = []
        self.names: tuple[str, ...] = ()
        self.kv_free: list[float] | None = None
        self.absent: list[tuple[str, Refusal]] = []
        self.oldest_s = math.inf
        """When the oldest figures were read that count in here."""
        self.sizes = 0
        self.unsized = False
        """Whether somebody's slots are not known."""

    def add(self, endpoint: Endpoint, known: Known, settings: RouterSettings, now_s: float) -> None:
        """The next endpoint. Its figures count while they are not too old."""
        observed_s = endpoint.observed_s
        if observed_s != known.observed_s:
            known.observed_s = observed_s
            known.baseline = known.in_flight
        running, used, told_ttft_s = endpoint.running, endpoint.kv_used, endpoint.ttft_s
        if observed_s is not None and not (running is None and used is None and told_ttft_s is None):
            if observed_s < now_s - settings.figures_s_max:
                running = used = told_ttft_s = None
            elif observed_s < self.oldest_s:
                self.oldest_s = observed_s
        known.others = 0 if running is None else max(0, running + (endpoint.waiting or 0) - known.baseline)
        slots = endpoint.slots
        known.slots = slots
        known.size = slots or 1
        known.room = math.inf if slots is None else slots + settings.queueing_max
        known.kv_free = None if used is None else 1.0 - used if 0.0 <= used <= 1.0 else 0.0
        known.told_ttft_s = told_ttft_s
        known.ready = endpoint.state == "ready"
        if not known.ready:
            self.absent.append((known.id, "not ready"))
            return
        self.ready.append(known)
        self.sizes += known.size
        self.unsized = self.unsized or slots is None

    def close(self) -> None:
        """All have been added."""
        self.names = tuple([known.id for known in self.ready])
        self.kv_free = unknown_as_mean([known.kv_free for known in self.ready])

    def field(self, ask: RouteAsk, settings: RouterSettings, now_s: float) -> Field:
        """Those that may have the request, and why the others may not."""
        ready = self.ready
        if ask.excluded:
            return self._sifted(ask, settings, now_s)
        loads: list[float] = []
        free: list[float] = []
        for known in ready:
            load = known.in_flight + known.others
            room = known.room
            if load >= room or known.troubled:
                return self._sifted(ask, settings, now_s)
            loads.append(load)
            free.append(1.0 - load / room)
        field = Field(
            ask, now_s, settings, ready, self.names, loads, free, self.kv_free, self.absent, self.sizes, self.unsized
        )
        if self.unsized and ready:
            field.compare_by_load()
        return field

    def _sifted(self, ask: RouteAsk, settings: RouterSettings, now_s: float) -> Field:
        """The same where somebody falls out."""
        field = Field(ask, now_s, settings, [], (), [], [], None, list(self.absent))
        excluded = ask.excluded
        for known in self.ready:
            load = known.in_flight + known.others
            if known.id in excluded:
                field.refused.append((known.id, "tried already"))
            elif known.troubled and (refusal := known.refusal(now_s)) is not None:
                field.refused.append((known.id, refusal))
            elif load >= known.room:
                field.refused.append((known.id, "full"))
            else:
                field.known.append(known)
                field.loads.append(load)
                field.free.append(1.0 - load / known.room)
                field.sizes += known.size
                field.unsized = field.unsized or known.slots is None
        field.names = tuple([known.id for known in field.known])
        field.kv_free = unknown_as_mean([known.kv_free for known in field.known])
        if field.unsized:
            field.compare_by_load()
        return field
