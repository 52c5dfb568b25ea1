"""The fake engine's time, with a clock of the test's own."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inhouse.fake.batch import Batch, Sequence
from inhouse.fake.settings import Settings

Events = list[tuple[float, Sequence, int]]


def batch(**how: Any) -> Batch:
    return Batch(Settings(cache="none", **how), 0.0)


def run(engine: Batch, until_s: float = math.inf) -> Events:
    """Goes from event to event; (time, sequence, its tokens then) of each."""
    found: Events = []
    while (due_s := engine.next_s()) <= until_s and due_s < math.inf:
        found += [(engine.now_s, one, one.tokens) for one in engine.advance(due_s)]
    return found


def prompt(tokens: int) -> list[str]:
    return ["x"] * tokens


def test_one_request_alone() -> None:
    """First token after the base and the prefill, the others at the rate of a lone stream."""
    engine = batch(ttft_s=0.1, prefill_tokens_per_s=1000, tokens_per_s=10)
    engine.add(Sequence(prompt(200), 5), 0.0)
    times = [time_s for time_s, _, _ in run(engine)]
    assert times == pytest.approx([0.3, 0.4, 0.5, 0.6, 0.7])


def test_prefills_share() -> None:
    """Two prompts at once take each as long as both together; the shorter one is through first."""
    engine = batch(prefill_tokens_per_s=1000)
    for tokens in (100, 300):
        engine.add(Sequence(prompt(tokens), 1), 0.0)
    times = [time_s for time_s, _, _ in run(engine)]
    assert times == pytest.approx([0.2, 0.4])


@pytest.mark.parametrize(("streams", "each"), [(1, 50.0), (2, 1 / (1 / 50 + 1 / 100)), (11, 1 / (1 / 50 + 10 / 100))])
def test_the_batching_curve(streams: int, each: float) -> None:
    """A stream alone is fast; more of them slow each other down, and together never pass the total."""
    engine = batch(slots=32, tokens_per_s=50, tokens_per_s_total=100)
    for _ in range(streams):
        engine.add(Sequence(prompt(1), 21), 0.0)
    events = run(engine)
    assert events[-1][0] == pytest.approx(20 / each)
    assert streams * each < 100.0 or streams == 1


def test_prefill_takes_time_from_decode() -> None:
    """A stream gets slower while a long prompt is computed beside it."""
    engine = batch(prefill_tokens_per_s=1000, tokens_per_s=10, prefill_share=0.5)
    stream = Sequence(prompt(1), 11)
    engine.add(stream, 0.0)
    run(engine, 0.001)
    engine.add(Sequence(prompt(400), 0), 0.001)
    times = [time_s for time_s, one, _ in run(engine) if one is stream]
    assert times[-1] == pytest.approx(0.001 + 1.0 + 0.2)  # 0.4 s of prefill at half speed


def test_a_slow_one_and_a_stalled_one() -> None:
    """One keeps a pace of its own, the other its slot."""
    engine = batch(slots=2, tokens_per_s=100)
    slow, stalled = Sequence(prompt(1), 3, drip_s=2.0), Sequence(prompt(1), 10, stall_after=4)
    engine.add(slow, 0.0)
    engine.add(stalled, 0.0)
    events = run(engine)
    assert [time_s for time_s, one, _ in events if one is slow] == pytest.approx([0, 2, 4])
    assert stalled.tokens == 4
    assert engine.running == {stalled}
    engine.cancel(stalled, 10.0)
    assert not engine.running


def test_it_is_full() -> None:
    """Slots and places taken: the next one is to be refused."""
    engine = batch(slots=1, queue_max=1, tokens_per_s=1)
    for _ in range(2):
        assert not engine.full
        engine.add(Sequence(prompt(1), 5), 0.0)
    assert engine.full


def test_fewer_slots_at_run_time() -> None:
    """Those that run go on; nobody new begins until there is room."""
    engine = batch(slots=4, tokens_per_s=10)
    for _ in range(6):
        engine.add(Sequence(prompt(1), 3), 0.0)
    engine.configure(Settings(cache="none", slots=1, tokens_per_s=10), 0.01)
    assert len(engine.running) == 4
    run(engine, 0.25)
    assert len(engine.running) == 1
    assert len(run(engine)) > 0
    assert not engine.waiting


def test_a_thousand_that_take_no_time() -> None:
    """However long the queue, it is worked off in one go."""
    engine = batch(slots=1, tokens_per_s=1)
    held = Sequence(prompt(1), 100)
    engine.add(held, 0.0)
    for _ in range(5000):
        engine.add(Sequence(prompt(1), 0), 0.0)
    engine.cancel(held, 0.1)
    assert len(engine.advance(0.1)) == 5000


RATES = st.sampled_from([0.0, 7.0, 100.0, 5000.0])
REQUESTS = st.lists(
    st.tuples(
        st.floats(0, 3), st.integers(1, 300), st.integers(0, 40), st.one_of(st.none(), st.floats(0, 5))
    ),
    min_size=1,
    max_size=30,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    requests=REQUESTS,
    slots=st.integers(1, 5),
    ttft_s=st.sampled_from([0.0, 0.2]),
    prefill=RATES,
    alone=RATES,
    total=RATES,
    share=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_whatever_arrives_and_leaves(
    requests: list[tuple[float, int, int, float | None]],
    slots: int,
    ttft_s: float,
    prefill: float,
    alone: float,
    total: float,
    share: float,
) -> None:
    """Never more at once than slots; who stays gets exactly the tokens asked for; who leaves frees the slot; in the
    end everything is free."""
    engine = batch(
        slots=slots,
        ttft_s=ttft_s,
        prefill_tokens_per_s=prefill,
        tokens_per_s=alone,
        tokens_per_s_total=total,
        prefill_share=share,
    )
    plan: list[tuple[float, int, Sequence]] = []
    leavers = set()
    for at_s, prompt_tokens, answer_tokens, leaves_s in requests:
        one = Sequence(prompt(prompt_tokens), answer_tokens)
        plan.append((at_s, 0, one))
        if leaves_s is not None:
            leavers.add(one)
            plan.append((at_s + leaves_s, 1, one))
    told: dict[Sequence, int] = {}
    for at_s, what, one in sorted(plan, key=lambda entry: entry[:2]):
        for found in engine.advance(at_s):
            told[found] = found.tokens
        if what:
            engine.cancel(one, at_s)
        else:
            engine.add(one, at_s)
        assert len(engine.running) <= slots
        assert len({one.slot for one in engine.running}) == len(engine.running)
    told.update({one: tokens for _, one, tokens in run(engine)})
    for one in {entry[2] for entry in plan}:
        assert one.state == "over"
        if one not in leavers:
            assert told[one] == one.tokens == one.answer_tokens
            assert one.arrived_s <= one.begun_s <= one.first_s <= one.over_s
    assert not engine.running
    assert not engine.waiting
    assert engine.prefilling == engine.decoding == 0
