"""Heads of whole answers that are known by their bytes."""

from __future__ import annotations

import re

_LENGTH = b"\r\ncontent-length: "
_ODD = re.compile(rb"\r\n(connection|transfer-encoding|upgrade|trailer)\s*:|[^\r]\n|\n[ \t]")
"""What makes a head one that is not known by its bytes."""


class KnownHead:
    """The head of whole answers, which is the same for each of an engine but for the length of the body: an answer that
    comes whole in one read is known by its bytes, and the parser need not look at it again.

    `misses`: how often in a row another head took the place of the one that was known.
    """

    __slots__ = ("_after", "_before", "misses")

    def __init__(self) -> None:
        self._before = self._after = b""
        self.misses = 0

    def body_in(self, data: bytes) -> bytes | None:
        """The body, if `data` is this head and the whole body of one answer, and nothing else."""
        before, after = self._before, self._after
        if not before or not data.startswith(before):
            return None
        begin = len(before)
        end = data.find(b"\r", begin, begin + 10)
        if end < 0 or not data.startswith(after, end):
            return None
        digits, body = data[begin:end], data[end + len(after) :]
        if not digits.isdigit() or int(digits) != len(body):
            return None
        self.misses = 0
        return body

    def learn(self, data: bytes) -> None:
        """How an answer of status 200 begins that is kept alive and tells its length; another one is none to know."""
        end = data.find(b"\r\n\r\n")
        lines = data[: end + 2].lower()
        if end < 0 or not lines.startswith(b"http/1.1 200 ") or lines.count(_LENGTH) != 1 or _ODD.search(lines):
            return
        begin = lines.index(_LENGTH) + len(_LENGTH)
        stop = data.index(b"\r", begin)
        if data[begin:stop].isdigit():
            self.misses += 1
            self._before, self._after = data[:begin], data[stop : end + 4]
