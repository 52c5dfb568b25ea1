"""The circuit breaker of one endpoint: after failures in a row nothing goes there, then single probes, then all again.

Theory of operation. *Closed*: everything passes; `failures_max` failures in a row open it, one success starts the count
anew. *Open*: nothing passes for `open_s`; each time it opens again without having closed the time doubles, up to
`open_s_max`. *Half-open*, which is open with its time over: at most `probes_max` requests at once pass as probes, those
that have begun to answer not counted, as an answer may take minutes. A probe that succeeds closes it, one that fails
opens it again. A probe that says nothing (`neutral`) only frees its place. Answers to requests that were sent before it
opened change nothing, so old failures cannot reopen it.
"""

from __future__ import annotations

import math

from inhouse.routing.ask import Outcome


class Breaker:
    """See the module. The caller pairs `started` and `ended`."""

    __slots__ = (
        "_failures_max",
        "_open_s",
        "_open_s_max",
        "_opened",
        "_probes_max",
        "failures",
        "open_until_s",
        "probes",
    )

    def __init__(self, *, failures_max: int, open_s: float, open_s_max: float, probes_max: int = 1) -> None:
        self._failures_max = failures_max
        self._open_s = open_s
        self._open_s_max = max(open_s, open_s_max)
        self._probes_max = probes_max
        self.failures = 0
        """In a row, while it is closed."""
        self._opened = 0
        self.open_until_s = -math.inf
        """When the first probe may pass; of a closed one, in the past of all time."""
        self.probes = 0

    @property
    def closed(self) -> bool:
        return not self._opened

    def allows(self, now_s: float) -> bool:
        """Whether a request may pass now, as a probe where it is half-open."""
        return not self._opened or (now_s >= self.open_until_s and self.probes < self._probes_max)

    def started(self) -> bool:
        """A request passes. True: it is a probe, and so is told to `ended`."""
        if not self._opened:
            return False
        self.probes += 1
        return True

    def proven(self) -> None:
        """A probe has begun to answer: the next one may pass. `ended` is told so of it."""
        self.probes -= 1

    def ended(self, outcome: Outcome, now_s: float, *, probe: bool, proven: bool = False) -> None:
        """How a request that had passed ended."""
        if probe and not proven:
            self.probes -= 1
        if outcome == "neutral" or probe == self.closed:  # sent in another state than the present one
            return
        if outcome == "ok":
            if now_s < self.open_until_s:  # another probe has opened it again since
                return
            self.failures = 0
            self._opened = 0
            self.open_until_s = -math.inf
            return
        self.failures += 1
        if probe or self.failures >= self._failures_max:
            self._open(now_s)

    def warned(self) -> None:
        """Somebody else has given the endpoint up: one failure here is enough to open it. A success forgets that."""
        if not self._opened:
            self.failures = max(self.failures, self._failures_max - 1)

    def _open(self, now_s: float) -> None:
        self.open_until_s = now_s + min(self._open_s * 2.0 ** min(self._opened, 60), self._open_s_max)
        self._opened += 1
        self.failures = 0
