"""A file on its way: the bytes that are here and, beside them, which they are. Killed at any moment, it goes on.

Two files: `<key>.part`, as long as the whole, and `<key>.part.map`: a head that names size and content, then for each
range of the file how many of its bytes are here, from its beginning, as one number of 8 bytes. Bytes are written before
they are counted, which survives the end of the process; where the machine may end too and no digest would tell,
`durable` has bytes on disk before they are counted. If two processes ever write at once (a file system without locks),
they write the same bytes at the same places.
"""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path
from typing import Self

_HEAD = struct.Struct("<8sQQ32s")
_MAGIC = b"inhouse1"
_COUNT = struct.Struct("<Q")
SYNC_BYTES = 16 * 2**20


class Part:
    """Opens, or begins, the part of a file of `size` bytes; `content` says which version of it. Raises OSError.

    Each range has one writer at a time; different ranges may be written by different threads.
    """

    def __init__(self, path: Path, size: int, *, content: str, range_bytes: int, durable: bool = False) -> None:
        self.path = path
        self.size = size
        self._map_path = path.with_name(path.name + ".map")
        self._durable = durable
        path.parent.mkdir(parents=True, exist_ok=True)
        self._tag = hashlib.sha256(content.encode()).digest()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._map = os.open(self._map_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        known = self._read_map()
        if known is None:
            self._begin(range_bytes)
        else:
            self.range_bytes, self.done = known
        self.resumed_bytes = sum(self.done)
        """Of a run before this one."""
        self._counted = list(self.done)

    def _read_map(self) -> tuple[int, list[int]] | None:
        raw = os.pread(self._map, _HEAD.size, 0)
        if len(raw) < _HEAD.size:
            return None
        magic, size, range_bytes, known = _HEAD.unpack(raw)
        if (
            (magic, size, known) != (_MAGIC, self.size, self._tag)
            or not range_bytes
            or os.fstat(self._file).st_size != size
        ):
            return None
        count = -(-size // range_bytes)
        counts = os.pread(self._map, count * _COUNT.size, _HEAD.size)
        if len(counts) < count * _COUNT.size:
            return None
        done = [number for (number,) in _COUNT.iter_unpack(counts)]
        fits = all(number <= self._length(index, range_bytes) for index, number in enumerate(done))
        return (range_bytes, done) if fits else None

    def _begin(self, range_bytes: int) -> None:
        self.range_bytes = range_bytes
        self.done = [0] * -(-self.size // range_bytes)
        os.ftruncate(self._map, 0)  # a map of before never speaks of bytes that come now
        os.ftruncate(self._file, 0)
        os.ftruncate(self._file, self.size)
        head = _HEAD.pack(_MAGIC, self.size, range_bytes, self._tag)
        os.pwrite(self._map, head + bytes(len(self.done) * _COUNT.size), 0)

    def restart(self) -> None:
        """Forgets all bytes. Raises OSError."""
        self._begin(self.range_bytes)
        self.resumed_bytes = 0
        self._counted = list(self.done)

    def _length(self, index: int, range_bytes: int) -> int:
        return min(range_bytes, self.size - index * range_bytes)

    def missing(self) -> list[int]:
        """The ranges that are not whole, in order."""
        return [index for index, done in enumerate(self.done) if done < self._length(index, self.range_bytes)]

    def rest(self, index: int) -> tuple[int, int]:
        """Where a range goes on, and where it ends."""
        start = index * self.range_bytes
        return start + self.done[index], start + self._length(index, self.range_bytes)

    def write(self, index: int, data: bytes) -> None:
        """The next bytes of a range. Raises OSError."""
        at, view = index * self.range_bytes + self.done[index], memoryview(data)
        while view:
            written = os.pwrite(self._file, view, at)
            at, view = at + written, view[written:]
        self.done[index] += len(data)
        whole = self.done[index] == self._length(index, self.range_bytes)
        if self._durable:
            if not whole and self.done[index] - self._counted[index] < SYNC_BYTES:
                return
            os.fsync(self._file)
        self._counted[index] = self.done[index]
        os.pwrite(self._map, _COUNT.pack(self.done[index]), _HEAD.size + index * _COUNT.size)

    def read(self, at: int, length: int) -> bytes:
        return os.pread(self._file, length, at)

    @property
    def done_bytes(self) -> int:
        return sum(self.done)

    @property
    def front(self) -> int:
        """Up to here, from the beginning, everything is here."""
        missing = next((index for index in range(len(self.done)) if self.rest(index)[0] < self.rest(index)[1]), None)
        return self.size if missing is None else self.rest(missing)[0]

    def settle(self, file: Path) -> None:
        """Makes it the file, at once: on disk first, then under its name. Raises OSError."""
        os.fsync(self._file)
        file.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self.path, file)
        self._map_path.unlink(missing_ok=True)

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)
        self._map_path.unlink(missing_ok=True)

    def close(self) -> None:
        os.close(self._file)
        os.close(self._map)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def bytes_here(path: Path) -> int:
    """What a part has of its file already, as another process may be writing it; 0 where there is none."""
    try:
        raw = path.with_name(path.name + ".map").read_bytes()
    except OSError:
        return 0
    counts = raw[_HEAD.size :]
    return sum(number for (number,) in _COUNT.iter_unpack(counts[: len(counts) // _COUNT.size * _COUNT.size]))
