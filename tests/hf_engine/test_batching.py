"""The decider of who begins together, under all kinds of waiting lines."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from inhouse.hf_engine.batching import Rules, Waiting, choose

lengths = st.integers(min_value=1, max_value=5000)
lines = st.lists(lengths, min_size=1, max_size=40)
rules = st.builds(
    Rules,
    rows_max=st.integers(min_value=1, max_value=16),
    wait_s=st.floats(min_value=0, max_value=1),
    prefill_tokens_max=st.integers(min_value=1, max_value=10_000),
    padding_max=st.floats(min_value=0, max_value=0.9),
    joins=st.booleans(),
)


def line_of(found: list[int], *, gap_s: float = 0.001) -> list[Waiting]:
    return [Waiting(number, number * gap_s, length) for number, length in enumerate(found)]


@given(lines, rules, st.integers(min_value=0, max_value=16), st.floats(min_value=0, max_value=5))
def test_whatever_waits_the_bounds_of_a_batch_hold(found: list[int], bounds: Rules, running: int, now_s: float) -> None:
    """Never more rows than there is room, never more tokens or filling than allowed, nobody twice."""
    line = line_of(found)
    choice = choose(line, running, bounds, now_s)
    begun = [line[number].prompt_tokens for number in choice.numbers]
    assert len(set(choice.numbers)) == len(choice.numbers)
    if not begun:
        return
    assert running + len(begun) <= bounds.rows_max
    assert bounds.joins or not running
    cells = max(begun) * len(begun)
    assert len(begun) == 1 or cells <= bounds.prefill_tokens_max
    assert cells - sum(begun) <= bounds.padding_max * cells


@given(lines, rules)
def test_the_oldest_has_waited_long_enough_and_there_is_room(found: list[int], bounds: Rules) -> None:
    """It begins, whatever the others look like: nobody starves."""
    line = line_of(found)
    choice = choose(line, 0, bounds, line[0].arrived_s + bounds.wait_s)
    assert choice.numbers[0] == 0


@given(lines, rules)
def test_a_line_that_is_worked_off_batch_by_batch(found: list[int], bounds: Rules) -> None:
    """Everybody begins exactly once, and after at most as many batches as there are requests."""
    line, begun = line_of(found), []
    for _ in found:
        if not line:
            break
        chosen = choose(line, 0, bounds, 100.0).numbers
        begun += chosen
        line = [one for one in line if one.number not in chosen]
    assert sorted(begun) == list(range(len(found)))


@given(lines, rules, st.floats(min_value=0, max_value=1))
def test_nobody_begins_yet(found: list[int], bounds: Rules, now_s: float) -> None:
    """Then it is told when to ask again: no later than the oldest may be kept waiting, and then somebody does."""
    line = line_of(found)
    choice = choose(line, 0, bounds, now_s)
    if choice.numbers:
        return
    assert now_s < choice.due_s <= line[0].arrived_s + bounds.wait_s
    assert choose(line, 0, bounds, choice.due_s).numbers


def test_the_batch_is_full() -> None:
    """Nobody joins, and there is nothing to wait for but news."""
    choice = choose(line_of([5, 5]), 4, Rules(rows_max=4), 100.0)
    assert choice.numbers == ()
    assert choice.due_s == math.inf


def test_as_many_wait_as_there_is_room_for() -> None:
    """They begin at once: there are no further companions to wait for."""
    assert choose(line_of([5, 6, 5]), 1, Rules(rows_max=4, wait_s=9), 0.01).numbers == (0, 2, 1)


def test_prompts_of_very_different_lengths_wait() -> None:
    """Those near the oldest in length go with it; the others form the next batch."""
    line = line_of([100, 3000, 98, 2900, 104])
    bounds = Rules(rows_max=4, wait_s=0)
    assert choose(line, 0, bounds, 1.0).numbers == (0, 2, 4)
    assert choose([line[1], line[3]], 0, replace(bounds, prefill_tokens_max=8192), 1.0).numbers == (1, 3)


def test_a_batch_runs_whose_cache_takes_no_new_rows() -> None:
    """They wait for its end."""
    assert choose(line_of([5]), 1, Rules(joins=False), 100.0).numbers == ()
