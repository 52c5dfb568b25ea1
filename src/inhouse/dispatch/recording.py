"""One answer while several read it, each at its own pace: blocks of events, numbered from 0. Pure.

As long as it is within `bytes_max` it is kept whole, and new readers can begin at the beginning. When it grows beyond
that it becomes a window: what all have read is let go of, and nobody new can join.
"""

from __future__ import annotations

from collections import deque

from inhouse.dispatch.cache import Answer

_PIECE_BYTES = 64 * 1024


class Recording:
    """`end` is the number of the next block; `done` is set once no more will come, with `error` where it broke off.

    `completion_tokens` is known once it is done.
    """

    __slots__ = ("_blocks", "_first", "bytes_held", "bytes_max", "completion_tokens", "done", "error")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes_held = 0
        self.completion_tokens = 0
        self.done = False
        self.error: Exception | None = None
        self._blocks: deque[bytes] = deque()
        self._first = 0

    @classmethod
    def of(cls, answer: Answer) -> Recording:
        """An answer that is there already."""
        recording = cls(0)
        recording._blocks.extend(answer.pieces)
        recording.bytes_held = sum(map(len, answer.pieces))
        recording.finish(None, answer.completion_tokens)
        return recording

    @property
    def end(self) -> int:
        return self._first + len(self._blocks)

    @property
    def whole(self) -> bool:
        """Whether its beginning is still there."""
        return self._first == 0

    @property
    def over_full(self) -> bool:
        return self.bytes_held > self.bytes_max

    def append(self, block: bytes) -> None:
        self._blocks.append(block)
        self.bytes_held += len(block)

    def block(self, number: int) -> bytes:
        return self._blocks[number - self._first]

    def trim(self, number: int) -> None:
        """Lets go of the blocks before `number`: all who read have had them."""
        while self._first < number and self._blocks:
            self.bytes_held -= len(self._blocks.popleft())
            self._first += 1

    def finish(self, error: Exception | None, completion_tokens: int = 0) -> None:
        self.completion_tokens = completion_tokens
        self.done = True
        self.error = error

    def pieces(self) -> list[bytes]:
        """The blocks, small ones put together; the last, which has the usage, stays apart."""
        pieces: list[bytes] = []
        run: list[bytes] = []
        size = 0
        for number, block in enumerate(self._blocks, start=1):
            if run and (size + len(block) > _PIECE_BYTES or number == len(self._blocks)):
                pieces.append(b"".join(run))
                run, size = [], 0
            run.append(block)
            size += len(block)
        return [*pieces, b"".join(run)] if run else pieces
