"""Claims over a network that loses questions and answers, and gateways that fall silent: in Redis and in PostgreSQL."""

from __future__ import annotations

import contextlib
import random
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from inhouse.errors import StateError
from inhouse.store.ledger import Demand, Limits, Now, Refusal, Reservation, Use
from inhouse.store.ledger_asked import AskedLedger
from inhouse.store.ledger_claim import Claim
from inhouse.store.ledger_claimed import ClaimedLedger, Outcome
from inhouse.store.ledger_leased import LeasedLedger
from inhouse.store.ledger_memory import MemoryLedger
from inhouse.store.ledger_redis import RedisBank
from inhouse.store.redis_link import link_of
from inhouse.store.redis_scripts import RedisScripts
from ledgers import fresh_postgres, postgres_ledger, redis_ledger
from services import Service

SECOND = 1_000_000
DAY = 86_400 * SECOND
START = Now(20_000 * DAY, 1_000 * SECOND)
LEASE_S = 10.0
DEMANDS = (
    Demand("tenant:acme", Limits(tokens_per_day=2000, concurrent_requests=8)),
    Demand("key:k", Limits(money_per_day=9000)),
)
Make = Callable[[], ClaimedLedger]


def later(seconds: float) -> Now:
    return Now(START.wall_us + round(seconds * SECOND), START.steady_us + round(seconds * SECOND))


@pytest.fixture(params=["redis", "redis_cluster", "postgres"])
def make(request: pytest.FixtureRequest) -> Make:
    """Gateways on the same accounts."""
    service = request.getfixturevalue(request.param)
    if request.param == "postgres":
        address = fresh_postgres(service)
        return lambda: postgres_ledger(address, lease_s=LEASE_S)
    prefix = secrets.token_hex(6)
    return lambda: redis_ledger(service, prefix=prefix, lease_s=LEASE_S)


def held(ledger: Any, tokens: int, now: Now = START) -> Reservation:
    answer = ledger.reserve(DEMANDS, tokens, 0, now)
    assert isinstance(answer, Reservation), answer
    return answer


def test_a_gateway_that_falls_silent_is_charged_and_its_places_are_free(make: Make) -> None:
    """Not before its lease has run out, whatever others ask; and what lives is kept alive by its sweeps."""
    silent, other = make(), make()
    held(silent, 300)
    alive = held(other, 100)
    for second in range(1, 10):
        other.sweep(later(second))
    live = other.live("tenant:acme", later(9.9))
    assert live["tokens_per_day"] == Use(used=0, held=400)
    live = other.live("tenant:acme", later(10.1))
    assert live["tokens_per_day"] == Use(used=300, held=100)
    assert live["concurrent_requests"].held == 1
    other.settle(alive, 40, 0, later(11))
    assert other.live("tenant:acme", later(11))["tokens_per_day"] == Use(used=340, held=0)
    silent.close()
    other.close()


def test_a_gateway_that_comes_back_sets_right_what_was_charged(make: Make) -> None:
    """As if it had never been away: to the token, and nothing stays held."""
    away, other = make(), make()
    held_by_it = held(away, 300)
    assert other.live("tenant:acme", later(20))["tokens_per_day"] == Use(used=300, held=0)
    away.settle(held_by_it, 50, 0, later(30))
    for ledger in (away, other):
        live = ledger.live("tenant:acme", later(30))
        assert live["tokens_per_day"] == Use(used=50, held=0)
        assert live["concurrent_requests"].held == 0
        ledger.close()


def test_a_purse_hands_out_nothing_that_may_be_charged_already(make: Make) -> None:
    """After four fifths of the lease it has to ask, and cannot where nobody answers."""
    behind = make()
    ledger = LeasedLedger(behind, part=1)
    for _ in range(2):  # who took something of late gets some beyond that
        ledger.settle(held(ledger, 100), 0, 0, START)
    answers = behind.renew
    behind.renew = _refusing  # type: ignore[method-assign]
    held(ledger, 100, later(7.9))
    with pytest.raises(StateError):
        ledger.reserve(DEMANDS, 100, 0, later(8.1))
    behind.renew = answers  # type: ignore[method-assign]
    held(ledger, 100, later(8.2))
    ledger.close()


def _refusing(*_: object) -> Any:
    raise StateError("nobody answers")


class Losing:
    """A bank of which a part of the questions and of the answers get lost."""

    def __init__(self, bank: Any, draw: random.Random) -> None:
        self._bank = bank
        self._draw = draw
        self.part = 0.3
        self.ahead_us = self.reclaimed = 0

    def claim(self, asked: Sequence[tuple[tuple[Demand, ...], Claim]], now: Now) -> list[Outcome]:
        if self._draw.random() < self.part:
            raise StateError("the question was lost")
        found: list[Outcome] = self._bank.claim(asked, now)
        if self._draw.random() < self.part:
            raise StateError("the answer was lost")
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bank, name)


@pytest.mark.parametrize("seed", range(4))
def test_what_gets_lost_on_the_way(make: Make, seed: int) -> None:
    """The quota holds, what was used is charged to the token, and in the end nothing stays held."""
    draw = random.Random(seed)
    banks, ledgers = [], []
    for _ in range(2):
        one = make()
        bank = Losing(one._bank, draw)
        one._bank = bank  # type: ignore[assignment]
        banks.append(bank)
        ledgers.append(LeasedLedger(one, part=3))
    running: list[tuple[LeasedLedger, Reservation]] = []
    spent, now = 0, START
    for step in range(250):
        now = later(step * 0.05)
        ledger = draw.choice(ledgers)
        if draw.random() < 0.6:
            with contextlib.suppress(StateError):
                answer = ledger.reserve(DEMANDS, draw.randrange(1, 60), 0, now)
                if isinstance(answer, Reservation):
                    running.append((ledger, answer))
        elif running:
            owner, reservation = running.pop(draw.randrange(len(running)))
            used = draw.randrange(reservation.tokens + 1)
            owner.settle(reservation, used, 0, now)
            spent += used
        if step % 10 == 0:
            for one in ledgers:
                with contextlib.suppress(StateError):
                    one.sweep(now)
        assert spent + sum(reservation.tokens for _, reservation in running) <= 2000
        assert len(running) <= 8
    for bank in banks:
        bank.part = 0.0
    for owner, reservation in running:
        owner.settle(reservation, 0, 0, now)
    for ledger in ledgers * 2:
        ledger.live("tenant:acme", now)
        ledger.sweep(now)
    live = ledgers[0].live("tenant:acme", now)
    assert spent > 300
    assert live["tokens_per_day"] == Use(used=spent, held=0)
    assert live["concurrent_requests"].held == 0
    for ledger in ledgers:
        ledger.close()


def test_a_claim_that_comes_after_a_newer_one(make: Make) -> None:
    """It is passed over, and told so."""
    ledger = make()
    bank = ledger._bank
    sent: list[Any] = []
    claim = bank.claim

    def noting(asked: Any, now: Now) -> Any:
        sent.append(asked)
        return claim(asked, now)

    bank.claim = noting  # type: ignore[method-assign]
    reservation = held(ledger, 100)
    ledger.settle(reservation, 10, 0, START)
    with pytest.raises(StateError, match="after a newer one"):
        claim(sent[0], START)
    assert ledger.live("tenant:acme", START)["tokens_per_day"] == Use(used=10, held=0)
    ledger.close()


def test_a_server_that_lost_its_last_moment(redis: Service) -> None:
    """As after a failover: what it lacks is held and charged again by the next claim."""
    prefix = secrets.token_hex(6)
    scripts = RedisScripts(link_of(_spec(redis), {}, "store.redis"))
    ledger = ClaimedLedger(
        RedisBank(scripts, prefix=prefix, lease_s=LEASE_S, server_clock=False), MemoryLedger(), lease_s=LEASE_S
    )
    reservation = held(ledger, 300)
    with scripts.telling() as client:
        for key in client.keys(f"{prefix}:*"):
            client.delete(key)
        client.script_flush()
    ledger.sweep(later(4))
    assert ledger.live("tenant:acme", later(4))["tokens_per_day"] == Use(used=0, held=300)
    ledger.settle(reservation, 120, 0, later(5))
    assert ledger.live("tenant:acme", later(5))["tokens_per_day"] == Use(used=120, held=0)
    ledger.close()


def test_the_clock_of_redis_counts(redis: Service) -> None:
    """Whatever this machine's says: a lease of a gateway whose clock stands still runs out."""
    prefix = secrets.token_hex(6)
    one, other = (redis_ledger(redis, prefix=prefix, lease_s=1.0, server_clock=True) for _ in range(2))
    now = one.now()
    assert abs(now.wall_us - other.now().wall_us) < SECOND
    held(one, 300, now)
    with pytest.raises(StateError, match="another day"):
        one.reserve(DEMANDS, 1, 0, Now(now.wall_us - 2 * DAY, now.steady_us))
    one.close()
    other.close()


def test_who_waits_for_an_answer_and_goes_away(make: Make) -> None:
    """What it was granted is put back."""
    ledger = AskedLedger(make())
    futures = [ledger.ask(DEMANDS, 100, 0, START) for _ in range(6)]
    for future in futures[::2]:
        future.cancel()
    for future in futures[1::2]:
        answer = future.result(timeout=10)
        assert isinstance(answer, Reservation)
        ledger.settle(answer, 10, 0, START)
    done = [future.result() for future in futures if future.done() and not future.cancelled()]
    extra = [answer for answer in done if not isinstance(answer, Refusal)]
    for answer in extra:
        ledger.settle(answer, 0, 0, START)
    live = ledger.live("tenant:acme", START)
    assert live["tokens_per_day"] == Use(used=30, held=0)
    assert live["concurrent_requests"].held == 0
    ledger.close()


def test_many_who_wait_share_a_round(make: Make) -> None:
    """Sixty-four requests at once cost a few questions, not sixty-four; and a refusal for all of them one or two."""
    behind = make()
    calls = 0
    renew = behind.renew

    def counting(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        return renew(*given)

    behind.renew = counting  # type: ignore[method-assign]
    wide = (Demand("tenant:wide", Limits(tokens_per_day=10_000_000)),)
    ledger = AskedLedger(behind)
    futures = [ledger.ask(wide, 100, 0, START) for _ in range(64)]
    assert all(isinstance(future.result(timeout=10), Reservation) for future in futures)
    assert calls < 20
    ledger.close()


def _spec(service: Service) -> Any:
    from inhouse.config import RedisSpec

    return RedisSpec(url=service.url, timeout=5.0)
