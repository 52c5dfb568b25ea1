"""What every ledger promises: reserved or refused as a whole, settled once, never over a limit, truthful about time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from inhouse.store.ledger import (
    Demand,
    Ledger,
    Limits,
    Now,
    Refusal,
    Reservation,
    UsageFilter,
    UsageRow,
    Use,
)
from inhouse.store.ledger_asked import AskedLedger
from inhouse.store.ledger_leased import LeasedLedger
from inhouse.store.ledger_memory import MemoryLedger
from ledgers import LEDGERS, opened

SECOND = 1_000_000
DAY = 86_400 * SECOND
START = Now(wall_us=20_000 * DAY, steady_us=1_000 * SECOND)


@pytest.fixture(params=LEDGERS)
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    with opened(request.param, tmp_path, request.getfixturevalue) as made:
        yield made


def later(seconds: float, start: Now = START) -> Now:
    return Now(start.wall_us + round(seconds * SECOND), start.steady_us + round(seconds * SECOND))


def acme(**limits: int) -> tuple[Demand, ...]:
    return (Demand("tenant:acme", Limits(**limits)),)


def held(ledger: Ledger, demands: tuple[Demand, ...], tokens: int, now: Now = START, money: int = 0) -> Reservation:
    answer = ledger.reserve(demands, tokens, money, now)
    assert isinstance(answer, Reservation), answer
    return answer


def refused(ledger: Ledger, demands: tuple[Demand, ...], tokens: int, now: Now = START, money: int = 0) -> Refusal:
    answer = ledger.reserve(demands, tokens, money, now)
    assert isinstance(answer, Refusal)
    return answer


def test_what_is_held_counts_as_used_until_it_is_settled(ledger: Ledger) -> None:
    """The rest is free again for the next one, to the token."""
    demands = acme(tokens_per_day=100)
    first = held(ledger, demands, 90)
    assert refused(ledger, demands, 11).shortages[0].held == 90
    ledger.settle(first, 40, 0, START)
    assert ledger.live("tenant:acme", START)["tokens_per_day"] == Use(used=40, held=0)
    held(ledger, demands, 60)
    refused(ledger, demands, 1)


def test_a_second_settlement_changes_nothing(ledger: Ledger) -> None:
    demands = acme(tokens_per_day=100)
    first, second = held(ledger, demands, 10), held(ledger, demands, 10)
    for _ in range(2):
        ledger.settle(first, 5, 0, START)
    assert ledger.live("tenant:acme", START)["tokens_per_day"] == Use(used=5, held=10)
    ledger.settle(second, 0, 0, START)
    assert ledger.live("tenant:acme", START)["concurrent_requests"] == Use(used=0, held=0)


def test_use_beyond_the_reservation_is_not_charged(ledger: Ledger) -> None:
    """A bound that does not hold breaks no limit."""
    demands = acme(tokens_per_day=100, money_per_day=100)
    ledger.settle(held(ledger, demands, 100, money=100), 5000, 5000, START)
    live = ledger.live("tenant:acme", START)
    assert (live["tokens_per_day"].used, live["money_per_day"].used) == (100, 100)


def test_one_scope_that_refuses_leaves_the_others_untouched(ledger: Ledger) -> None:
    """Held in every scope or in none."""
    both = (Demand("tenant:acme", Limits(tokens_per_day=100)), Demand("key:k", Limits(concurrent_requests=1)))
    held(ledger, both, 10)
    shortage = refused(ledger, both, 10).shortages[0]
    assert (shortage.scope, shortage.name) == ("key:k", "concurrent_requests")
    assert ledger.live("tenant:acme", START)["tokens_per_day"] == Use(used=0, held=10)
    assert ledger.live("tenant:acme", START)["requests_per_minute"] == Use(used=1, held=0)


@pytest.mark.parametrize(
    ("name", "tokens", "money"),
    [
        ("tokens_per_minute", 1, 0),
        ("tokens_per_day", 1, 0),
        ("tokens_per_month", 1, 0),
        ("money_per_day", 0, 1),
        ("money_per_month", 0, 1),
        ("requests_per_minute", 0, 0),
        ("concurrent_requests", 0, 0),
    ],
)
def test_each_limit_lets_in_exactly_as_much_as_it_says(ledger: Ledger, name: str, tokens: int, money: int) -> None:
    """Seven of seven, not one more; and it is that limit which the refusal names."""
    demands = acme(**{name: 7})
    for _ in range(7):
        held(ledger, demands, tokens, money=money)
    refusal = refused(ledger, demands, tokens, money=money)
    assert [shortage.name for shortage in refusal.shortages] == [name]


def test_requests_count_for_60_seconds_from_when_they_were_let_in(ledger: Ledger) -> None:
    """However they ended, and not a microsecond longer than `retry_after_us` says."""
    demands = acme(requests_per_minute=2)
    for second in (0, 10):
        ledger.settle(held(ledger, demands, 5, later(second)), 0, 0, later(second))
    assert refused(ledger, demands, 5, later(20)).retry_after_us == 40 * SECOND
    refused(ledger, demands, 5, Now(START.wall_us, later(60).steady_us - 1))
    held(ledger, demands, 5, later(60))
    assert refused(ledger, demands, 5, later(60)).retry_after_us == 10 * SECOND


def test_a_long_request_holds_its_tokens_and_then_counts_for_a_minute(ledger: Ledger) -> None:
    """Tokens count while they are held, and for 60 s from the settlement on."""
    demands = acme(tokens_per_minute=100)
    first = held(ledger, demands, 80)
    shortage = refused(ledger, demands, 30, later(300)).shortages[0]
    assert shortage.held_by_others
    ledger.settle(first, 80, 0, later(310))
    assert refused(ledger, demands, 30, later(315)).retry_after_us == 55 * SECOND
    held(ledger, demands, 30, later(370))


def test_a_day_and_a_month_begin_anew_in_utc(ledger: Ledger) -> None:
    """The wait is that to midnight, or to the first of the month."""
    demands, monthly = acme(tokens_per_day=10), (Demand("tenant:b", Limits(tokens_per_month=10)),)
    noon = Now(19_782 * DAY + DAY // 2, 0)  # 2024-02-29
    for each in (demands, monthly):
        ledger.settle(held(ledger, each, 10, noon), 10, 0, noon)
        assert refused(ledger, each, 1, noon).retry_after_us == DAY // 2
        held(ledger, each, 1, later(DAY / 2 / SECOND, noon))


def test_a_reservation_is_settled_in_the_day_in_which_it_was_made(ledger: Ledger) -> None:
    """A request over midnight takes nothing from the new day."""
    demands = acme(tokens_per_day=10)
    night = Now(START.wall_us + DAY - 1, START.steady_us)
    over_midnight = held(ledger, demands, 10, night)
    ledger.settle(over_midnight, 10, 0, later(60, night))
    assert ledger.live("tenant:acme", night)["tokens_per_day"] == Use(used=10, held=0)
    held(ledger, demands, 10, later(60, night))


def test_a_wall_clock_that_jumps_and_comes_back_finds_its_day_again(ledger: Ledger) -> None:
    """No quota is had twice, nobody is locked out, and minutes do not notice."""
    demands = acme(tokens_per_day=10, requests_per_minute=4)
    ledger.settle(held(ledger, demands, 10), 10, 0, START)
    ahead = Now(START.wall_us + 400 * DAY, START.steady_us + 1)
    ledger.settle(held(ledger, demands, 10, ahead), 10, 0, ahead)
    refused(ledger, demands, 1, later(1))
    before = Now(START.wall_us - 400 * DAY, later(2).steady_us)
    held(ledger, demands, 10, before)
    refused(ledger, demands, 1, later(3))
    held(ledger, demands, 1, later(DAY / SECOND))


def test_after_a_restart_of_the_machine_nobody_waits_longer_than_a_minute(ledger: Ledger) -> None:
    """The steady clock begins at 0 again; what it had counted is neither forgotten at once nor kept for ever."""
    demands = acme(requests_per_minute=1)
    ledger.settle(held(ledger, demands, 1), 1, 0, START)
    booted = Now(START.wall_us + SECOND, 5 * SECOND)
    assert refused(ledger, demands, 1, booted).retry_after_us == 60 * SECOND
    refused(ledger, demands, 1, later(59, booted))
    held(ledger, demands, 1, later(60, booted))


def test_looks_at_the_clock_in_another_order_than_turns_forget_nothing(ledger: Ledger) -> None:
    """Of two processes the one that looked first may come second."""
    demands = acme(requests_per_minute=2)
    held(ledger, demands, 1, later(0.5))
    held(ledger, demands, 1, later(0))
    refused(ledger, demands, 1, later(60.4))
    held(ledger, demands, 1, later(60.5))


def test_rates_are_those_of_the_tightest_scope(ledger: Ledger) -> None:
    both = (
        Demand("tenant:acme", Limits(requests_per_minute=100, tokens_per_minute=1000)),
        Demand("key:k", Limits(requests_per_minute=3)),
    )
    first = held(ledger, both, 400)
    assert first.requests_rate is not None
    assert first.tokens_rate is not None
    assert (first.requests_rate.limit, first.requests_rate.remaining) == (3, 2)
    assert (first.tokens_rate.limit, first.tokens_rate.remaining, first.tokens_rate.reset_us) == (
        1000,
        600,
        60 * SECOND,
    )
    ledger.settle(first, 100, 0, START)
    second = held(ledger, both, 0, later(30))
    assert second.tokens_rate is not None
    assert second.tokens_rate.remaining == 900
    # what lies idle in a lease is held: all of it is there again a minute from now at the latest
    assert second.tokens_rate.reset_us == (60 if isinstance(ledger, LeasedLedger | AskedLedger) else 30) * SECOND


def test_usage_adds_up_and_is_found_by_what_is_asked(ledger: Ledger) -> None:
    row = UsageRow(20_000, "acme", "k", "chat", 1, 10, 4, 5, 7)
    other = UsageRow(20_001, "b", "j", "demo", 1, 1, 0, 1, 0)
    ledger.count([row, row, other])
    ledger.count([])
    assert ledger.usage(UsageFilter()) == (UsageRow(20_000, "acme", "k", "chat", 2, 20, 8, 10, 14), other)
    assert ledger.usage(UsageFilter(tenant="b")) == ledger.usage(UsageFilter(since_day=20_001)) == (other,)
    assert ledger.usage(UsageFilter(key_id="j", model="demo", until_day=20_001)) == (other,)
    assert ledger.usage(UsageFilter(until_day=19_999)) == ()


AMOUNTS = st.tuples(st.integers(0, 40_000_000), st.integers(0, 50), st.integers(0, 50), st.integers(0, 100))
MAYBE = st.none() | st.integers(50, 300)


@hypothesis_settings(max_examples=300, deadline=None)
@given(
    history=st.lists(AMOUNTS, max_size=25),
    asked=st.tuples(st.integers(0, 50), st.integers(0, 50)),
    requests=st.none() | st.integers(1, 8),
    quotas=st.tuples(MAYBE, MAYBE, MAYBE, MAYBE, MAYBE),
)
def test_who_waits_for_it_alone_is_let_in_and_not_before(
    history: list[tuple[int, int, int, int]],
    asked: tuple[int, int],
    requests: int | None,
    quotas: tuple[int | None, ...],
) -> None:
    """`retry_after_us` is exact to the microsecond, whatever came before, for every mixture of limits."""
    ledger = MemoryLedger()
    demands = (Demand("s", Limits(requests, *quotas)),)
    now = START
    for waited, tokens, money, percent in history:
        now = Now(now.wall_us + waited, now.steady_us + waited)
        answer = ledger.reserve(demands, tokens, money, now)
        if isinstance(answer, Reservation):
            ledger.settle(answer, tokens * percent // 100, money * percent // 100, now)
    answer = ledger.reserve(demands, *asked, now)
    if isinstance(answer, Refusal):
        wait = answer.retry_after_us
        assert wait > 0
        early = Now(now.wall_us + wait - 1, now.steady_us + wait - 1)
        assert isinstance(ledger.reserve(demands, *asked, early), Refusal)
        held(ledger, demands, asked[0], Now(now.wall_us + wait, now.steady_us + wait), money=asked[1])


def test_a_minute_is_any_60_seconds() -> None:
    """A burst at the end of one minute and one at the beginning of the next are not both let in."""
    ledger = MemoryLedger()
    demands = acme(requests_per_minute=5)
    moments = [step * 0.05 for step in range(4000)]
    let_in = [at for at in moments if isinstance(ledger.reserve(demands, 0, 0, later(at)), Reservation)]
    assert max(sum(end - 60 < at <= end for at in let_in) for end in let_in) == 5
    assert len(let_in) >= 3 * 5, "and nearly as much as the limit allows is let in"
