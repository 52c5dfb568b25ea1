"""Heads of HTTP messages that are known by their bytes."""

from __future__ import annotations

import re

_LENGTH = b"\r\ncontent-length: "
_ODD = re.compile(rb"\r\n(connection|transfer-encoding|upgrade|trailer)\s*:|[^\r]\n|\n[ \t]")
"""What makes a head one that is not known by its bytes."""


class HeadBytes:
    """A head, around the digits of its `content-length`."""

    __slots__ = ("_after", "_before")

    def __init__(self, before: bytes, after: bytes) -> None:
        self._before = before
        self._after = after

    def body_in(self, data: bytes) -> bytes | None:
        """The body, if `data` is this head and the whole body of one message, and nothing else."""
        before, after = self._before, self._after
        length, bound = len(data) - len(before) - len(after) - 1, 10
        while length >= bound:  # the digits take their room too
            length -= 1
            bound *= 10
        if length < 0:
            return None
        head = b"%b%d%b" % (before, length, after)
        return data[len(head) :] if len(head) + length == len(data) and data.startswith(head) else None


class KnownHead:
    """The head of whole answers, which is the same for each of an engine but for the length of the body: an answer that
    comes whole in one read is known by its bytes, and the parser need not look at it again.

    `misses`: how often in a row another head took the place of the one that was known.
    """

    __slots__ = ("_head", "misses")

    def __init__(self) -> None:
        self._head: HeadBytes | None = None
        self.misses = 0

    def body_in(self, data: bytes) -> bytes | None:
        """The body, if `data` is this head and the whole body of one answer, and nothing else."""
        body = None if self._head is None else self._head.body_in(data)
        if body is not None:
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
            self._head = HeadBytes(data[:begin], data[stop : end + 4])
