"""Texts without meaning that can be checked: token k of the answer to a prompt is always the same word.

A token is a word with the space before it, at most eight characters of anything else, or a run of white space; so a
text can be cut into its tokens again, and an answer that broke off be continued where it stopped.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from hashlib import blake2b

_TOKEN = re.compile(r" ?\S{1,8}|\s+")
_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_PIECES_REMEMBERED = 200_000
CONTINUED_TOKENS_MAX = 4096
WORDS: list[str] = re.findall(
    r"\w+",
    "amber anchor apple arrow autumn bamboo basket beacon birch bloom border bottle branch breeze bridge "
    "bronze brook butter cabin candle canvas carpet castle cedar cherry circle clay cliff cloud clover "
    "coast copper coral corner cotton crane creek crystal curtain dawn delta desert diamond drift eagle "
    "early ember engine evening falcon feather fern field finch flame flint forest fountain fox garden "
    "garnet ginger glacier glass golden granite grape grove harbor harvest hazel heron hill hollow honey "
    "horizon indigo island ivory ivy jade jasper journey juniper kettle lake lantern laurel lemon library "
    "lilac linen lotus lumber maple marble meadow mill mint mirror mist moss mountain nectar north oak "
    "oasis ocean olive onyx opal orchard orchid otter owl paper pearl pebble pepper pine planet plum pond "
    "poplar prairie quartz quiet quill rain raven reed ridge river robin rose ruby saffron sail sand "
    "sapphire",
)


def tokens_of(text: str) -> list[str]:
    """The text in pieces; joined, they are the text again."""
    return _TOKEN.findall(text)


def key_of(prompt: Iterable[str], seed: int) -> int:
    """What decides the words of an answer: the prompt and the seed."""
    return _number(_digest(seed, prompt))


def token(key: int, k: int) -> str:
    """Token `k` of the answer: a word with a space before it."""
    return " " + WORDS[_mixed(key + k * _GOLDEN) % len(WORDS)]


def answer(key: int, start: int, count: int) -> str:
    """`count` tokens of an answer in a chat, from token `start` on. The first one has no space before it."""
    text = "".join([token(key, k) for k in range(start, start + count)])
    return text if start else text[1:]


def continued(tokens: Sequence[str], seed: int) -> tuple[int, int]:
    """The key of a plain text's continuation, and how many tokens of it the text already ends with.

    A text that ends with the beginning of its own answer is one that is to be continued.
    """
    first = max(0, len(tokens) - CONTINUED_TOKENS_MAX)
    digest = _digest(seed, tokens[:first])
    for at in range(first, len(tokens)):
        key = _number(digest)
        if tokens[at] == token(key, 0) and all(tokens[at + k] == token(key, k) for k in range(len(tokens) - at)):
            return key, len(tokens) - at
        _add(digest, tokens[at])
    return _number(digest), 0


def length(key: int, usual: int, spread: float) -> int:
    """Tokens of an answer that ends by itself: `usual`, more or less by at most `spread` of it."""
    if not spread:
        return usual
    draw = _mixed(key ^ 0x5DEECE66D) / _MASK  # 0 to 1
    return max(1, round(usual * (1 + spread * (2 * draw - 1))))


def vector(text: str, dim: int) -> list[float]:
    """The embedding of a text: of length 1, the same for the same text."""
    key = key_of((text,), 0)
    raw = [_mixed(key + index * _GOLDEN) / _MASK - 0.5 for index in range(dim)]
    norm = sum(value * value for value in raw) ** 0.5 or 1.0
    return [value / norm for value in raw]


class Vocabulary:
    """Numbers of tokens. A token's number is always the same; what it stood for is remembered, within bounds."""

    def __init__(self) -> None:
        self._pieces: OrderedDict[int, str] = OrderedDict()

    def ids(self, text: str) -> list[int]:
        return self.numbers(tokens_of(text))

    def numbers(self, pieces: Iterable[str]) -> list[int]:
        found = []
        for piece in pieces:
            number = int.from_bytes(blake2b(piece.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "big") >> 1
            self._pieces[number] = piece
            found.append(number)
        while len(self._pieces) > _PIECES_REMEMBERED:
            self._pieces.popitem(last=False)
        return found

    def text(self, ids: Iterable[int]) -> str | None:
        """The text of tokens that this process has cut; None where there is another among them."""
        found = [self._pieces.get(number) for number in ids]
        return None if None in found else "".join(piece for piece in found if piece is not None)


def _digest(seed: int, parts: Iterable[str]) -> blake2b:
    digest = blake2b(str(seed).encode(), digest_size=8)
    for part in parts:
        _add(digest, part)
    return digest


def _add(digest: blake2b, part: str) -> None:
    digest.update(part.encode("utf-8", "surrogatepass"))
    digest.update(b"\0")


def _number(digest: blake2b) -> int:
    return int.from_bytes(digest.digest(), "big")


def _mixed(number: int) -> int:
    """A number of 64 bits that looks like chance (splitmix64)."""
    number &= _MASK
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _MASK
    return number ^ (number >> 31)
