"""What holds for the fair queue under every order of events: a plain model beside it judges each grant."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from inhouse.admission.fair import PATIENCE, FairQueue, Priority, Ticket
from inhouse.errors import QueueFull, WaitedTooLong

CLASSES: tuple[Priority, ...] = ("interactive", "standard", "batch")
PASSED_MAX = {"interactive": 2, "standard": 5, "batch": 16}
WEIGHTS = {"a": 1.0, "b": 1.0, "c": 2.0, "d": 0.5}
LONG = 20
TOKENS_MAX = 80
SLOTS_MAX = 5
WAITING_MAX, WAITING_TOKENS_MAX, WAITING_BYTES_MAX = 14, 700, 250


@dataclass(eq=False)
class Entry:
    """What the model knows of one ticket."""

    ticket: Ticket
    newcomer: bool
    """Its tenant had neither waited nor been served since the class was last idle, and has not been served since."""
    passed_by: defaultdict[str, int]
    """Grants to other tenants of its class since it came (long ones only, for a long ticket)."""
    state: str = "new"

    @property
    def long(self) -> bool:
        return self.ticket.prompt_tokens > LONG


class QueueAndModel(RuleBasedStateMachine):
    """Random tickets come, wait, are served, hang up and expire, while slots come and go."""

    @initialize(slots=st.integers(0, SLOTS_MAX), share=st.sampled_from([0.0, 0.3, 0.5, 1.0]))
    def start(self, slots: int, share: float) -> None:
        self.now_s = 0.0
        self.share = share
        self.queue = FairQueue(
            "chat",
            waiting_max=WAITING_MAX,
            waiting_tokens_max=WAITING_TOKENS_MAX,
            waiting_bytes_max=WAITING_BYTES_MAX,
            prefill_long_tokens=LONG,
            long_share=share,
        )
        self.waiting: list[Entry] = []
        self.serving: list[Entry] = []
        self.expiring = False
        self.passed = dict.fromkeys(CLASSES, 0)
        self.seen: dict[Priority, set[str]] = {priority: set() for priority in CLASSES}
        self.service: defaultdict[tuple[Priority, str], float] = defaultdict(float)
        self.baseline: dict[tuple[Priority, str, str], float] = {}
        self.queue.resize(slots, 0.0)

    @rule(
        tenant=st.sampled_from(sorted(WEIGHTS)),
        priority=st.sampled_from(CLASSES),
        prompt=st.integers(0, 40),
        answer=st.integers(0, 40),
        body=st.integers(0, 30),
        wait_s=st.floats(0.5, 20.0),
    )
    def arrive(self, tenant: str, priority: Priority, prompt: int, answer: int, body: int, wait_s: float) -> None:
        facts = {"prompt_tokens": prompt, "tokens_max": prompt + answer, "body_bytes": body}
        newcomer = tenant not in self.seen[priority]

        def wake(error: Exception | None) -> None:
            self.woken(entry, error)

        ticket = Ticket(wake, self.now_s + wait_s, self.now_s, tenant, WEIGHTS[tenant], priority, **facts)
        entry = Entry(ticket, newcomer, defaultdict(int))
        tickets = [each.ticket for each in self.waiting] + [ticket]
        fits = (
            len(tickets) <= WAITING_MAX
            and sum(each.tokens_max for each in tickets) <= WAITING_TOKENS_MAX
            and sum(each.body_bytes for each in tickets) <= WAITING_BYTES_MAX
        )
        could_run = self.queue.serving < self.queue.capacity and self.may_run(entry)
        if not fits and not could_run:
            with pytest.raises(QueueFull) as refusal:
                self.queue.offer(ticket, self.now_s)
            assert refusal.value.retry_after_s is not None
            assert refusal.value.retry_after_s >= 0
            return
        at_once = self.queue.offer(ticket, self.now_s)
        assert at_once == could_run
        self.seen[priority].add(tenant)
        if at_once:
            self.granted(entry)
        else:
            entry.state = "waiting"
            self.waiting.append(entry)
        self.follow_backlogs()

    @precondition(lambda self: self.serving)
    @rule(data=st.data(), used=st.none() | st.integers(0, TOKENS_MAX))
    def finish(self, data: st.DataObject, used: int | None) -> None:
        entry = self.serving.pop(data.draw(st.integers(0, len(self.serving) - 1)))
        self.end(entry, used)
        self.queue.release(entry.ticket, self.now_s, used)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def hang_up(self, data: st.DataObject) -> None:
        entry = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
        entry.state = "gone"
        self.queue.release(entry.ticket, self.now_s)
        self.queue.release(entry.ticket, self.now_s)
        self.after_leaving(entry)

    @rule(slots=st.integers(0, SLOTS_MAX))
    def resize(self, slots: int) -> None:
        self.queue.resize(slots, self.now_s)

    @rule(seconds=st.floats(0.0, 5.0))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds
        self.expiring = True
        self.queue.expire(self.now_s)
        self.expiring = False
        assert all(entry.ticket.deadline_s > self.now_s for entry in self.waiting)

    # -- the judge ---------------------------------------------------------------------------------------------------

    def woken(self, entry: Entry, error: Exception | None) -> None:
        assert entry.state == "waiting", "woken twice, or after it left"
        self.waiting.remove(entry)
        if error is None:
            assert not self.expiring
            self.granted(entry)
        else:
            assert self.expiring
            assert isinstance(error, WaitedTooLong)
            assert entry.ticket.deadline_s <= self.now_s
            entry.state = "gone"
            self.after_leaving(entry)

    def may_run(self, entry: Entry) -> bool:
        long_max = max(1, int(self.share * self.queue.capacity + 1e-9))
        return not entry.long or sum(each.long for each in self.serving) < long_max

    def granted(self, entry: Entry) -> None:
        """Judged with the state just before the grant."""
        ticket = entry.ticket
        assert len(self.serving) < self.queue.capacity
        assert self.may_run(entry), "the long lane is full"
        others = [each for each in self.waiting if self.may_run(each)]
        for other in others:
            same_line = other.ticket.tenant == ticket.tenant and other.ticket.priority == ticket.priority
            assert not same_line or other.ticket.number > ticket.number, "overtaken within tenant and class"
        could_have_run = {other.ticket.priority for other in others} - {ticket.priority}
        for priority in CLASSES:
            self.passed[priority] = self.passed[priority] + 1 if priority in could_have_run else 0
            assert self.passed[priority] <= PASSED_MAX[priority], f"{priority} starves"
        for other in self.waiting:
            if other.ticket.priority != ticket.priority:
                continue
            if other.ticket.tenant == ticket.tenant:
                other.newcomer = False  # a short one of its own passed it by, and counts
            elif entry.long or not other.long:
                other.passed_by[ticket.tenant] += 1
                assert not other.newcomer or other.passed_by[ticket.tenant] == 1, "passed twice by one tenant"
        entry.state = "serving"
        self.serving.append(entry)
        self.charge(ticket, max(1, ticket.prompt_tokens))
        self.follow_backlogs()

    def end(self, entry: Entry, used: int | None) -> None:
        ticket = entry.ticket
        entry.state = "gone"
        total = ticket.tokens_max if used is None else used
        self.charge(ticket, max(0, total - max(1, ticket.prompt_tokens)))
        self.after_leaving(entry)

    def after_leaving(self, entry: Entry) -> None:
        priority = entry.ticket.priority
        if not any(each.ticket.priority == priority for each in self.waiting + self.serving):
            self.seen[priority].clear()
        self.follow_backlogs()

    def charge(self, ticket: Ticket, tokens: int) -> None:
        self.service[ticket.priority, ticket.tenant] += tokens / ticket.weight

    def follow_backlogs(self) -> None:
        """Two tenants that both have a short ticket waiting all the while: their weighted services stay close."""
        backlogged = {(e.ticket.priority, e.ticket.tenant) for e in self.waiting if not e.long}
        for priority in CLASSES:
            for f, g in combinations(sorted(WEIGHTS), 2):
                if (priority, f) in backlogged and (priority, g) in backlogged:
                    lead = self.service[priority, f] - self.service[priority, g]
                    since = self.baseline.setdefault((priority, f, g), lead)
                    bound = SLOTS_MAX * TOKENS_MAX * (1 / WEIGHTS[f] + 1 / WEIGHTS[g])
                    assert abs(lead - since) <= bound
                else:
                    self.baseline.pop((priority, f, g), None)

    # -- after every step --------------------------------------------------------------------------------------------

    @invariant()
    def nobody_is_lost(self) -> None:
        seen = self.queue.snapshot()
        assert self.queue.serving == seen.serving == len(self.serving)
        assert self.queue.waiting == seen.waiting == len(self.waiting)
        assert seen.long_serving == sum(entry.long for entry in self.serving)
        assert seen.waiting_tokens == sum(entry.ticket.tokens_max for entry in self.waiting) <= WAITING_TOKENS_MAX
        assert seen.waiting_bytes == sum(entry.ticket.body_bytes for entry in self.waiting) <= WAITING_BYTES_MAX
        assert seen.waiting <= WAITING_MAX
        assert all(seen.by_tenant.values())
        assert sum(seen.by_class.values()) == sum(seen.by_tenant.values()) == seen.waiting

    @invariant()
    def no_slot_is_free_while_a_ticket_could_run(self) -> None:
        if self.queue.serving < self.queue.capacity:
            assert not any(self.may_run(entry) for entry in self.waiting)

    @invariant()
    def positions_are_places_among_those_that_wait(self) -> None:
        for entry in self.waiting:
            assert 1 <= self.queue.position(entry.ticket) <= len(self.waiting)
            assert self.queue.wait_estimate_s(self.now_s, entry.ticket) >= 0
        assert all(self.queue.position(entry.ticket) == 0 for entry in self.serving)

    def teardown(self) -> None:
        """Whatever happened, what still waits is served once the slots are there."""
        if not hasattr(self, "queue"):
            return
        self.queue.resize(SLOTS_MAX, self.now_s)
        while self.serving:
            entry = self.serving.pop()
            self.end(entry, None)
            self.queue.release(entry.ticket, self.now_s)
        assert (self.queue.serving, self.queue.waiting, self.waiting) == (0, 0, [])


QueueAndModel.TestCase.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
TestQueueAndModel = QueueAndModel.TestCase


@dataclass(frozen=True)
class Trade:
    """How one tenant behaves while it always has requests waiting."""

    weight: float
    prompt_max: int
    answer_max: int
    used: float
    priority: Priority = "standard"


trades = st.builds(
    Trade,
    weight=st.sampled_from([0.5, 1.0, 2.0, 5.0]),
    prompt_max=st.integers(1, 400),
    answer_max=st.integers(0, 400),
    used=st.sampled_from([0.0, 0.1, 1.0]),
)


class Crowd:
    """Tenants that top up their waiting requests for ever; yields each grant."""

    def __init__(self, slots: int, trades: dict[str, Trade], dice: random.Random, waiting_each: int = 3) -> None:
        self.queue = FairQueue(
            "chat",
            waiting_max=10**6,
            waiting_tokens_max=10**12,
            waiting_bytes_max=1,
            prefill_long_tokens=300,
        )
        self.slots = slots
        self.trades = trades
        self.dice = dice
        self.waiting_each = waiting_each
        self.serving: list[Ticket] = []
        self.grants: list[Ticket] = []
        self.waits: defaultdict[str, int] = defaultdict(int)
        self.service: defaultdict[str, float] = defaultdict(float)

    def offer(self, tenant: str, trade: Trade, prompt: int | None = None) -> None:
        prompt = self.dice.randint(1, trade.prompt_max) if prompt is None else prompt
        most = prompt + self.dice.randint(0, trade.answer_max)

        def wake(error: Exception | None) -> None:
            assert error is None
            self.waits[tenant] -= prompt <= 300
            self.begin(ticket)

        ticket = Ticket(wake, 1e9, 0.0, tenant, trade.weight, trade.priority, prompt, most)
        if self.queue.offer(ticket, 0.0):
            self.begin(ticket)
        else:
            self.waits[tenant] += prompt <= 300

    def begin(self, ticket: Ticket) -> None:
        self.serving.append(ticket)
        self.grants.append(ticket)
        self.service[ticket.tenant] += ticket.prompt_tokens / ticket.weight

    def top_up(self) -> None:
        for tenant, trade in self.trades.items():
            while self.waits[tenant] < self.waiting_each:
                self.offer(tenant, trade)

    def run(self, ends: int) -> Iterator[None]:
        self.top_up()
        self.queue.resize(self.slots, 0.0)
        self.top_up()
        for _ in range(ends):
            yield
            ticket = self.serving.pop(self.dice.randrange(len(self.serving)))
            answer = int((ticket.tokens_max - ticket.prompt_tokens) * self.trades[ticket.tenant].used)
            self.service[ticket.tenant] += answer / ticket.weight
            self.queue.release(ticket, 0.0, ticket.prompt_tokens + answer)
            self.top_up()


@settings(max_examples=60, deadline=None)
@given(slots=st.integers(1, 5), of=st.lists(trades, min_size=2, max_size=4), seed=st.integers(0, 2**32))
def test_tenants_that_always_wait_get_tokens_by_their_weights(slots: int, of: list[Trade], seed: int) -> None:
    """Whatever the sizes, weights, long prompts and the order of ends: from any moment to any later one the weighted
    services of two tenants differ by at most slots × largest ticket × (1/weight + 1/weight)."""
    crowd = Crowd(slots, {f"t{n}": trade for n, trade in enumerate(of)}, random.Random(seed))
    least: dict[tuple[str, str], float] = {}
    most: dict[tuple[str, str], float] = {}
    for _ in crowd.run(300):
        for f, g in combinations(crowd.trades, 2):
            lead = crowd.service[f] - crowd.service[g]
            least[f, g] = min(lead, least.get((f, g), lead))
            most[f, g] = max(lead, most.get((f, g), lead))
    for (f, g), highest in most.items():
        f_lead, g_lead = (
            slots * (crowd.trades[each].prompt_max + crowd.trades[each].answer_max) / crowd.trades[each].weight
            for each in (f, g)
        )
        assert highest - least[f, g] <= f_lead + g_lead


@settings(max_examples=60, deadline=None)
@given(
    slots=st.integers(1, 5),
    of=st.lists(st.tuples(trades, st.sampled_from(CLASSES)), min_size=1, max_size=5),
    mine=st.sampled_from(CLASSES),
    seed=st.integers(0, 2**32),
)
def test_nobody_starves(slots: int, of: list[tuple[Trade, Priority]], mine: Priority, seed: int) -> None:
    """A newcomer's short request of any class, in a crowd that never rests, is granted within
    (times that its class is passed over + 1) grants for each tenant of its class, itself included."""
    crowd = Crowd(
        slots,
        {
            f"t{n}": Trade(trade.weight, trade.prompt_max, trade.answer_max, trade.used, priority)
            for n, (trade, priority) in enumerate(of)
        },
        random.Random(seed),
    )
    rivals = sum(trade.priority == mine for trade in crowd.trades.values())
    bound = (PASSED_MAX[mine] + 1) * (rivals + 1)
    before = 0
    for step, _ in enumerate(crowd.run(60 + bound)):
        if step == 50:
            crowd.trades["newcomer"] = Trade(1.0, 100, 0, 1.0, mine)
            crowd.waits["newcomer"] = crowd.waiting_each - 1
            before = len(crowd.grants)
    waited_for = [ticket.tenant for ticket in crowd.grants[before:]].index("newcomer")
    assert waited_for <= bound


@settings(max_examples=40, deadline=None)
@given(slots=st.integers(1, 5), of=st.lists(trades, min_size=1, max_size=4), seed=st.integers(0, 2**32))
def test_a_long_request_is_not_passed_by_for_ever(slots: int, of: list[Trade], seed: int) -> None:
    """A newcomer's long request in a crowd of short and long ones sees at most one long grant to each other tenant, and
    short ones only while the long lane is full."""
    assume(any(trade.prompt_max > 300 for trade in of))
    crowd = Crowd(slots, {f"t{n}": trade for n, trade in enumerate(of)}, random.Random(seed))
    before = 0
    for step, _ in enumerate(crowd.run(400)):
        if step == 50:
            crowd.trades["newcomer"] = Trade(1.0, 301, 0, 1.0)
            crowd.waits["newcomer"] = crowd.waiting_each
            before = len(crowd.grants)
            crowd.offer("newcomer", crowd.trades["newcomer"], prompt=301)
        if step > 50 and any(ticket.tenant == "newcomer" for ticket in crowd.grants[before:]):
            break
    else:
        raise AssertionError("still waiting after 350 ends")
    passed_by: defaultdict[str, int] = defaultdict(int)
    for ticket in crowd.grants[before:]:
        if ticket.tenant == "newcomer":
            break
        passed_by[ticket.tenant] += ticket.long
    assert all(times <= 1 for times in passed_by.values())


def test_the_patience_that_the_bounds_rest_on() -> None:
    """Changing the patience of a class changes what is promised: these tests and the page on fairness say so too."""
    assert dict(PATIENCE) == {"interactive": float("inf"), "standard": 4, "batch": 16}
