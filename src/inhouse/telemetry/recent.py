"""The requests that ended last, for `inhouse explain`: in memory, bounded in number and bytes, gone with the process.

Keeping one costs about as much as appending to a list, since the entry is kept as it is and rendered only when somebody
asks for it.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

from inhouse.telemetry.entry import Entry
from inhouse.telemetry.story import Picked

ENTRY_BYTES = 1024
"""An entry with its strings and its place in the queue, rounded up; steps and their candidates come on top."""
_STEP_BYTES = 160
_CANDIDATE_BYTES = 480
_SAME_ID_MAX = 8


class Recent:
    """The newest `requests_max` entries, or fewer where they would take more than about `bytes_max`. 0 keeps none."""

    def __init__(self, *, requests_max: int, bytes_max: int) -> None:
        self.requests_max = requests_max
        self.bytes_max = bytes_max
        self.bytes = 0
        self._entries: deque[Entry] = deque()
        self._sizes: deque[int] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    def keep(self, entry: Entry) -> None:
        """Takes a request that is over; the oldest ones make room."""
        size = ENTRY_BYTES + (_bytes_of(entry) if entry.steps else 0)
        self._entries.append(entry)
        self._sizes.append(size)
        self.bytes += size
        while len(self._entries) > self.requests_max or self.bytes > self.bytes_max:
            self._entries.popleft()
            self.bytes -= self._sizes.popleft()

    def find(self, request_id: str) -> tuple[Entry, ...]:
        """Those that bear this id, the newest first: clients may send an id of their own twice.

        Looks at one after the other: nobody asks often, and a table of ids would cost every request time and memory.
        """
        found = (entry for entry in reversed(self._entries) if entry.request_id == request_id)
        return tuple(islice(found, _SAME_ID_MAX))


def _bytes_of(entry: Entry) -> int:
    size = _STEP_BYTES * len(entry.steps)
    for step in entry.steps:
        if type(step) is Picked:
            size += _CANDIDATE_BYTES * len(step.candidates)
    return size
