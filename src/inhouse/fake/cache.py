"""A prefix cache as engines have them: which part of a prompt was computed before and need not be again.

Tokens are kept in blocks; a block is known by its tokens and all that stand before it. `SharedCache` is one store for
all slots, the oldest blocks leave first (vLLM, SGLang); `SlotCaches` remembers the last sequence of each slot, and a
request goes to the free slot that knows most of it (llama.cpp).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol


class Cache(Protocol):
    def take(self, free: Sequence[int], tokens: Sequence[str]) -> tuple[int, int]:
        """(slot of `free`, tokens of the prompt that are known). At least one token is always computed."""

    def keep(self, slot: int, tokens: Sequence[str]) -> None:
        """A sequence was computed in a slot: prompt and answer."""


def blocks_of(tokens: Sequence[str], size: int) -> list[int]:
    """A number for each whole block, which stands for it and all before it."""
    found = []
    before = 0
    for at in range(0, len(tokens) - size + 1, size):
        before = hash((before, *tokens[at : at + size]))
        found.append(before)
    return found


class NoCache:
    def take(self, free: Sequence[int], tokens: Sequence[str]) -> tuple[int, int]:
        return free[0], 0

    def keep(self, slot: int, tokens: Sequence[str]) -> None:
        return None


class SharedCache:
    """`tokens_max` bounds what is kept."""

    def __init__(self, tokens_max: int, block: int) -> None:
        self._block = block
        self._blocks_max = tokens_max // block
        self._known: OrderedDict[int, None] = OrderedDict()

    def take(self, free: Sequence[int], tokens: Sequence[str]) -> tuple[int, int]:
        hits = 0
        for block in blocks_of(tokens, self._block):
            if block not in self._known:
                break
            self._known.move_to_end(block)
            hits += 1
        return free[0], _computed_before(hits * self._block, len(tokens))

    def keep(self, slot: int, tokens: Sequence[str]) -> None:
        for block in blocks_of(tokens, self._block):
            self._known[block] = None
            self._known.move_to_end(block)
        while len(self._known) > self._blocks_max:
            self._known.popitem(last=False)

    @property
    def tokens(self) -> int:
        return len(self._known) * self._block


class SlotCaches:
    """One sequence per slot; slots are taken by what they know, then by how long they have been idle."""

    def __init__(self, block: int) -> None:
        self._block = block
        self._known: OrderedDict[int, list[int]] = OrderedDict()

    def take(self, free: Sequence[int], tokens: Sequence[str]) -> tuple[int, int]:
        wanted = blocks_of(tokens, self._block)
        unused = [slot for slot in free if slot not in self._known]
        best, hits = unused[0] if unused else next(slot for slot in self._known if slot in free), 0
        for slot in free:
            found = _common(self._known.get(slot, ()), wanted)
            if found > hits:
                best, hits = slot, found
        return best, _computed_before(hits * self._block, len(tokens))

    def keep(self, slot: int, tokens: Sequence[str]) -> None:
        self._known[slot] = blocks_of(tokens, self._block)
        self._known.move_to_end(slot)


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return count


def _computed_before(known: int, asked: int) -> int:
    """The last token of a prompt is computed in any case: the first one of the answer comes from it."""
    return max(0, min(known, asked - 1))
