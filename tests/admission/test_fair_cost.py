"""What the fair queue costs per operation, with many waiting. Run as a program it prints the table of docs/fairness.md:

python tests/admission/test_fair_cost.py
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable

import pytest

from inhouse.admission.fair import FairQueue, Priority, Ticket

CLASSES: tuple[Priority, ...] = ("interactive", "standard", "batch")


class Crowd:
    """`waiting` tickets of `tenants` tenants in all classes, an eighth of them long, behind 16 slots in use."""

    def __init__(self, waiting: int, tenants: int) -> None:
        self.dice = random.Random(7)
        self.tenants = tenants
        self.serving: list[Ticket] = []
        self.queue = FairQueue(
            "chat",
            waiting_max=2 * waiting + 32,
            waiting_tokens_max=10**12,
            waiting_bytes_max=10**12,
            prefill_long_tokens=3500,
        )
        self.queue.resize(16, 0.0)
        self.tickets = [self.ticket() for _ in range(waiting + 16)]
        self.each(self.offer, self.tickets)

    def ticket(self) -> Ticket:
        prompt = self.dice.randrange(1, 4000)

        def wake(error: Exception | None) -> None:
            if error is None:
                self.serving.append(ticket)

        tenant = f"tenant-{self.dice.randrange(self.tenants)}"
        priority = self.dice.choice(CLASSES)
        ticket = Ticket(wake, 60 + self.dice.random(), 0.0, tenant, 1.0, priority, prompt, prompt + 500, 2000)
        return ticket

    def offer(self, ticket: Ticket) -> None:
        if self.queue.offer(ticket, 0.0):
            self.serving.append(ticket)

    def end_one(self, _: Ticket) -> None:
        """A release, and with it the grant to the next."""
        self.queue.release(self.serving.pop(0), 1.0, 800)

    def each(self, act: Callable[[Ticket], object], tickets: list[Ticket]) -> float:
        """Microseconds for one call: the median of batches of 25."""
        batches_s = []
        for start in range(0, len(tickets), 25):
            batch = tickets[start : start + 25]
            begun_s = time.perf_counter()
            for ticket in batch:
                act(ticket)
            batches_s.append((time.perf_counter() - begun_s) / len(batch))
        return statistics.median(batches_s) * 1e6

    def costs(self, calls: int) -> dict[str, float]:
        fresh = [self.ticket() for _ in range(calls)]
        offer = self.each(self.offer, fresh)
        hang_up = self.each(lambda ticket: self.queue.release(ticket, 1.0), [t for t in fresh if t.waiting])
        end = self.each(self.end_one, fresh)
        tick = self.each(lambda _: self.queue.expire(1.0), fresh)
        position = self.each(self.queue.position, [t for t in self.tickets if t.waiting][:100])
        snapshot = self.each(lambda _: self.queue.snapshot(), fresh[:100])
        late = self.queue.waiting
        begun_s = time.perf_counter()
        self.queue.expire(100.0)
        expire = (time.perf_counter() - begun_s) / max(1, late) * 1e6
        return {
            "offer": offer,
            "release of one that waits": hang_up,
            "release and grant of the next": end,
            "expire, nobody late": tick,
            "expire, each one late": expire,
            "position": position,
            "snapshot": snapshot,
        }


@pytest.mark.parametrize("tenants", [1, 1000])
def test_twenty_thousand_waiting_are_served_to_the_last(tenants: int) -> None:
    """No operation walks over all that wait: if one did, this would take minutes."""
    crowd = Crowd(20_000, tenants)
    while crowd.serving:
        crowd.end_one(crowd.serving[0])
    assert (crowd.queue.serving, crowd.queue.waiting) == (0, 0)


def main() -> None:
    sizes = [(1_000, 10), (100_000, 10), (100_000, 1_000), (100_000, 10_000)]
    columns = [Crowd(waiting, tenants).costs(min(1000, waiting // 2)) for waiting, tenants in sizes]
    print("| µs | " + " | ".join(f"{waiting:,} / {tenants:,}" for waiting, tenants in sizes) + " |")
    print("|---|" + "---:|" * len(sizes))
    for name in columns[0]:
        print(f"| {name} | " + " | ".join(f"{column[name]:.1f}" for column in columns) + " |")


if __name__ == "__main__":
    main()
