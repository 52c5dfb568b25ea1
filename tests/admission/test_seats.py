"""Turns without tickets: for the queue they are the same as those with one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from inhouse.admission.fair import FairQueue, Priority, Ticket

SLOTS = 4
PRIORITIES: tuple[Priority, ...] = ("interactive", "standard", "batch")
COMING = st.tuples(st.sampled_from("abc"), st.sampled_from(PRIORITIES), st.integers(0, 60), st.integers(0, 200))


def queue() -> FairQueue:
    made = FairQueue(
        "m", waiting_max=100, waiting_tokens_max=10**6, waiting_bytes_max=10**6, prefill_long_tokens=50, long_share=0.5
    )
    made.resize(SLOTS, 0.0)
    return made


def ticket(order: list[str], tenant: str, priority: Priority, prompt_tokens: int, now_s: float) -> Ticket:
    return Ticket(
        lambda error: order.append(tenant), now_s + 60, now_s, tenant, 1.0, priority, prompt_tokens, prompt_tokens + 10
    )


@settings(deadline=None)
@given(comings=st.lists(COMING, max_size=40), leaving=st.lists(st.integers(0, SLOTS - 1), min_size=40, max_size=40))
def test_seats_and_tickets(comings: list[tuple[str, Priority, int, int]], leaving: list[int]) -> None:
    """The same slots, the same pace, and the same order of those that wait, whoever had the slots before."""
    with_tickets, with_seats = queue(), queue()
    orders: tuple[list[str], list[str]] = ([], [])
    inside: list[tuple[Ticket, tuple[str, Priority, int], float, int]] = []
    now_s = 0.0

    def leave(at: int) -> None:
        one, (tenant, priority, prompt_tokens), granted_s, used = inside.pop(at)
        with_tickets.release(one, now_s, used)
        with_seats.unseat(tenant, 1.0, priority, prompt_tokens, granted_s, used, now_s)

    for (tenant, priority, prompt_tokens, used), place in zip(comings, leaving, strict=False):
        now_s += 1.0
        one = ticket(orders[0], tenant, priority, prompt_tokens, now_s)
        assert with_seats.free_for(prompt_tokens) == with_tickets.free_for(prompt_tokens)
        if with_seats.free_for(prompt_tokens) and not with_seats.waiting:
            assert with_tickets.offer(one, now_s)
            with_seats.seat(tenant, 1.0, priority, prompt_tokens, now_s)
            inside.append((one, (tenant, priority, prompt_tokens), now_s, used))
        elif not with_seats.free_for(prompt_tokens):
            with_tickets.offer(one, now_s)
            with_seats.offer(ticket(orders[1], tenant, priority, prompt_tokens, now_s), now_s)
        if len(inside) > place:
            leave(place)
        assert with_seats.snapshot() == with_tickets.snapshot()
        assert with_seats.wait_estimate_s(now_s) == with_tickets.wait_estimate_s(now_s)
    while inside:
        now_s += 1.0
        leave(0)
        assert orders[0] == orders[1]
        assert with_seats.snapshot() == with_tickets.snapshot()
