"""What of a batch is sent when."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from inhouse.dispatch.batch import Todo


@given(st.integers(0, 60), st.sets(st.integers(0, 59)), st.integers(0, 2**32), st.integers(1, 5))
def test_every_line_ends_once_whatever_fails(total: int, done: set[int], seed: int, attempts: int) -> None:
    """Lines that have a result are not sent; all others end, and no line is under way twice."""
    chance, now_s = random.Random(seed), 0.0
    done = {line for line in done if line < total}
    todo = Todo(total, done, attempts)
    ended: list[int] = []
    out: list[int] = []
    while not todo.over:
        line = todo.take(now_s)
        if line is not None:
            assert line not in out
            out.append(line)
        now_s += 1.0
        if out and chance.random() < 0.6:
            one = out.pop(chance.randrange(len(out)))
            status = chance.choice([200, 200, 400, 429, 503])
            if status == 200 or todo.failed(one, status, None, now_s) == "final":
                todo.ended(one)
                ended.append(one)
    assert sorted(ended) == [line for line in range(total) if line not in done]
    assert todo.left == []


def test_limits_are_no_tries() -> None:
    """A full queue or a used-up quota only takes its time; an engine that is away is given up in the end."""
    todo = Todo(1, set(), 3)
    for tries in range(50):
        assert todo.take(1000.0 * tries) == 0
        assert todo.failed(0, 429, 1.0, 1000.0 * tries) == "later"
    verdicts = []
    for tries in range(3):
        assert todo.take(1e6 + 1000.0 * tries) == 0
        verdicts.append(todo.failed(0, 503, None, 1e6 + 1000.0 * tries))
    assert verdicts == ["later", "later", "final"]


def test_a_line_is_sent_again_only_after_its_pause() -> None:
    """The engine's own word counts, up to a minute."""
    todo = Todo(2, {1}, 8)
    assert todo.take(0.0) == 0
    assert todo.failed(0, 503, 7.0, 0.0) == "later"
    assert todo.take(6.9) is None
    assert todo.take(7.0) == 0
