"""The room for those that wait, in three units: requests, tokens, bytes. It counts and refuses; it orders nothing.

Requests bound the work of the queue itself, bytes the memory, tokens (`tokens_max`: prompt and the longest answer
allowed) the work promised to those that wait. One tenant may fill at most `tenant_share` of each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from inhouse.admission.fair_tenants import Ticket


@dataclass(slots=True)
class Load:
    """What waits."""

    requests: int = 0
    tokens: int = 0
    bytes: int = 0

    def add(self, ticket: Ticket) -> None:
        self.requests += 1
        self.tokens += ticket.tokens_max
        self.bytes += ticket.body_bytes

    def remove(self, ticket: Ticket) -> None:
        self.requests -= 1
        self.tokens -= ticket.tokens_max
        self.bytes -= ticket.body_bytes


@dataclass(frozen=True, slots=True)
class Lack:
    """Which limit a newcomer would break. `tenant` is None where it is that of the whole queue."""

    unit: str
    would_wait: int
    limit: int
    setting: str
    tenant: str | None = None


class Room:
    """See the module."""

    def __init__(self, *, requests_max: int, tokens_max: int, bytes_max: int, tenant_share: float) -> None:
        self._limits = (
            ("requests", requests_max, "queue_requests_max"),
            ("tokens", tokens_max, "queue_tokens_max"),
            ("bytes", bytes_max, "queue_bytes_max"),
        )
        self._tenant_share = tenant_share
        self.load = Load()
        self.by_tenant: dict[str, Load] = {}

    def lack(self, ticket: Ticket) -> Lack | None:
        """None: there is room for this ticket."""
        load, own = self.load, self.by_tenant.get(ticket.tenant) or Load()
        would_wait = (load.requests + 1, load.tokens + ticket.tokens_max, load.bytes + ticket.body_bytes)
        for (unit, limit, setting), amount in zip(self._limits, would_wait, strict=True):
            if amount > limit:
                return Lack(unit, amount, limit, setting)
        would_wait = (own.requests + 1, own.tokens + ticket.tokens_max, own.bytes + ticket.body_bytes)
        for (unit, limit, _), amount in zip(self._limits, would_wait, strict=True):
            if amount > limit * self._tenant_share:
                part = math.floor(limit * self._tenant_share)
                return Lack(unit, amount, part, "queue_tenant_percent", ticket.tenant)
        return None

    def add(self, ticket: Ticket) -> None:
        self.load.add(ticket)
        self.by_tenant.setdefault(ticket.tenant, Load()).add(ticket)

    def remove(self, ticket: Ticket) -> None:
        self.load.remove(ticket)
        own = self.by_tenant[ticket.tenant]
        own.remove(ticket)
        if not own.requests:
            del self.by_tenant[ticket.tenant]
