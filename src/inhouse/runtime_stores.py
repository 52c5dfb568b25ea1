"""Shared stores of a gateway: tells of those that are away, and has answers kept in Redis. A part of `runtime`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from inhouse.config import Stack
from inhouse.dispatch.cache_shared import SharedAnswers
from inhouse.dispatch.lane import Lane
from inhouse.errors import StackError, StateError
from inhouse.store.hints import Hints
from inhouse.store.redis_link import link_of
from inhouse.store.stores import Opened
from inhouse.telemetry.log import Log
from inhouse.telemetry.metrics import Metrics
from inhouse.telemetry.stores import StoreGauges, StoreReading
from inhouse.tenancy.quotas import Quotas

_HINTS_EVERY_S = 1.0


class StoreWatch:
    """`sweep` is called about once a second. Stores in the state folder are told of where they fail, not here."""

    def __init__(
        self, opened: Opened, troubles: Callable[[], Mapping[str, str]], quotas: Quotas, log: Log, metrics: Metrics
    ) -> None:
        self._opened = opened
        self._troubles = troubles
        self._quotas = quotas
        self._log = log
        self._told: dict[str, str] = {}
        metrics.registry.register(StoreGauges(self._reading))

    def sweep(self) -> None:
        for concern, reason in self._troubles().items():
            before = self._told.get(concern, "")
            if reason and not before:
                self._log.event("error", "store away", concern=concern, reason=reason)
            elif before and not reason:
                self._log.event("info", "store back", concern=concern)
            self._told[concern] = reason

    def _reading(self) -> StoreReading:
        book = self._opened.book
        return StoreReading(self._troubles(), 0 if book is None else book.rows_waiting, self._quotas.unchecked)


def troubles_of(
    opened: Opened, shared: Sequence[SharedAnswers], others: Mapping[str, Callable[[], str]]
) -> Mapping[str, str]:
    """What of the shared stores is away and why, by what suffers from it; "" for what is not."""
    found = opened.troubles()
    if shared:
        found["cache"] = next((answers.trouble for answers in shared if answers.trouble), "")
    found |= {concern: trouble() for concern, trouble in others.items()}
    return found


def share_answers(stack: Stack, lanes: Mapping[str, Lane], environ: Mapping[str, str]) -> Iterator[SharedAnswers]:
    """Has models whose cache is `shared` look in Redis too; each is to be closed. Raises StackError."""
    for name, lane in lanes.items():
        spec = stack.models[name].cache
        if lane.flights is None or not spec.shared:
            continue
        where = f"models.{name}.cache.shared"
        if not stack.store.redis.is_set:
            hint = "add `store: {redis: {url: redis://10.0.0.5:6379/0}}`, or leave it out"
            raise StackError(f"`{where}` is set, and there is no `store.redis`", where=where, hint=hint)
        lane.flights.shared = SharedAnswers(
            link_of(stack.store.redis, environ, "store.redis"),
            prefix=stack.store.redis.prefix,
            model=name,
            age_max_s=spec.age_max,
            bytes_max=spec.shared_bytes_max,
        )
        yield lane.flights.shared


async def share_hints(hints: Hints, stack: Stack, lanes: Mapping[str, Lane]) -> None:
    """Once a second: what others have left out is left out here with its first failure. Engines that are started here
    have names that mean nothing elsewhere, and are passed over."""
    while True:
        await asyncio.sleep(_HINTS_EVERY_S)
        with contextlib.suppress(StateError):
            for model, endpoint in await asyncio.to_thread(hints.exchange):
                lane = lanes.get(model)
                if lane is not None and lane.router is not None and stack.models[model].source is None:
                    lane.router.warn(endpoint)
