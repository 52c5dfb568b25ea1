"""The requests that ended last, for `inhouse explain`: in memory, bounded in number and bytes, gone with the process.

Each is kept as some hundred bytes, and is an entry again when somebody asks: as objects they would be ten times as much
memory, which every request would have to walk through to make room for itself.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

from inhouse.telemetry.entry import Entry
from inhouse.telemetry.kept import Kept, encode, entry_of

KEPT_BYTES = 64
"""What one takes beside its own bytes, about."""
_SAME_ID_MAX = 8
_HEAD = b"\xdc\x00" + bytes([len(Kept.__struct_fields__)])
"""MessagePack's, of an array with so many items; the id follows."""


class Recent:
    """The newest `requests_max` entries, or fewer where they would take more than about `bytes_max`. 0 keeps none."""

    def __init__(self, *, requests_max: int, bytes_max: int) -> None:
        self.requests_max = requests_max
        self.bytes_max = bytes_max
        self.bytes = 0
        self._kept: deque[bytes] = deque()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, entry: Entry) -> None:
        """Takes a request that is over; the oldest ones make room."""
        data = kept_of(entry)
        kept = self._kept
        kept.append(data)
        self.bytes += len(data) + KEPT_BYTES
        while len(kept) > self.requests_max or self.bytes > self.bytes_max:
            self.bytes -= len(kept.popleft()) + KEPT_BYTES

    def find(self, request_id: str) -> tuple[Entry, ...]:
        """Those that bear this id, the newest first: clients may send an id of their own twice.

        Looks at one after the other: nobody asks often, and a table of ids would cost every request time and memory.
        """
        begins = _HEAD + encode(request_id)
        found = (data for data in reversed(self._kept) if data.startswith(begins))
        return tuple(entry_of(data) for data in islice(found, _SAME_ID_MAX))


def kept_of(entry: Entry) -> bytes:
    """See `Kept`."""
    usage = entry.usage
    return encode(
        (
            entry.request_id,
            entry.api,
            entry.model,
            entry.tenant,
            entry.key_id,
            entry.status,
            entry.code,
            entry.failed,
            entry.place,
            entry.arrived_s,
            entry.waited_s,
            entry.first_token_s,
            entry.ended_s,
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.cached_tokens,
            entry.money,
            entry.facts,
            entry.steps,
        )
    )
