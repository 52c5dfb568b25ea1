"""The requests that ended last, for `inhouse explain`: in memory, bounded in number and bytes, gone with the process.

Keeping one costs about as much as appending to a list, since the entry is kept as it is and rendered only when somebody
asks for it.
"""

from __future__ import annotations

from collections import deque

from inhouse.telemetry.entry import Entry
from inhouse.telemetry.story import Picked

ENTRY_BYTES = 1024
"""An entry with its strings and its places in the two tables, rounded up; steps and their candidates come on top."""
_STEP_BYTES = 160
_CANDIDATE_BYTES = 480
_SAME_ID_MAX = 8


class Recent:
    """The newest `requests_max` entries, or fewer where they would take more than about `bytes_max`. 0 keeps none."""

    def __init__(self, *, requests_max: int, bytes_max: int) -> None:
        self.requests_max = requests_max
        self.bytes_max = bytes_max
        self.bytes = 0
        self._order: deque[tuple[Entry, int]] = deque()
        self._by_id: dict[str, tuple[Entry, ...]] = {}

    def __len__(self) -> int:
        return len(self._order)

    def keep(self, entry: Entry) -> None:
        """Takes a request that is over; the oldest ones make room."""
        size = ENTRY_BYTES + (_bytes_of(entry) if entry.steps else 0)
        self._order.append((entry, size))
        same = self._by_id.get(entry.request_id)
        self._by_id[entry.request_id] = (entry,) if same is None else (*same[-_SAME_ID_MAX + 1 :], entry)
        self.bytes += size
        while len(self._order) > self.requests_max or self.bytes > self.bytes_max:
            self._forget_oldest()

    def find(self, request_id: str) -> tuple[Entry, ...]:
        """Those that bear this id, the newest first: clients may send an id of their own twice."""
        return self._by_id.get(request_id, ())[::-1]

    def _forget_oldest(self) -> None:
        entry, size = self._order.popleft()
        self.bytes -= size
        left = tuple(one for one in self._by_id.get(entry.request_id, ()) if one is not entry)
        if left:
            self._by_id[entry.request_id] = left
        else:
            self._by_id.pop(entry.request_id, None)


def _bytes_of(entry: Entry) -> int:
    size = _STEP_BYTES * len(entry.steps)
    for step in entry.steps:
        if type(step) is Picked:
            size += _CANDIDATE_BYTES * len(step.candidates)
    return size
