"""A request's hold: settled however the request ends, counted for everybody, and never lost to a full disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from inhouse.config import Stack
from inhouse.core import Identity, Usage
from inhouse.errors import Forbidden, QuotaExceeded, RateLimited, RequestExceedsQuota, StateError, StateUnavailable
from inhouse.store.ledger import Demand, Now, Refusal, Reservation, UsageFilter, UsageRow, Use
from inhouse.store.ledger_memory import MemoryLedger
from inhouse.store.ledger_sqlite import SqliteLedger
from inhouse.tenancy.limits import Bound
from inhouse.tenancy.quotas import Quotas

DAY = 20_000
WHO = Identity(key_id="k", tenant="acme")


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> Now:
        passed = round(self.seconds * 1_000_000)
        return Now(DAY * 86_400_000_000 + passed, 10**9 + passed)


class Failing(MemoryLedger):
    """A ledger on a disk that can be full; and every call that comes through."""

    def __init__(self) -> None:
        super().__init__()
        self.full = False
        self.calls: list[str] = []

    def _check(self, call: str) -> None:
        self.calls.append(call)
        if self.full:
            raise StateError("the state file cannot grow")

    def reserve(self, demands: Sequence[Demand], tokens: int, money: int, now: Now) -> Reservation | Refusal:
        self._check("reserve")
        return super().reserve(demands, tokens, money, now)

    def settle(self, reservation: Reservation, tokens: int, money: int, now: Now) -> None:
        self._check("settle")
        super().settle(reservation, tokens, money, now)

    def count(self, rows: Any) -> None:
        self._check("count")
        super().count(rows)


def stack(**limits: object) -> Stack:
    return Stack.model_validate(
        {
            "models": {"chat": {"source": "demo", "price": {"input": 1, "output": 2}}},
            "tenants": {"acme": {"limits": limits}},
        }
    )


@pytest.fixture
def ledger() -> Failing:
    return Failing()


def test_what_was_not_used_is_free_for_the_next(ledger: Failing) -> None:
    clock = Clock()
    quotas = Quotas(stack(tokens_per_minute=1000, requests_per_minute=60), ledger, clock=clock)
    with quotas.reserve(WHO, "chat", Bound(100, 500)) as hold:
        assert b"\r\nx-ratelimit-remaining-tokens: 400\r\n" in hold.lines
        with pytest.raises(RateLimited, match="requests in flight may use 600 more"):
            quotas.reserve(WHO, "chat", Bound(100, 500))
        hold.settle(Usage(90, 10))
        hold.settle(Usage(90, 500))
    assert ledger.live("tenant:acme", clock())["tokens_per_minute"] == Use(used=100, held=0)
    quotas.reserve(WHO, "chat", Bound(100, 800)).settle(Usage())


@pytest.mark.parametrize("ending", [RuntimeError, KeyboardInterrupt, None])
def test_who_does_not_say_what_was_used_pays_the_bound(ledger: Failing, ending: type[BaseException] | None) -> None:
    clock = Clock()
    quotas = Quotas(stack(tokens_per_day=1000), ledger, clock=clock)

    def request() -> None:
        with quotas.reserve(WHO, "chat", Bound(100, 50, answers=2)):
            if ending is not None:
                raise ending

    if ending is None:
        request()
    else:
        with pytest.raises(ending):
            request()
    assert ledger.live("tenant:acme", clock())["tokens_per_day"] == Use(used=200, held=0)


def test_retry_after_is_true(ledger: Failing) -> None:
    """Who comes back then is let in, a little earlier is not."""
    clock = Clock()
    quotas = Quotas(stack(tokens_per_minute=100, money_per_day="0.001"), ledger, clock=clock)
    quotas.reserve(WHO, "chat", Bound(80, 0)).settle(Usage(80, 0))
    clock.seconds = 10.25
    with pytest.raises(RateLimited) as caught:
        quotas.reserve(WHO, "chat", Bound(30, 0))
    assert caught.value.retry_after_s == 49.75
    clock.seconds += caught.value.retry_after_s - 0.001
    with pytest.raises(RateLimited):
        quotas.reserve(WHO, "chat", Bound(30, 0))
    clock.seconds += 0.001
    quotas.reserve(WHO, "chat", Bound(30, 0)).settle(Usage(30, 0))


def test_money_is_reserved_and_settled_by_the_models_prices(ledger: Failing) -> None:
    clock = Clock()
    quotas = Quotas(stack(money_per_day="0.001"), ledger, clock=clock)
    with quotas.reserve(WHO, "chat", Bound(200, 300)) as hold:
        assert ledger.live("tenant:acme", clock())["money_per_day"].held == 800
        hold.settle(Usage(200, 100))
    assert ledger.live("tenant:acme", clock())["money_per_day"] == Use(used=400, held=0)
    with pytest.raises(QuotaExceeded, match=r"used 0\.0004 EUR of 0\.001 EUR per day.*may need 0\.0008 EUR"):
        quotas.reserve(WHO, "chat", Bound(200, 300))


def test_without_limits_nothing_is_asked_and_use_is_counted(ledger: Failing) -> None:
    """By tenant, key, model and day; written in one go."""
    clock = Clock()
    quotas = Quotas(stack(), ledger, clock=clock)
    for _ in range(3):
        with quotas.reserve(WHO, "chat", Bound(100, 50)) as hold:
            assert hold.lines == b""
            hold.settle(Usage(10, 5, 4))
    assert ledger.calls == []
    quotas.flush()
    quotas.flush()
    assert ledger.calls == ["count"]
    assert ledger.usage(UsageFilter()) == (UsageRow(DAY, "acme", "k", "chat", 3, 30, 12, 15, 60),)


def test_a_disk_that_is_full_lets_nobody_in_and_forgets_nothing(ledger: Failing) -> None:
    """503 for new requests; what ends meanwhile stays held until it can be written."""
    clock = Clock()
    quotas = Quotas(stack(tokens_per_day=1000), ledger, clock=clock)
    hold = quotas.reserve(WHO, "chat", Bound(100, 500))
    ledger.full = True
    with pytest.raises(StateUnavailable, match="limits cannot be checked now") as caught:
        quotas.reserve(WHO, "chat", Bound(1, 1))
    assert (caught.value.status, caught.value.retry_after_s) == (503, 5.0)
    hold.settle(Usage(50, 50))
    with pytest.raises(StateError):
        quotas.flush()
    assert ledger.live("tenant:acme", clock())["tokens_per_day"] == Use(used=0, held=600)
    ledger.full = False
    quotas.flush()
    assert ledger.live("tenant:acme", clock())["tokens_per_day"] == Use(used=100, held=0)
    assert [row.completion_tokens for row in ledger.usage(UsageFilter())] == [50]


def test_a_bound_that_did_not_hold_is_noticed(ledger: Failing) -> None:
    """Counted in full, charged up to the bound."""
    clock = Clock()
    quotas = Quotas(stack(tokens_per_day=1000), ledger, clock=clock)
    quotas.reserve(WHO, "chat", Bound(10, 10)).settle(Usage(100, 10))
    assert quotas.overruns == 1
    quotas.close()
    assert ledger.live("tenant:acme", clock())["tokens_per_day"].used == 20
    assert ledger.usage(UsageFilter())[0].prompt_tokens == 100


def test_a_model_that_is_not_allowed_counts_for_nothing(ledger: Failing) -> None:
    closed = Stack.model_validate(
        {"models": {"a": {"source": "demo"}, "b": {"source": "demo"}}, "tenant_defaults": {"models": ["a"]}}
    )
    quotas = Quotas(closed, ledger)
    with pytest.raises(Forbidden):
        quotas.reserve(WHO, "b", Bound(1, 1))
    quotas.close()
    assert ledger.usage(UsageFilter()) == ()


def test_a_clean_stop_loses_nothing(tmp_path: Path) -> None:
    """Limits and counts of a gateway that ended are those that the next one begins with."""
    settings = stack(tokens_per_month=100)
    for _ in range(2):
        ledger = SqliteLedger(tmp_path)
        quotas = Quotas(settings, ledger)
        quotas.reserve(WHO, "chat", Bound(30, 20)).settle(Usage(30, 20))
        quotas.close()
        ledger.close()
    ledger = SqliteLedger(tmp_path)
    with pytest.raises(QuotaExceeded, match="has used 100 of 100 tokens per month"):
        Quotas(settings, ledger).reserve(WHO, "chat", Bound(1, 1))
    assert sum(row.requests for row in ledger.usage(UsageFilter())) == 2
    ledger.close()


def test_a_key_that_changes_is_held_to_what_it_is_now(ledger: Failing) -> None:
    """What holds is remembered by key, and forgotten with the key's record: a limit that was tightened counts."""
    quotas = Quotas(stack(), ledger)
    for limit, lets_in in ((None, True), (10, False), (100, True)):
        limits = () if limit is None else (("tokens_per_day", limit),)
        for who in (Identity("k", "acme", limits=limits), Identity("k", "acme", limits=limits)):
            if lets_in:
                quotas.reserve(who, "chat", Bound(15, 5)).settle(Usage())
            else:
                with pytest.raises(RequestExceedsQuota):
                    quotas.reserve(who, "chat", Bound(15, 5))
