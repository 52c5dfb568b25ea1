"""Answers that are kept to be given again: bounded in bytes and age, the least recently used go first. Pure.

What is kept is what the engine sent. The key says what it was asked and on whose behalf; who makes a key makes sure
that nothing else changes an answer.

Invariants, held by the property tests: `bytes_kept` is the sum of what is kept, never above `bytes_max`; nothing is
given out that is older than `age_max_s`; what goes first is what was asked for the longest ago.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

ENTRY_OVERHEAD_BYTES = 1024
"""What an entry takes beside its answer: key, places in both orders, objects. Counted with each."""


def key_of(tenant: str, version: bytes, path: bytes, body: bytes) -> bytes:
    """The key of one engine request. Each part goes in with its length, so that no two requests read the same."""
    name = tenant.encode()
    digest = hashlib.sha256(b"%d %d %d\n" % (len(name), len(version), len(path)))
    digest.update(name + version + path)
    digest.update(body)
    return digest.digest()


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole answer of an engine, in pieces of whole events."""

    pieces: tuple[bytes, ...]
    completion_tokens: int = 0

    @property
    def bytes_kept(self) -> int:
        return sum(map(len, self.pieces)) + ENTRY_OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class _Kept:
    answer: Answer
    bytes_kept: int
    since_s: float


class Cache:
    """See the module. Times are seconds of any clock that does not go back."""

    def __init__(self, *, bytes_max: int, entry_bytes_max: int, age_max_s: float) -> None:
        self.bytes_max = bytes_max
        self.entry_bytes_max = entry_bytes_max
        self.age_max_s = age_max_s
        self.bytes_kept = 0
        self._by_use: OrderedDict[bytes, _Kept] = OrderedDict()
        self._by_age: OrderedDict[bytes, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_use)

    def get(self, key: bytes, now_s: float) -> Answer | None:
        """The answer, if one is kept that is not too old; it counts as used now."""
        kept = self._by_use.get(key)
        if kept is None:
            return None
        if now_s - kept.since_s >= self.age_max_s:
            self._drop(key)
            return None
        self._by_use.move_to_end(key)
        return kept.answer

    def put(self, key: bytes, answer: Answer, now_s: float) -> bool:
        """Keeps an answer in place of one that was there. False where it is too large to be kept at all."""
        if key in self._by_use:
            self._drop(key)
        size = answer.bytes_kept
        if size > min(self.bytes_max, self.entry_bytes_max + ENTRY_OVERHEAD_BYTES) or self.age_max_s <= 0:
            return False
        while self.bytes_kept + size > self.bytes_max:
            self._drop(next(iter(self._by_use)))
        self._by_use[key] = _Kept(answer, size, now_s)
        self._by_age[key] = None
        self.bytes_kept += size
        return True

    def expire(self, now_s: float) -> None:
        """Lets go of what is too old."""
        while self._by_age:
            oldest = next(iter(self._by_age))
            if now_s - self._by_use[oldest].since_s < self.age_max_s:
                return
            self._drop(oldest)

    def clear(self) -> None:
        self._by_use.clear()
        self._by_age.clear()
        self.bytes_kept = 0

    def _drop(self, key: bytes) -> None:
        self.bytes_kept -= self._by_use.pop(key).bytes_kept
        del self._by_age[key]
