"""Which endpoint has seen which beginning of a prompt. Bounded in memory: the blocks that were unused longest go first.

A prompt's bytes are cut into blocks, 256 bytes each up to 2 KiB and then an eighth of what lies before, so a prompt of
32 KiB has 38 and one of 1 MiB 78. Each block's hash covers all before it, so equal hashes mean equal beginnings. An
index entry is a set of endpoints as the bits of a number. The hash is Python's own of bytes (SipHash, keyed per
process): fast, and no client can aim at a collision.
"""

from __future__ import annotations

BLOCK_BYTES = 256
_PROMPT_BYTES_MAX = 64 << 20


def _ends() -> tuple[int, ...]:
    ends = [BLOCK_BYTES]
    while ends[-1] < _PROMPT_BYTES_MAX:
        step = max(BLOCK_BYTES, ends[-1] // 8 // BLOCK_BYTES * BLOCK_BYTES)
        ends.append(ends[-1] + step)
    return tuple(ends)


ENDS = _ends()
"""Where the blocks of any prompt end, in bytes."""

Level = tuple[int, float]
"""Endpoints, as bits, that know the prompt up to some block; and the part of the prompt that this is."""


def chain(prompt: bytes) -> list[int]:
    """The hashes of a prompt's whole blocks, each over all before it. What remains at the end has none."""
    size = len(prompt)
    hashes: list[int] = []
    start = hashed = 0
    for end in ENDS:
        if end > size:
            break
        hashed = hash((hashed, prompt[start:end]))
        hashes.append(hashed)
        start = end
    return hashes


class PrefixIndex:
    """See the module. An endpoint is a bit, given out by `join` and taken back by `leave`."""

    def __init__(self, blocks_max: int) -> None:
        self._blocks_max = blocks_max
        self._owners: dict[int, int] = {}
        self._free: list[int] = []
        self._joined = 0

    def __len__(self) -> int:
        return len(self._owners)

    def join(self) -> int:
        """A bit for a new endpoint: a power of two that stands for nobody else."""
        if self._free:
            return self._free.pop()
        self._joined += 1
        return 1 << (self._joined - 1)

    def leave(self, bit: int) -> None:
        """All that this endpoint knew is forgotten. Walks over the whole index."""
        owners = self._owners
        for block in [block for block, bits in owners.items() if bits & bit]:
            owners[block] &= ~bit
            if not owners[block]:
                del owners[block]
        self._free.append(bit)

    def learn(self, blocks: list[int], bit: int) -> None:
        """The endpoint has now seen this prompt. Its first block becomes the youngest of the index, its last the oldest
        of these: a chain loses its end first.
        """
        owners = self._owners
        pop = owners.pop
        for block in reversed(blocks):
            owners[block] = pop(block, 0) | bit
        if len(owners) > self._blocks_max:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        owners = self._owners
        while len(owners) > self._blocks_max:
            del owners[next(iter(owners))]

    def match(self, blocks: list[int], size: int) -> list[Level]:
        """Who knows how much of a prompt of `size` bytes, longest first."""
        levels: list[Level] = []
        get = self._owners.get
        last = 0
        depth = 0
        for block in blocks:
            bits = get(block, 0)
            if bits != last:
                if depth:
                    levels.append((last, ENDS[depth - 1] / size))
                if not bits:
                    last = 0
                    break
                last = bits
            depth += 1
        if last and depth:
            levels.append((last, ENDS[depth - 1] / size))
        levels.reverse()
        return levels
