"""The engine's time, pure: sequences wait for a slot, are prefilled, decoded token by token, and end.

Theory of operation. A sequence goes through `waiting` → `begun` (`ttft_s`) → `prefill` (its uncached prompt tokens, at
a rate that all prefills share) → `decode` → over. Whoever drives it calls `advance(now_s)`: everything that falls due
until then happens, event by event and each at its own time, and what became of it is returned. `next_s` says when to
come back. There is no clock and no chance in here.

All prefills run equally fast at any time, and so do all decodes. So instead of a clock per sequence there are two
meters, prompt tokens and answer tokens that each running sequence has been given so far; a sequence is due when a
meter reaches its mark. That makes a token cost one heap operation, whatever the number of streams.

The batching curve: a step of the whole batch takes `1 / tokens_per_s` for one stream and `1 / tokens_per_s_total`
more for each further one. So a stream alone has `tokens_per_s`, and a large batch comes to `tokens_per_s_total`.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Sequence as Items
from typing import Literal

from inhouse.fake.cache import Cache, NoCache, SharedCache, SlotCaches
from inhouse.fake.settings import Settings
from inhouse.fake.text import token

State = Literal["waiting", "begun", "prefill", "decode", "over"]
_SOON = 1e-9


class Sequence:
    """One request in the engine: its prompt, and how many tokens its answer shall have (0: an embedding).

    `key` and `start` say which words the answer has, for the cache. `drip_s` sets a pace of its own; `stall_after` is
    the number of tokens after which nothing more comes.
    """

    __slots__ = (
        "answer_tokens", "arrived_s", "begun_s", "cached", "drip_s", "first_s", "key", "mark", "over_s", "prompt",
        "slot", "stall_after", "start", "state", "tokens",
    )  # fmt: skip

    def __init__(
        self,
        prompt: Items[str],
        answer_tokens: int,
        *,
        key: int = 0,
        start: int = 0,
        drip_s: float | None = None,
        stall_after: int | None = None,
    ) -> None:
        self.prompt = prompt
        self.answer_tokens = answer_tokens
        self.key = key
        self.start = start
        self.drip_s = drip_s
        self.stall_after = stall_after
        self.state: State = "waiting"
        self.slot = -1
        self.cached = 0
        self.tokens = 0  # of the answer, made so far
        self.arrived_s = self.begun_s = self.first_s = self.over_s = 0.0
        self.mark = 0

    def __lt__(self, other: Sequence) -> bool:  # for heaps, where two are due at once
        return False


_Heap = list[tuple[float, int, Sequence]]
"""(due at this time or mark, number of the plan, whose). Numbers that a sequence no longer has are passed over."""


class Batch:
    """All sequences of one engine."""

    def __init__(self, settings: Settings, now_s: float) -> None:
        self.settings = settings
        self.now_s = now_s
        self.waiting: deque[Sequence] = deque()
        self.running: set[Sequence] = set()
        self.running_max = 0
        self.prefilling = 0
        self.decoding = 0
        self.cache = _cache(settings)
        self._free = list(range(settings.slots))
        self._numbers = 0
        self._timed: _Heap = []  # due at a time
        self._prefill: _Heap = []  # due at a mark of the prefill meter
        self._decode: _Heap = []  # due at a mark of the decode meter
        self._prefill_meter = 0.0
        self._decode_meter = 0.0
        self._news: dict[Sequence, None] = {}

    @property
    def full(self) -> bool:
        """No slot is free, and no place to wait for one."""
        return not self._free and len(self.waiting) >= self.settings.queue_max

    def configure(self, settings: Settings, now_s: float) -> None:
        """Other settings from now on. Sequences that run keep their slots, also where there are fewer now."""
        self._run_until(now_s)
        old, self.settings = self.settings, settings
        if (old.cache, old.cache_tokens, old.cache_block) != (
            settings.cache,
            settings.cache_tokens,
            settings.cache_block,
        ):
            self.cache = _cache(settings)
        taken = {sequence.slot for sequence in self.running}
        self._free = [slot for slot in range(settings.slots) if slot not in taken]
        self._admit()

    def add(self, sequence: Sequence, now_s: float) -> None:
        """A request arrives. The caller has looked at `full` before."""
        self._run_until(now_s)
        sequence.arrived_s = self.now_s
        self.waiting.append(sequence)
        self._admit()

    def cancel(self, sequence: Sequence, now_s: float) -> None:
        """Nobody wants it any more: its slot is free at once. Twice changes nothing."""
        self._run_until(now_s)
        self._news.pop(sequence, None)
        if sequence.state == "waiting":
            self.waiting.remove(sequence)
            sequence.state = "over"
        elif sequence.state != "over":
            self._end(sequence)
        self._admit()

    def advance(self, now_s: float) -> list[Sequence]:
        """Lets time pass; the sequences that have new tokens or are over, each once, in order."""
        self._run_until(now_s)
        news, self._news = self._news, {}
        return list(news)

    def next_s(self) -> float:
        """When something will happen, if nothing else does before; infinity for never."""
        if self._news:
            return self.now_s
        return self._next()[0]

    # the rest is ours
    def _run_until(self, now_s: float) -> None:
        while True:
            due_s, heap = self._next()
            if heap is None or due_s > now_s:
                break
            self._pass(due_s)
            self._happen(heap)
            self._admit()
        self._pass(now_s)

    def _next(self) -> tuple[float, _Heap | None]:
        """The time of the next event, and the heap on top of which it stands."""
        first_s, first = math.inf, None
        for heap in (self._timed, self._prefill, self._decode):
            while heap and not _is_due(heap[0]):
                heapq.heappop(heap)
            if not heap:
                continue
            mark = heap[0][0]
            if heap is self._timed:
                due_s = mark
            elif heap is self._prefill:
                due_s = self._due_s(mark - self._prefill_meter, self._prefill_step_s())
            else:
                due_s = self._due_s(mark - self._decode_meter, self._decode_step_s())
            if due_s < first_s:
                first_s, first = due_s, heap
        return first_s, first

    def _due_s(self, ahead: float, step_s: float) -> float:
        """When a meter that is `ahead` tokens short of a mark reaches it."""
        return self.now_s + ahead * step_s if ahead > _SOON else self.now_s

    def _pass(self, to_s: float) -> None:
        passed_s = to_s - self.now_s
        if passed_s <= 0:
            return
        self.now_s = to_s
        if self._prefill and (step_s := self._prefill_step_s()) > 0:
            self._prefill_meter += passed_s / step_s
        if self._decode and (step_s := self._decode_step_s()) > 0:
            self._decode_meter += passed_s / step_s

    def _happen(self, heap: _Heap) -> None:
        mark, _, sequence = heapq.heappop(heap)
        if heap is self._prefill:
            self._prefill_meter = max(self._prefill_meter, mark)
            self.prefilling -= 1
            self._begin_decode(sequence)
        elif heap is self._decode:
            self._decode_meter = max(self._decode_meter, mark)
            self._emit(sequence)
        elif sequence.state == "begun":
            self._begin_prefill(sequence)
        else:
            self._emit(sequence)

    def _prefill_step_s(self) -> float:
        """Seconds in which each of the prompts in prefill is one token further."""
        rate = self.settings.prefill_tokens_per_s
        return self.prefilling / rate if rate else 0.0

    def _decode_step_s(self) -> float:
        """Seconds in which each of the streams has one token more."""
        alone, total = self.settings.tokens_per_s, self.settings.tokens_per_s_total
        step_s = (1 / alone if alone else 0.0) + (max(0, self.decoding - 1) / total if total else 0.0)
        part = 1.0 - (self.settings.prefill_share if self.prefilling else 0.0)
        return step_s / part if part > 0 else math.inf

    def _admit(self) -> None:
        while self.waiting and self._free:
            sequence = self.waiting.popleft()
            slot, sequence.cached = self.cache.take(self._free, sequence.prompt)
            self._free.remove(slot)
            sequence.slot = slot
            sequence.state = "begun"
            sequence.begun_s = self.now_s
            self.running.add(sequence)
            self.running_max = max(self.running_max, len(self.running))
            if self.settings.ttft_s:
                self._push(self._timed, self.now_s + self.settings.ttft_s, sequence)
            else:
                self._begin_prefill(sequence)

    def _begin_prefill(self, sequence: Sequence) -> None:
        sequence.state = "prefill"
        work = len(sequence.prompt) - sequence.cached
        if not self.settings.prefill_tokens_per_s or work <= 0:
            self._begin_decode(sequence)
            return
        if not self.prefilling:
            self._prefill_meter = 0.0
        self.prefilling += 1
        self._push(self._prefill, self._prefill_meter + work, sequence)

    def _begin_decode(self, sequence: Sequence) -> None:
        sequence.state = "decode"
        sequence.first_s = self.now_s
        self.cache.keep(sequence.slot, sequence.prompt)
        if not self.decoding:
            self._decode_meter = 0.0
        if sequence.drip_s is None:
            self.decoding += 1
        self._emit(sequence)

    def _emit(self, sequence: Sequence) -> None:
        """One token more, the first at the end of the prefill; or the end."""
        if sequence.answer_tokens:
            if sequence.stall_after is not None and sequence.tokens >= sequence.stall_after:
                return  # it keeps its slot and is never due again
            sequence.tokens += 1
        self._news[sequence] = None
        if sequence.tokens >= sequence.answer_tokens:
            self._end(sequence)
        elif sequence.drip_s is not None:
            self._push(self._timed, self.now_s + sequence.drip_s, sequence)
        else:
            self._push(self._decode, self._decode_meter + 1, sequence)

    def _end(self, sequence: Sequence) -> None:
        if sequence.state == "prefill":
            self.prefilling -= 1
        elif sequence.state == "decode" and sequence.drip_s is None:
            self.decoding -= 1
        if sequence.tokens and self.settings.cache != "none":
            made = [token(sequence.key, sequence.start + k) for k in range(sequence.tokens)]
            self.cache.keep(sequence.slot, [*sequence.prompt, *made])
        sequence.state = "over"
        sequence.over_s = self.now_s
        self.running.discard(sequence)
        if sequence.slot < self.settings.slots:
            self._free.append(sequence.slot)

    def _push(self, heap: _Heap, mark: float, sequence: Sequence) -> None:
        self._numbers += 1
        sequence.mark = self._numbers
        heapq.heappush(heap, (mark, self._numbers, sequence))


def _cache(settings: Settings) -> Cache:
    if settings.cache == "none":
        return NoCache()
    if settings.cache == "shared":
        return SharedCache(settings.cache_tokens, settings.cache_block)
    return SlotCaches(settings.cache_block)


def _is_due(entry: tuple[float, int, Sequence]) -> bool:
    """False for what was left behind by a sequence that was cancelled or has gone on."""
    return entry[2].mark == entry[1] and entry[2].state != "over"
