"""Steps through the bytes of a header that nobody vouches for. What the bytes mean is `gguf`'s business."""

from __future__ import annotations

import struct
from typing import Protocol

STRINGS_MAX = 8_000_000
WINDOW_BYTES = 2**20

NUMBERS: dict[int, struct.Struct] = {
    number: struct.Struct(f"<{form}") for number, form in enumerate(("B", "b", "H", "h", "I", "i", "f", "?"))
} | {number: struct.Struct(f"<{form}") for number, form in ((10, "Q"), (11, "q"), (12, "d"))}
"""The number of a value's type in the file → how it is laid out."""
U32, U64 = NUMBERS[4], NUMBERS[10]


class Stream(Protocol):
    """What headers are read from: a file, or `remote_file.RemoteFile`."""

    def seek(self, at: int, /) -> int: ...

    def read(self, length: int, /) -> bytes:
        """As many bytes as were asked for, unless the stream ends before."""
        ...


class Malformed(Exception):
    """Why a header cannot be right."""


class Cursor:
    """Steps through a stream in windows; refuses to go past its end."""

    def __init__(self, stream: Stream, size: int, *, at: int) -> None:
        self._stream = stream
        self._size = size
        self._window = b""
        self._window_start = at
        self._at = 0
        self._strings = 0

    @property
    def position(self) -> int:
        return self._window_start + self._at

    def number(self, form: struct.Struct) -> int | float | bool:
        self._want(form.size)
        value: int | float | bool = form.unpack_from(self._window, self._at)[0]
        self._at += form.size
        return value

    def count(self, most: int, what: str) -> int:
        value = int(self.number(U64))
        if value > most:
            raise Malformed(f"it claims {value} {what}, at most {most} are accepted")
        return value

    def text(self, bytes_max: int, what: str) -> str:
        length = self.count(bytes_max, f"bytes for {what}")
        self._want(length)
        raw = self._window[self._at : self._at + length]
        self._at += length
        return raw.decode("utf-8", errors="replace")

    def numbers(self, form: struct.Struct, count: int) -> tuple[int | float | bool, ...]:
        """A short list; the caller bounds `count`."""
        self._want(form.size * count)
        values = tuple(value for (value,) in form.iter_unpack(self._window[self._at : self._at + form.size * count]))
        self._at += form.size * count
        return values

    def skip(self, length: int) -> None:
        if length > self._size - self.position:
            raise Malformed("it ends before its header does")
        self._at += length

    def skip_strings(self, count: int) -> None:
        """The one loop that is long for real files, hence its local names."""
        self._strings += count
        if self._strings > STRINGS_MAX:
            raise Malformed(f"it claims {self._strings} texts in lists, at most {STRINGS_MAX} are accepted")
        unpack, size = U64.unpack_from, self._size
        for _ in range(count):
            if self._at + 8 > len(self._window):
                self._want(8)
            self._at += 8 + unpack(self._window, self._at)[0]
            if self._window_start + self._at > size:
                raise Malformed("it ends before its header does")

    def _want(self, length: int) -> None:
        """The next `length` bytes are in the window."""
        if length > self._size - self.position:
            raise Malformed("it ends before its header does")
        if self._at + length <= len(self._window):
            return
        self._window_start, self._at = self.position, 0
        self._stream.seek(self._window_start)
        self._window = self._stream.read(max(length, WINDOW_BYTES))
        if len(self._window) < length:
            raise Malformed("it ends before its header does")
