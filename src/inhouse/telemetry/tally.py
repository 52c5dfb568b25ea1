"""What requests come to, counted as they end; `metrics` hands it on to the library, whose counters take a lock each."""

from __future__ import annotations

from bisect import bisect_left

from inhouse.telemetry.entry import Entry


class Spread:
    """Values in buckets: `counts[i]` are those up to `bounds[i]` and above the one before; the last has no end."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Tally:
    """Requests that are alike: of one API and model, with one status. Sums are since `clear`."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    def __init__(self, waited: Spread | None, ttft: Spread | None, tpot: Spread | None, e2e: Spread | None) -> None:
        """None: such times are not counted of these."""
        self._waited, self._ttft, self._tpot, self._e2e = waited, ttft, tpot, e2e

    def add(self, entry: Entry) -> None:
        self.requests += 1
        usage = entry.usage
        prompt_tokens = usage.prompt_tokens
        if prompt_tokens:
            self.prompt_tokens += prompt_tokens
            self.cached_tokens += usage.cached_tokens
            self.completion_tokens += usage.completion_tokens
        if self._waited is not None:
            self._waited.add(entry.waited_s)
        if self._e2e is not None:
            self._e2e.add(entry.ended_s - entry.arrived_s)
        if entry.first_token_s is None:
            return
        ttft_s, tpot_s = entry.ttft_s, entry.tpot_s
        if self._ttft is not None and ttft_s is not None:
            self._ttft.add(ttft_s)
        if self._tpot is not None and tpot_s is not None:
            self._tpot.add(tpot_s)

    def clear(self) -> None:
        self.requests = self.prompt_tokens = self.cached_tokens = self.completion_tokens = 0
