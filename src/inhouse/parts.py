"""What the requests of one serving process share. Put together, and closed, by `runtime`."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from inhouse.config import Stack
from inhouse.core import Identity
from inhouse.dispatch.lane import Lane, Share
from inhouse.dispatch.ways import Ways
from inhouse.errors import ApiError
from inhouse.store.stores import Stores
from inhouse.telemetry.alarm import Alarm
from inhouse.telemetry.audit import Audit
from inhouse.telemetry.entry import Entry
from inhouse.telemetry.log import Log, place_of
from inhouse.telemetry.metrics import Metrics
from inhouse.telemetry.recent import Recent
from inhouse.tenancy.quotas import Quotas

if TYPE_CHECKING:
    from inhouse.runtime_residence import Keeper

BOOKED_AT_ONCE = 8
"""Requests that are booked together. One by one each would find the processor's caches cold; with more, the next
request would wait longer."""
WRITTEN_AT_ONCE = 2048
"""Requests whose records and lines are handed on to be written, if the clock has not done so before."""
_SHARES_MAX = 10_000


class RequestIds:
    """24 hexadecimal digits, by the hundred: the system is asked for randomness once for many."""

    def __init__(self) -> None:
        self._left: list[str] = []

    def new(self) -> str:
        if not self._left:
            digits = os.urandom(12 * 128).hex()
            self._left = [digits[at : at + 24] for at in range(0, len(digits), 24)]
        return self._left.pop()


@dataclass(slots=True)
class Parts:
    """What the requests of one process share."""

    stack: Stack
    identify: Callable[[bytes | None, bytes | None], Identity]
    lanes: Mapping[str, Lane]
    ways: Ways
    shares: Shares
    quotas: Quotas
    log: Log
    metrics: Metrics
    recent: Recent
    alarm: Alarm
    stores: Stores
    """Where the state is."""
    refresh_keys: Callable[[], None]
    """To be called after a key was changed here: it holds at once."""
    audit: Audit
    keeper: Keeper | None = None
    """Of the models that are started here; None where there are none."""
    recognise: Callable[[bytes], Identity | None] = lambda proof: None
    """(proof) → the caller that it has shown before (`Authenticator.again`)."""
    request_ids: RequestIds = field(default_factory=RequestIds)
    regulars: dict[tuple[str, str], object] = field(default_factory=dict)
    """By key and model; see `pipeline_straight`."""
    draining: bool = False
    sweepers: list[Callable[[], None]] = field(default_factory=list)
    """Called about once a second, in the event loop."""
    troubles: Callable[[], Mapping[str, str]] = dict
    """What of the shared stores is away and why, by what suffers from it; "" for what is not."""
    catch_up: Callable[[], object] = bool
    """Reads what has changed in a store that is watched; for a thread, after a change that was made here."""
    connections: Callable[[], int] = int
    """How many clients are connected; the server says."""
    divert: Callable[[bytes, bytes, Identity], Awaitable[bytes | None]] | None = None
    """(path, body, caller) → the answer of a request that goes on by itself, in the background; the door says."""
    going_on: Callable[[], bool] = bool
    """Whether answers are under way that outlast their connections, and this process."""
    stop_aside: Callable[[ApiError], object] = bool
    """Ends those, and tells whoever reads them why."""
    concerns: dict[str, Callable[[], str]] = field(default_factory=dict)
    """More of what `troubles` tells, by those who have it."""
    closers: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    """What the door closes, before all else."""
    straight: int = 0
    """Requests that went the straight line."""
    over: list[Entry] = field(default_factory=list)
    """Requests that have ended and are not booked yet."""
    booked: int = 0
    """Requests that were booked since those who write were last told."""
    heartbeat_s: float = 0.0
    """time.monotonic() of the last tick: how long ago the event loop was last seen alive."""

    @property
    def closed_to_new(self) -> bool:
        """No new request is taken: this server stops, or nothing could be noted of it."""
        return self.draining or self.audit.refusing


class Shares:
    """What each tenant gets of the slots, as the stack says; or what `everybody` gets."""

    def __init__(self, stack: Stack, *, everybody: Share | None = None) -> None:
        self._stack = stack
        self._everybody = everybody
        self._found: dict[str, Share] = {}

    def of(self, tenant: str) -> Share:
        share = self._everybody or self._found.get(tenant)
        if share is None:
            spec = self._stack.tenants.get(tenant, self._stack.tenant_defaults)
            share = Share(tenant, spec.weight, spec.priority)
            if len(self._found) < _SHARES_MAX:
                self._found[tenant] = share
        return share


def book_all(parts: Parts) -> None:
    """What is over is counted, remembered and noted."""
    entries, parts.over = parts.over, []
    metrics, log, recent, audit = parts.metrics, parts.log, parts.recent, parts.audit
    for entry in entries:
        try:
            audit.book(entry)
            log.request(entry)
            metrics.book(entry)
            recent.keep(entry)
        except Exception as error:  # noqa: BLE001 - the others are booked all the same
            parts.alarm.tell("internal error", fault=place_of(error))
    parts.booked += len(entries)
    if parts.booked >= WRITTEN_AT_ONCE:
        hand_on(parts)


def hand_on(parts: Parts) -> None:
    """What was booked goes to those who write it."""
    parts.booked = 0
    parts.audit.flush()
    parts.log.flush()
