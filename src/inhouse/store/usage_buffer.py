"""A book in front of one that is reached over a network: use is summed up in memory and written by a thread.

Rows are one for each day, tenant, key and model, so memory grows with what is used, not with how long the book is away.
Beyond `rows_max` of them keys are summed up as one, `…`: no use is lost, only whose key it was.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable

import msgspec

from inhouse.errors import StateError
from inhouse.store.ledger import UsageFilter, UsageRow
from inhouse.store.ledger_claimed import Book
from inhouse.store.usage_sums import UsageSums

WRITE_EVERY_S = 1.0
_CLOSE_S_MAX = 5.0
SUMMED_UP = "…"


class BufferedBook:
    """A `Book` whose `count` never waits and never fails. It closes `book`."""

    def __init__(self, book: Book, *, rows_max: int) -> None:
        self._book = book
        self._rows_max = rows_max
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._sums = UsageSums()
        self._batch: tuple[UsageRow, ...] = ()
        self._ended = threading.Event()
        self.trouble = ""
        """Why it could not be written the last time; "" where it could."""
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)
        self._thread.start()

    @property
    def rows_waiting(self) -> int:
        return len(self._sums) + len(self._batch)

    def count(self, rows: Iterable[UsageRow]) -> None:
        with self._lock:
            if len(self._sums) >= self._rows_max:
                rows = [msgspec.structs.replace(row, key_id=SUMMED_UP) for row in rows]
            self._sums.add(rows)

    def usage(self, wanted: UsageFilter) -> tuple[UsageRow, ...]:
        self.write()
        return self._book.usage(wanted)

    def write(self) -> None:
        """Writes what was counted. Raises `StateError`; then the same batch is tried again by the next call."""
        with self._writing:
            if not self._batch:
                with self._lock:
                    self._batch = self._sums.taken()
            if self._batch:
                self._book.count(self._batch)
                self._batch = ()

    def close(self) -> None:
        """Writes what is left; waits `_CLOSE_S_MAX` for it at most."""
        self._ended.set()
        self._thread.join(_CLOSE_S_MAX)
        self._book.close()

    def _run(self) -> None:
        while not self._ended.wait(WRITE_EVERY_S):
            self._try()
        self._try()
        with contextlib.suppress(StateError):
            self.write()  # what was counted while the batch was written

    def _try(self) -> None:
        try:
            self.write()
            self.trouble = ""
        except StateError as error:
            self.trouble = error.message
        except Exception as error:  # noqa: BLE001 - the thread goes on, and what was counted stays
            self.trouble = f"an internal error ({type(error).__name__})"
