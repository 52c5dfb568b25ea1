"""Tells of shared stores that are away, in the log and on `/metrics`. A part of `runtime`."""

from __future__ import annotations

from inhouse.store.stores import Opened
from inhouse.telemetry.log import Log
from inhouse.telemetry.metrics import Metrics
from inhouse.telemetry.stores import StoreGauges, StoreReading
from inhouse.tenancy.quotas import Quotas


class StoreWatch:
    """`sweep` is called about once a second. Stores in the state folder are told of where they fail, not here."""

    def __init__(self, opened: Opened, quotas: Quotas, log: Log, metrics: Metrics) -> None:
        self._opened = opened
        self._quotas = quotas
        self._log = log
        self._told: dict[str, str] = {}
        metrics.registry.register(StoreGauges(self._reading))

    def sweep(self) -> None:
        for concern, reason in self._opened.troubles().items():
            before = self._told.get(concern, "")
            if reason and not before:
                self._log.event("error", "store away", concern=concern, reason=reason)
            elif before and not reason:
                self._log.event("info", "store back", concern=concern)
            self._told[concern] = reason

    def _reading(self) -> StoreReading:
        book = self._opened.book
        return StoreReading(self._opened.troubles(), 0 if book is None else book.rows_waiting, self._quotas.unchecked)
