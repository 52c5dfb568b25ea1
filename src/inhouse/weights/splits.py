"""Models that are split into several GGUF files: `name-00001-of-00003.gguf` and so on, as llama-gguf-split names them.

The engine is given the first and finds the others beside it.
"""

from __future__ import annotations

import re

PARTS_MAX = 1_000

_SPLIT = re.compile(r"(.*-)(\d{5})-of-(\d{5})(\.gguf)")


def parts(name: str) -> tuple[str, ...]:
    """The names of all parts, the first one first, whichever is given; of an unsplit file, its own."""
    match = _SPLIT.fullmatch(name)
    if match is None:
        return (name,)
    stem, number, count, ending = match[1], int(match[2]), int(match[3]), match[4]
    if not 1 <= number <= count <= PARTS_MAX:
        return (name,)
    return tuple(f"{stem}{part:05}-of-{count:05}{ending}" for part in range(1, count + 1))
