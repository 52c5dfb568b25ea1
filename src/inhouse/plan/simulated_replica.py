"""A replica as the simulation has it: slots, a prefill that serves one prompt after the other, a prefix cache, faults.

What it is: prompts are read in the order in which they came, at `prefill_tokens_per_s`, less what the cache holds; each
answer then takes `tpot_s` per token, more the fuller the batch was when it began. The cache holds the beginnings of
conversations up to `cache_tokens`, the least lately used go first. What it is not: a model of any one engine. Decoding
is not slowed by prompts that come later, and the cache holds whole beginnings, not blocks.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ReplicaModel:
    """What every replica of a simulated fleet can do. The defaults are about a 8B model on one L4."""

    slots: int = 8
    prefill_tokens_per_s: float = 3000.0
    tpot_s: float = 0.025
    batch_cost: float = 0.05
    """Each other sequence in the batch makes a token this much slower, as a part of `tpot_s`."""
    cache_tokens: int = 60_000


@dataclass(slots=True, eq=False)
class SimulatedReplica:
    """One replica. `active` are the attempts that it has now, of whatever kind the simulation makes them."""

    id: str
    model: ReplicaModel
    generation: int = 0
    up: bool = True
    hung: bool = False
    refusing: bool = False
    draining: bool = False
    speed: float = 1.0
    """1 is as the model says, 0.1 a tenth of it."""
    active: dict[Any, None] = field(default_factory=dict)
    prefill_until_s: float = 0.0
    cached: OrderedDict[str, int] = field(default_factory=OrderedDict)
    cached_tokens: int = 0

    def times(
        self, beginnings: tuple[tuple[str, int], ...], tokens: int, answer: int, now_s: float
    ) -> tuple[float, float]:
        """When an answer's first and last token come, if nothing happens. Called when the attempt is in `active`.

        `beginnings` are the names of what the prompt begins with, and the tokens up to where each ends, shortest first.
        """
        known = max((min(self.cached.get(name, 0), size) for name, size in beginnings), default=0)
        fresh = max(1, tokens - known)
        begin_s = max(now_s, self.prefill_until_s)
        first_s = self.prefill_until_s = begin_s + fresh / (self.model.prefill_tokens_per_s * self.speed)
        slower = 1.0 + self.model.batch_cost * (len(self.active) - 1)
        return first_s, first_s + self.model.tpot_s * slower / self.speed * (answer - 1)

    def remember(self, beginnings: tuple[tuple[str, int], ...]) -> None:
        """These are in the cache now."""
        for name, size in beginnings:
            old = self.cached.pop(name, 0)
            self.cached[name] = max(old, size)
            self.cached_tokens += max(0, size - old)
        while self.cached_tokens > self.model.cache_tokens and len(self.cached) > 1:
            self.cached_tokens -= self.cached.popitem(last=False)[1]

    def restart(self) -> None:
        """A new process: nothing in flight, an empty cache."""
        self.generation += 1
        self.up, self.hung, self.refusing, self.draining, self.speed = True, False, False, False, 1.0
        self.active.clear()
        self.cached.clear()
        self.cached_tokens = 0
        self.prefill_until_s = 0.0
