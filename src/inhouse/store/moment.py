"""This moment, as ledgers count it."""

from __future__ import annotations

import time

from inhouse.store.ledger import Now


def now() -> Now:
    return Now(time.time_ns() // 1000, time.monotonic_ns() // 1000)
