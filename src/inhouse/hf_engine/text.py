"""The text of an answer while its tokens come: pure.

A token is not a piece of text: it may be half a character, and what it reads like depends on the one before it. So the
last few tokens are read again with each new one, and only what came on top is shown. What could be the beginning of a
stop sequence is held back until it is clear whether it is one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

_BEFORE_TOKENS = 5
"""Tokens of the prompt that the first token is read behind."""
_PENDING_TOKENS_MAX = 16
"""A character has four bytes at most: what stays unreadable for longer than this is no character."""
_HALF = "\ufffd"


class Text:
    """One answer's text. `stopped` once a stop sequence has come; what is in it and behind it is never shown."""

    __slots__ = ("_decode", "_from", "_held", "_shown", "_stops", "_tokens", "stopped")

    def __init__(self, decode: Callable[[list[int]], str], before: Sequence[int], stops: tuple[str, ...] = ()) -> None:
        self._decode = decode
        self._stops = stops
        self._tokens = list(before[-_BEFORE_TOKENS:])
        self._from, self._shown = 0, len(self._tokens)
        self._held = ""
        self.stopped = False

    def take(self, token: int) -> str:
        """The text that is certain with this token; often that of the token, sometimes nothing."""
        self._tokens.append(token)
        return self._release(self._read(whole=len(self._tokens) - self._shown > _PENDING_TOKENS_MAX))

    def rest(self) -> str:
        """What was held back, now that no token follows. Half a character is shown as a replacement character."""
        if self.stopped:
            return ""
        found = self._release(self._read(whole=True))
        if not self.stopped:
            found, self._held = found + self._held, ""
        return found

    def _read(self, *, whole: bool) -> str:
        if self._shown == len(self._tokens):
            return ""
        before = self._decode(self._tokens[self._from : self._shown])
        now = self._decode(self._tokens[self._from :])
        if not whole and (now.endswith(_HALF) or len(now) <= len(before)):
            return ""
        self._from, self._shown = self._shown, len(self._tokens)
        if self._from > _PENDING_TOKENS_MAX * 4:  # what was read is not needed again
            del self._tokens[: self._from]
            self._shown -= self._from
            self._from = 0
        return now[len(before) :]

    def _release(self, new: str) -> str:
        """Of what is held and new, the part that no stop sequence can be in."""
        if not self._stops:
            return new
        held = self._held + new
        ends = [at for at in (held.find(stop) for stop in self._stops) if at >= 0]
        if ends:
            self.stopped, self._held = True, ""
            return held[: min(ends)]
        kept = max((_overlap(held, stop) for stop in self._stops), default=0)
        cut = len(held) - kept
        self._held = held[cut:]
        return held[:cut]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that `stop` begins with."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
