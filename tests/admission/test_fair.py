"""The fair queue in situations with names: who is next, who is refused, who leaves."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

from inhouse.admission.fair import FairQueue, Priority, Ticket
from inhouse.errors import QueueFull, WaitedTooLong

LONG = 1000


@dataclass
class Desk:
    """A queue, the tickets by name and the order in which they were granted."""

    queue: FairQueue
    now_s: float = 0.0
    tickets: dict[str, Ticket] = field(default_factory=dict)
    granted: list[str] = field(default_factory=list)
    refused: dict[str, Exception] = field(default_factory=dict)

    def offer(self, name: str, *, wait_s: float = 60.0, **facts: Any) -> bool:
        def wake(error: Exception | None) -> None:
            if error is None:
                self.granted.append(name)
            else:
                self.refused[name] = error

        facts.setdefault("prompt_tokens", 100)
        facts.setdefault("tokens_max", facts["prompt_tokens"] + 100)
        facts.setdefault("tenant", name[0])
        ticket = self.tickets[name] = Ticket(wake, self.now_s + wait_s, self.now_s, **facts)
        at_once = self.queue.offer(ticket, self.now_s)
        if at_once:
            self.granted.append(name)
        return at_once

    def release(self, name: str, tokens_used: int | None = None) -> None:
        self.queue.release(self.tickets[name], self.now_s, tokens_used)

    def serve_all(self, *, share_used: float = 1.0) -> list[str]:
        """Releases what is in service, first granted first, until nothing is left; the order of all grants."""
        done = 0
        while done < len(self.granted):
            name = self.granted[done]
            self.release(name, int(self.tickets[name].tokens_max * share_used))
            done += 1
        return self.granted


def desk(capacity: int = 1, **settings: Any) -> Desk:
    limits: dict[str, Any] = {
        "waiting_max": 5000,
        "waiting_tokens_max": 10**9,
        "waiting_bytes_max": 10**9,
        "prefill_long_tokens": LONG,
    }
    queue = FairQueue("chat", **(limits | settings))
    queue.resize(capacity, 0.0)
    return Desk(queue)


def big(**facts: Any) -> dict[str, Any]:
    return {"prompt_tokens": LONG + 1, **facts}


INTERACTIVE: dict[str, Any] = {"priority": "interactive"}
BATCH: dict[str, Any] = {"priority": "batch"}
Arrivals = list[tuple[str, dict[str, Any]]]


# One slot (or as many as stated), arrivals in this order at one moment, then one end after the other. The first letter
# of a name is the tenant.
@pytest.mark.parametrize(
    ("slots", "arrivals", "order"),
    [
        pytest.param(1, [("a1", {}), ("a2", {}), ("a3", {})], "a1 a2 a3", id="one tenant: first come, first served"),
        pytest.param(
            1,
            [("a1", {}), ("a2", {}), ("a3", {}), ("a4", {}), ("b1", {})],
            "a1 b1 a2 a3 a4",
            id="a single request passes a tenant that has had its turn",
        ),
        pytest.param(
            1,
            [("x1", {}), *[(f"{t}{n}", {}) for t in "abc" for n in (1, 2)]],
            "x1 a1 b1 c1 a2 b2 c2",
            id="equal tenants take turns",
        ),
        pytest.param(
            1,
            [("x1", {}), *[(f"a{n}", {"weight": 2.0}) for n in range(4)], *[(f"b{n}", {}) for n in range(2)]],
            "x1 a0 b0 a1 a2 b1 a3",
            id="twice the weight, twice the tokens",
        ),
        pytest.param(
            1,
            [
                ("x1", {}),
                *[(f"a{n}", {"prompt_tokens": 600, "tokens_max": 600}) for n in range(2)],
                *[(f"b{n}", {"prompt_tokens": 200, "tokens_max": 200}) for n in range(4)],
            ],
            "x1 a0 b0 b1 b2 a1 b3",
            id="three small ones for one three times as large",
        ),
        pytest.param(
            1,
            [("x1", {}), ("b1", BATCH), ("s1", {}), ("i1", INTERACTIVE)],
            "x1 i1 s1 b1",
            id="interactive before standard before batch",
        ),
        pytest.param(
            1,
            [("x1", {}), ("s1", {}), ("s2", {}), *[(f"i{n}", INTERACTIVE) for n in range(6)]],
            "x1 i0 i1 i2 i3 s1 i4 i5 s2",
            id="standard lets four interactive ones pass",
        ),
        pytest.param(
            1,
            [("x1", {}), ("b1", BATCH), *[(f"i{n}", INTERACTIVE) for n in range(18)]],
            "x1 " + " ".join(f"i{n}" for n in range(16)) + " b1 i16 i17",
            id="batch lets sixteen interactive ones pass",
        ),
        pytest.param(
            2,
            [("a1", big()), ("a2", big()), ("a3", {}), ("a4", {})],
            "a1 a3 a2 a4",
            id="a short one passes by while the long lane is full",
        ),
        pytest.param(
            1, [("a1", {}), ("a2", big()), ("a3", {})], "a1 a2 a3", id="with one slot, a long one may have it"
        ),
        pytest.param(
            2,
            [("a1", big()), ("x1", {}), ("b1", big()), ("c1", {}), ("c2", {}), ("c3", {})],
            "a1 x1 b1 c1 c2 c3",
            id="a long one that waited for the lane goes first when it opens",
        ),
    ],
)
def test_who_is_next(slots: int, arrivals: Arrivals, order: str) -> None:
    """The order of grants follows from arrival, tokens, weight, class and lane."""
    at = desk(slots)
    for name, facts in arrivals:
        at.offer(name, **facts)
    assert " ".join(at.serve_all()) == order


def test_what_was_used_counts_and_not_what_was_asked_for() -> None:
    """A tenant that allows long answers and gets short ones is not set back by its allowance."""
    at = desk()
    at.offer("x1")
    for n in range(3):
        at.offer(f"a{n}", tokens_max=100_000)
        at.offer(f"b{n}", tokens_max=200)
    for _ in range(7):
        name = at.granted[-1]
        at.release(name, tokens_used=200)
    assert at.granted == ["x1", "a0", "b0", "a1", "b1", "a2", "b2"]


def test_an_unknown_use_counts_as_the_most_allowed() -> None:
    """Without a count, the ticket's upper bound is charged."""
    at = desk()
    at.offer("x1")
    for n in range(3):
        at.offer(f"a{n}", tokens_max=400)
        at.offer(f"b{n}", tokens_max=100)
    for _ in range(5):
        at.release(at.granted[-1])
    assert at.granted == ["x1", "a0", "b0", "b1", "b2", "a1"]


def test_requests_that_fail_at_once_still_take_turns() -> None:
    """Nothing used is not a free turn: a tenant whose requests all fail cannot keep the others out."""
    at = desk()
    at.offer("x1")
    for n in range(20):
        at.offer(f"a{n}")
    at.offer("b1")
    for _ in range(3):
        at.release(at.granted[-1], tokens_used=0)
    assert "b1" in at.granted


def test_idle_time_earns_no_credit() -> None:
    """A tenant that was away does not make up for it: it takes turns from now on."""
    at = desk()
    at.offer("b0")
    for n in range(50):
        at.offer(f"a{n}")
    for _ in range(30):
        at.release(at.granted[-1])
    before = len(at.granted)
    for n in range(1, 6):
        at.offer(f"b{n}")
    for _ in range(10):
        at.release(at.granted[-1])
    assert {name[0] for name in at.granted[before : before + 2]} == {"a", "b"}
    assert sum(name[0] == "b" for name in at.granted[before:]) == 5


def test_who_comes_back_is_not_overtaken_by_who_is_new() -> None:
    """A tenant that was served long ago and one that never was stand level: the older request goes first."""
    at = desk()
    at.offer("b0")
    for n in range(10):
        at.offer(f"a{n}")
    for _ in range(8):
        at.release(at.granted[-1])
    at.offer("b1")
    at.offer("c1")
    before = len(at.granted)
    for _ in range(3):
        at.release(at.granted[-1])
    assert [name for name in at.granted[before:] if name[0] != "a"] == ["b1", "c1"]


def test_time_before_a_full_long_lane_earns_no_credit() -> None:
    """A tenant whose long prompts were held up does not then pass everyone with short ones."""
    at = desk(2)
    at.offer("x1", **big())
    for n in range(40):
        at.offer(f"c{n}")
    at.offer("a1", **big())
    at.offer("a2", **big())
    for _ in range(30):
        at.release(at.granted[-1])
    at.release("x1")
    assert at.granted[-1] == "a1"
    for n in range(3, 13):
        at.offer(f"a{n}")
    at.offer("d1")
    before = len(at.granted)
    for _ in range(3):
        at.release(next(name for name in at.granted[-2:] if name != "a1"))
    assert "d1" in at.granted[before:]
    assert sum(name[0] == "a" for name in at.granted[before:]) <= 1


def test_a_crowd_of_tenants_does_not_wash_away_what_one_has_had() -> None:
    """Accounts are dropped only when they say nothing any more: a tenant far ahead stays behind the others."""
    at = desk()
    at.offer("a0", tokens_max=1_000_000)
    at.offer("x1")
    at.release("a0")
    for n in range(300):
        at.offer(f"t{n}", tenant=f"t{n}")
    at.offer("a1")
    at.offer("z1")
    assert at.serve_all()[-2:] == ["z1", "a1"]


@pytest.mark.parametrize("hang_ups", [0, 1, 300])
def test_hang_ups_leave_no_trace_in_the_order(hang_ups: int) -> None:
    """Three hundred that come and go change neither who is next nor whose deadline comes first."""
    at = desk()
    at.offer("x1")
    for n in range(30):
        at.offer(f"t{n}", tenant=f"t{n}", prompt_tokens=10 + (7 * n + 17) % 30, wait_s=100.0 + 11 * n % 30)
    for n in range(30):
        at.offer(f"again {n}", tenant=f"t{n}", prompt_tokens=10, tokens_max=10, wait_s=200.0 + 11 * n % 30)
    for _ in range(31):
        at.release(at.granted[-1], 0)
    for n in range(hang_ups):
        at.offer(f"z{n}", wait_s=50.0 + 13 * n % 300)
        if n:
            at.release(f"z{n - 1}")
    if hang_ups:
        at.release(f"z{hang_ups - 1}")
    assert at.granted[1:31] == [f"t{n}" for n in range(30)]
    for _ in range(10):
        at.release(at.granted[-1])
    late = sorted(range(30), key=lambda n: (7 * n + 17) % 30)
    assert at.granted[31:] == [f"again {n}" for n in late[:11]]
    at.now_s = 300.0
    at.queue.expire(at.now_s)
    assert list(at.refused) == [f"again {n}" for n in sorted(late[11:], key=lambda n: 11 * n % 30)]


def test_how_often_a_class_is_passed_over_when_all_are_full() -> None:
    """Interactive at most twice in a row, standard five times, batch sixteen times: also where two are due at once."""
    at = desk()
    at.offer("x1")
    for priority in ("interactive", "standard", "batch"):
        for n in range(1000):
            at.offer(f"{priority} {n}", tenant="a", priority=priority, prompt_tokens=1)
    for _ in range(1000):
        at.release(at.granted[-1])
    classes = [name.split()[0] for name in at.granted[1:]]
    longest = {}
    for priority in ("interactive", "standard", "batch"):
        turns = [-1, *(index for index, each in enumerate(classes) if each == priority)]
        longest[priority] = max(later - earlier - 1 for earlier, later in pairwise(turns))
    assert longest == {"interactive": 2, "standard": 5, "batch": 16}


def test_a_class_that_ran_empty_starts_afresh() -> None:
    """What a tenant took from an idle machine is not held against it later."""
    at = desk()
    at.offer("a0", tokens_max=1_000_000)
    at.release("a0", tokens_used=1_000_000)
    at.offer("x1", **BATCH)
    for n in range(1, 4):
        at.offer(f"a{n}")
        at.offer(f"b{n}")
    assert " ".join(at.serve_all()) == "a0 x1 a1 b1 a2 b2 a3 b3"


@pytest.mark.parametrize(
    ("limits", "facts", "message"),
    [
        pytest.param(
            {"waiting_max": 2},
            {},
            "the queue for 'chat' is full: with this request 3 requests would wait, 2 may (1 in service); "
            "retry in 6 s, or raise `queue_requests_max` in inhouse.yaml",
            id="requests",
        ),
        pytest.param(
            {"waiting_tokens_max": 1500},
            {"tokens_max": 1101},
            "the queue for 'chat' is full: with this request 1,501 tokens would wait, 1,500 may (1 in service); "
            "retry in 6 s, or raise `queue_tokens_max` in inhouse.yaml",
            id="tokens",
        ),
        pytest.param(
            {"waiting_bytes_max": 4096},
            {"body_bytes": 4097},
            "the queue for 'chat' is full: with this request 4,097 bytes would wait, 4,096 may (1 in service); "
            "retry in 6 s, or raise `queue_bytes_max` in inhouse.yaml",
            id="bytes",
        ),
        pytest.param(
            {"waiting_max": 4, "tenant_share": 0.5},
            {},
            "the part of tenant 'a' in the queue for 'chat' is full: with this request 3 requests would wait, 2 may "
            "(1 in service); retry in 6 s, or raise `queue_tenant_percent` in inhouse.yaml",
            id="one tenant's part",
        ),
    ],
)
def test_a_refusal_names_the_limit(limits: dict[str, Any], facts: dict[str, Any], message: str) -> None:
    """Each of the limits refuses with its own name, numbers and setting, and leaves the queue as it was."""
    at = desk(**limits)
    for name in ("x1", "a1", "a2"):
        at.offer(name)
    before = at.queue.snapshot()
    with pytest.raises(QueueFull) as refusal:
        at.offer("a3", **facts)
    assert refusal.value.message == message
    assert refusal.value.retry_after_s == pytest.approx(6.0)
    assert at.queue.snapshot() == before


def test_one_tenant_cannot_fill_the_whole_queue_when_its_part_is_limited() -> None:
    """With a tenant share below 1, another tenant finds room beside one that fills its part."""
    at = desk(waiting_max=4, tenant_share=0.5)
    for name in ("x1", "a1", "a2"):
        at.offer(name)
    with pytest.raises(QueueFull):
        at.offer("a3")
    at.offer("b1")
    assert at.queue.waiting == 3


def test_a_free_slot_needs_no_room_in_the_queue() -> None:
    """Limits are for those that wait: with a slot free, even a queue of length 0 lets a request in."""
    at = desk(waiting_max=0, waiting_tokens_max=0, waiting_bytes_max=0)
    assert at.offer("a1", body_bytes=10**6)


def test_retry_after_does_not_go_beyond_the_last_deadline() -> None:
    """By then those that wait have been served or have left, so a client that comes back finds room."""
    at = desk(waiting_max=100)
    for n in range(101):
        at.offer(f"a{n}", wait_s=30.0)
    at.now_s = 10.0
    with pytest.raises(QueueFull) as refusal:
        at.offer("b1")
    assert refusal.value.retry_after_s == pytest.approx(20.0)


def test_those_past_their_deadline_leave_and_nobody_else() -> None:
    """Each learns how long it waited; the others keep their places."""
    at = desk()
    at.offer("x1")
    for name, wait_s in (("a1", 5.0), ("a2", 1.0), ("b1", 3.0)):
        at.offer(name, wait_s=wait_s)
    at.now_s = 3.0
    at.queue.expire(at.now_s)
    assert list(at.refused) == ["a2", "b1"]
    assert isinstance(at.refused["b1"], WaitedTooLong)
    assert str(at.refused["b1"]).startswith("waited 3 s for a slot of 'chat' (1 in service)")
    assert at.serve_all() == ["x1", "a1"]


def test_leaving_early_and_leaving_twice() -> None:
    """A ticket that waits can leave at any time; a second release of a ticket changes nothing."""
    at = desk()
    for name in ("a1", "a2", "a3"):
        at.offer(name)
    at.release("a2")
    at.release("a2")
    at.release("a1")
    at.release("a1")
    assert at.granted == ["a1", "a3"]
    assert (at.queue.serving, at.queue.waiting) == (1, 0)


def test_slots_that_go_are_not_taken_from_those_in_service() -> None:
    """A smaller capacity holds for the grants to come; a larger one grants at once."""
    at = desk(2)
    for name in ("a1", "a2", "a3", "a4"):
        at.offer(name)
    at.queue.resize(1, 0.0)
    at.release("a1")
    assert (at.granted, at.queue.serving) == (["a1", "a2"], 1)
    at.queue.resize(3, 0.0)
    assert at.granted == ["a1", "a2", "a3", "a4"]


@pytest.mark.parametrize(
    ("capacity", "share", "slots"), [(0, 0.5, 1), (1, 0.5, 1), (3, 0.5, 1), (4, 0.5, 2), (100, 0.29, 29), (8, 1.0, 8)]
)
def test_the_width_of_the_long_lane(capacity: int, share: float, slots: int) -> None:
    """A share of the slots, rounded down, and never less than one."""
    assert desk(capacity, long_share=share).queue.long_max == slots


def test_long_tickets_of_all_classes_share_one_lane() -> None:
    """An interactive long prompt waits for the lane too; a batch ticket that is short passes it."""
    at = desk(2)
    at.offer("b1", **big(), **BATCH)
    assert not at.offer("a1", **big(), **INTERACTIVE)
    assert at.offer("b2", **BATCH)


def test_the_snapshot_counts_what_waits() -> None:
    """By class, by tenant (the twenty with the most), in tokens and bytes, and what is in service."""
    at = desk(2)
    at.offer("x1", **big())
    at.offer("x2")
    for n in range(30):
        at.offer(f"one of thirty {n}", tenant=f"t{n}", body_bytes=10)
    at.offer("i1", tenant="t7", **INTERACTIVE)
    seen = at.queue.snapshot()
    assert (seen.capacity, seen.serving, seen.long_max, seen.long_serving) == (2, 2, 1, 1)
    assert (seen.waiting, seen.waiting_tokens, seen.waiting_bytes) == (31, 31 * 200, 300)
    assert seen.by_class == {"interactive": 1, "standard": 30, "batch": 0}
    assert len(seen.by_tenant) == 20
    assert seen.by_tenant["t7"] == 2
    assert seen.other_tenants == 10


def test_the_estimated_position_is_the_real_one_between_equals() -> None:
    """Equal requests, no newcomers: position n is the n-th to be granted, in every tenant's line."""
    at = desk()
    at.offer("x1")
    names = [f"{tenant}{n}" for tenant in "abc" for n in range(5)]
    for name in names:
        at.offer(name, prompt_tokens=500, tokens_max=500)
    told = {name: at.queue.position(at.tickets[name]) for name in names}
    order = at.serve_all()[1:]
    assert max(abs(order.index(name) + 1 - told[name]) for name in names) <= 2
    assert at.queue.position(at.tickets["a0"]) == 0


@pytest.mark.parametrize(("priority", "position"), [("interactive", 1), ("standard", 5), ("batch", 21)])
def test_the_estimated_position_knows_the_classes(priority: Priority, position: int) -> None:
    """A newcomer's position counts the turns that its class lets pass."""
    at = desk()
    at.offer("x1")
    for n in range(100):
        at.offer(f"i{n}", **INTERACTIVE)
        at.offer(f"s{n}", priority="standard")
    at.offer("n1", priority=priority)
    assert at.queue.position(at.tickets["n1"]) == pytest.approx(position, abs=12)
    assert at.queue.wait_estimate_s(at.now_s, at.tickets["n1"]) == 2.0 * at.queue.position(at.tickets["n1"])


def test_a_weight_of_zero_is_refused() -> None:
    """A tenant without weight would never be served; it is told so where the ticket is made."""
    with pytest.raises(ValueError, match="weight"):
        Ticket(lambda error: None, 1.0, 0.0, weight=0.0)


def test_a_thousand_waiting_requests_delay_another_tenants_one_by_a_single_service() -> None:
    """Four slots, 2 s each; a thousand requests of one tenant wait. Another's comes at 10.5 s: it has the slot that is
    next to come free, within 2 s, where first come, first served would take 500 s."""
    at = desk(4)
    ends: list[tuple[float, str]] = []
    seen = 0

    def begin_those_granted() -> None:
        nonlocal seen
        for name in at.granted[seen:]:
            heapq.heappush(ends, (at.now_s + 2.0, name))
        seen = len(at.granted)

    for n in range(1004):
        at.offer(f"a{n}", wait_s=3600.0)
    begin_those_granted()
    while ends and ends[0][0] <= 10.5:
        at.now_s, name = heapq.heappop(ends)
        at.release(name, 180)
        begin_those_granted()
    at.now_s = 10.5
    assert at.queue.waiting == 1000 - 5 * 4
    at.offer("b1", wait_s=3600.0)
    ahead = len(at.granted)
    while "b1" not in at.granted:
        at.now_s, name = heapq.heappop(ends)
        at.release(name, 180)
        begin_those_granted()
    assert at.now_s - 10.5 <= 2.0
    assert at.granted.index("b1") - ahead <= 1
    while ends:
        at.now_s, name = heapq.heappop(ends)
        at.release(name, 180)
        begin_those_granted()
    assert len(at.granted) == len(set(at.granted)) == 1005
    assert at.now_s == pytest.approx(504.0, abs=2.0)
