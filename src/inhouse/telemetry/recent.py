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
_CANDIDATE_BYTES = 128
_SAME_ID_MAX = 8
_AT_ONCE = 64
"""Requests that are kept before anybody looks how large they are."""


class Recent:
    """The newest `requests_max` entries, or fewer where they would take more than about `bytes_max`. 0 keeps none."""

    def __init__(self, *, requests_max: int, bytes_max: int) -> None:
        self.requests_max = requests_max
        self.bytes_max = bytes_max
        self._bytes = 0
        self._entries: deque[Entry] = deque()
        self._sizes: deque[int] = deque()
        self._new: list[Entry] = []

    def __len__(self) -> int:
        self._weigh()
        return len(self._entries)

    @property
    def bytes(self) -> int:
        self._weigh()
        return self._bytes

    def keep(self, entry: Entry) -> None:
        """Takes a request that is over; the oldest ones make room, once for some."""
        self._new.append(entry)
        if len(self._new) >= _AT_ONCE:
            self._weigh()

    def _weigh(self) -> None:
        new, self._new = self._new, []
        for entry in new:
            size = ENTRY_BYTES + _bytes_of(entry)
            self._entries.append(entry)
            self._sizes.append(size)
            self._bytes += size
        while len(self._entries) > self.requests_max or self._bytes > self.bytes_max:
            self._entries.popleft()
            self._bytes -= self._sizes.popleft()

    def find(self, request_id: str) -> tuple[Entry, ...]:
        """Those that bear this id, the newest first: clients may send an id of their own twice.

        Looks at one after the other: nobody asks often, and a table of ids would cost every request time and memory.
        """
        self._weigh()
        found = (entry for entry in reversed(self._entries) if entry.request_id == request_id)
        return tuple(islice(found, _SAME_ID_MAX))


def _bytes_of(entry: Entry) -> int:
    size = _STEP_BYTES * len(entry.steps)
    for step in entry.steps:
        if type(step) is Picked:
            size += _CANDIDATE_BYTES * (len(step.names) + len(step.out))
    return size
