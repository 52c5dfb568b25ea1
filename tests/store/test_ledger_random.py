"""Any order of reservations, settlements, crashes and clocks that jump: conserved, never exceeded, all given back."""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inhouse.store.ledger import Demand, Ledger, Limits, Now, Refusal, Reservation
from inhouse.store.ledger_leased import LeasedLedger
from inhouse.store.ledger_memory import MemoryLedger
from inhouse.store.ledger_sqlite import SqliteLedger
from ledgers import redis_ledger
from services import Service, redis_server

SECOND = 1_000_000
DAY = 86_400 * SECOND
LIMITS = {
    "tenant:a": Limits(6, 200, 500, 900, 600, 1000, 3),
    "key:k": Limits(None, 120, None, 700, None, None, 2),
    "model:m": Limits(5, None, 400, None, 300, None, None),
}
CHOICES = (("tenant:a",), ("tenant:a", "key:k"), ("tenant:a", "key:k", "model:m"), ("model:m",))


class Model:
    """One scope as a plain list of everything that happened to it. Times are true ones, which never jump."""

    def __init__(self) -> None:
        self.let_in: list[int] = []
        self.spent: list[tuple[int, int]] = []
        self.days: dict[int, list[int]] = {}
        self.months: dict[int, list[int]] = {}
        self.open: dict[tuple[int, int], Reservation] = {}


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.true_us = 10_000 * SECOND
        self.wall_ahead_us = 20_089 * DAY  # 2025-01-01
        self.models = {scope: Model() for scope in LIMITS}
        self.holders: dict[tuple[int, int], Reservation] = {}
        self.ledgers: list[Ledger] = self.opened()

    def opened(self) -> list[Ledger]:
        return [MemoryLedger()]

    @property
    def now(self) -> Now:
        return Now(self.wall_ahead_us + self.true_us, self.true_us)

    @property
    def today(self) -> int:
        return self.now.wall_us // DAY

    @rule(
        process=st.integers(0, 1), scopes=st.sampled_from(CHOICES), tokens=st.integers(0, 90), money=st.integers(0, 90)
    )
    def reserve(self, process: int, scopes: tuple[str, ...], tokens: int, money: int) -> None:
        process %= len(self.ledgers)
        demands = [Demand(scope, LIMITS[scope]) for scope in scopes]
        answer = self.ledgers[process].reserve(demands, tokens, money, self.now)
        if isinstance(answer, Refusal):
            assert any(self.might_not_fit(scope, tokens, money) for scope in scopes), answer
            return
        self.holders[process, answer.number] = answer
        for scope in scopes:
            model = self.models[scope]
            model.let_in.append(self.true_us)
            model.open[process, answer.number] = answer
            model.days.setdefault(self.today, [0, 0])
            model.months.setdefault(self.month_of(self.today), [0, 0])

    @precondition(lambda self: self.holders)
    @rule(which=st.integers(0, 99), percent=st.integers(0, 120))
    def settle(self, which: int, percent: int) -> None:
        process, number = sorted(self.holders)[which % len(self.holders)]
        reservation = self.holders.pop((process, number))
        tokens, money = reservation.tokens * percent // 100, reservation.money * percent // 100
        for _ in range(2):
            self.ledgers[process].settle(reservation, tokens, money, self.now)
        self.charge(process, reservation, min(tokens, reservation.tokens), min(money, reservation.money))

    @rule(seconds=st.sampled_from([0.001, 0.9, 7.0, 30.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.true_us += round(seconds * SECOND)

    @rule(days=st.sampled_from([0, 1, 2, 31]))
    def set_the_wall_clock(self, days: int) -> None:
        self.wall_ahead_us = (20_089 + days) * DAY

    @invariant()
    def no_limit_is_exceeded(self) -> None:
        for scope, model in self.models.items():
            limits = LIMITS[scope]
            open_tokens = sum(reservation.tokens for reservation in model.open.values())
            since = self.true_us - 60 * SECOND
            spent = sum(tokens for at, tokens in model.spent if at > since) + open_tokens
            assert sum(at > since for at in model.let_in) <= (limits.requests_per_minute or 10**9)
            assert spent <= (limits.tokens_per_minute or 10**9)
            assert len(model.open) <= (limits.concurrent_requests or 10**9)
            for day, (tokens, money) in model.days.items():
                held = [r for r in model.open.values() if r.day == day]
                assert tokens + sum(r.tokens for r in held) <= (limits.tokens_per_day or 10**9)
                assert money + sum(r.money for r in held) <= (limits.money_per_day or 10**9)
            for number, (tokens, money) in model.months.items():
                held = [r for r in model.open.values() if self.month_of(r.day) == number]
                assert tokens + sum(r.tokens for r in held) <= (limits.tokens_per_month or 10**9)
                assert money + sum(r.money for r in held) <= (limits.money_per_month or 10**9)

    @invariant()
    def nothing_is_lost(self) -> None:
        for scope, model in self.models.items():
            live, held = self.ledgers[0].live(scope, self.now), model.open.values()
            assert live["concurrent_requests"].held == len(held)
            assert live["tokens_per_minute"].held == sum(reservation.tokens for reservation in held)
            today = [r for r in held if r.day == self.today]
            tokens, money = model.days.get(self.today, [0, 0])
            assert live["tokens_per_day"] == (tokens, sum(r.tokens for r in today))
            assert live["money_per_day"] == (money, sum(r.money for r in today))
            this_month = [r for r in held if self.month_of(r.day) == self.month_of(self.today)]
            tokens, _ = model.months.get(self.month_of(self.today), [0, 0])
            assert live["tokens_per_month"] == (tokens, sum(r.tokens for r in this_month))

    def teardown(self) -> None:
        """Everything that is held can be given back, and then nothing is held."""
        for (process, _), reservation in self.holders.items():
            self.ledgers[process].settle(reservation, 0, 0, self.now)
        for ledger in self.ledgers:
            ledger.live("tenant:a", self.now)  # those with leases give back what lies idle
        for scope in LIMITS:
            assert {use.held for use in self.ledgers[0].live(scope, self.now).values()} == {0}
        for ledger in self.ledgers:
            ledger.close()

    def month_of(self, day: int) -> int:
        return (day - 20_089) // 31  # the machine knows only days from January 1 to February 1

    def charge(self, process: int, reservation: Reservation, tokens: int, money: int) -> None:
        for scope in reservation.scopes:
            model = self.models[scope]
            del model.open[process, reservation.number]
            model.spent.append((self.true_us, tokens))
            for sums in (model.days[reservation.day], model.months[self.month_of(reservation.day)]):
                sums[0] += tokens
                sums[1] += money

    def might_not_fit(self, scope: str, tokens: int, money: int) -> bool:
        """Whether a refusal is right, where windows may err by the second for which they keep one entry."""
        model, limits = self.models[scope], LIMITS[scope]
        since = self.true_us - 61 * SECOND
        held = model.open.values()
        spent = sum(amount for at, amount in model.spent if at >= since) + sum(r.tokens for r in held)
        day, month_number = self.today, self.month_of(self.today)
        in_day = [r for r in held if r.day == day]
        in_month = [r for r in held if self.month_of(r.day) == month_number]
        sums, months = model.days.get(day, [0, 0]), model.months.get(month_number, [0, 0])
        uses = (
            (sum(at >= since for at in model.let_in) + 1, limits.requests_per_minute),
            (spent + tokens, limits.tokens_per_minute),
            (len(held) + 1, limits.concurrent_requests),
            (sums[0] + sum(r.tokens for r in in_day) + tokens, limits.tokens_per_day),
            (sums[1] + sum(r.money for r in in_day) + money, limits.money_per_day),
            (months[0] + sum(r.tokens for r in in_month) + tokens, limits.tokens_per_month),
            (months[1] + sum(r.money for r in in_month) + money, limits.money_per_month),
        )
        return any(limit is not None and use > limit for use, limit in uses)


class TwoProcesses(Machine):
    """Two ledgers on one file; one of them ends with what it holds, as a killed process does."""

    def opened(self) -> list[Ledger]:
        self.folder = tempfile.TemporaryDirectory()
        return [SqliteLedger(Path(self.folder.name)), SqliteLedger(Path(self.folder.name))]

    @rule()
    def crash(self) -> None:
        self.ledgers[1].close()
        left = [reservation for (process, _), reservation in self.holders.items() if process == 1]
        assert self.ledgers[0].sweep(self.now) == len(left)
        for reservation in left:
            del self.holders[1, reservation.number]
            self.charge(1, reservation, reservation.tokens, reservation.money)
        self.ledgers[1] = SqliteLedger(Path(self.folder.name))
        assert self.ledgers[1].sweep(self.now) == 0

    def teardown(self) -> None:
        super().teardown()
        self.folder.cleanup()


class Leased(Machine):
    """Requests are served out of a lease; the ledger behind learns of it now and then."""

    def opened(self) -> list[Ledger]:
        return [LeasedLedger(MemoryLedger(), part=1)]

    def nothing_is_lost(self) -> None:
        """Looked at now and then only, for a look gives back what lies idle."""

    @rule()
    def sweep(self) -> None:
        for ledger in self.ledgers:
            ledger.sweep(self.now)

    @rule(seconds=st.sampled_from([0.001, 0.9, 7.0, 30.0, 61.0]))
    def wait(self, seconds: float) -> None:
        """Nobody waits long without a sweep: the owner sees to one every second."""
        self.sweep()
        super().wait(seconds)

    @rule()
    def look(self) -> None:
        Machine.nothing_is_lost(self)


class TwoLeased(Leased):
    """Two processes, each with leases of its own; one of them ends with what its leases hold."""

    def opened(self) -> list[Ledger]:
        self.folder = tempfile.TemporaryDirectory()
        return [LeasedLedger(SqliteLedger(Path(self.folder.name)), part=2) for _ in range(2)]

    @rule()
    def look(self) -> None:
        for ledger in self.ledgers:
            ledger.live("tenant:a", self.now)  # which gives back what lies idle
        super().look()

    @rule()
    def crash(self) -> None:
        """What lay idle in its leases is lost to everybody; what it had let in goes on to be counted."""
        for scope in LIMITS:
            self.ledgers[1].live(scope, self.now)
        self.ledgers[1].close()
        self.ledgers[0].sweep(self.now)
        for (process, number), reservation in list(self.holders.items()):
            if process == 1:
                del self.holders[process, number]
                self.charge(1, reservation, reservation.tokens, reservation.money)
        self.ledgers[1] = LeasedLedger(SqliteLedger(Path(self.folder.name)), part=2)

    def might_not_fit(self, scope: str, tokens: int, money: int) -> bool:
        return True  # what lies idle in the other process may stand in the way

    def teardown(self) -> None:
        super().teardown()
        self.folder.cleanup()


class TwoGateways(Machine):
    """Two gateways on one Redis; one of them falls silent with what it holds and is charged when its lease runs out."""

    lease_s = 500.0

    def opened(self) -> list[Ledger]:
        self.prefix = secrets.token_hex(6)
        return [self.one(), self.one()]

    def one(self) -> Ledger:
        return redis_ledger(server(), prefix=self.prefix, lease_s=self.lease_s)

    @rule(seconds=st.sampled_from([0.001, 0.9, 7.0, 30.0, 61.0]))
    def wait(self, seconds: float) -> None:
        super().wait(seconds)
        for ledger in self.ledgers:
            ledger.sweep(self.now)

    @rule()
    def crash(self) -> None:
        left = [reservation for (process, _), reservation in self.holders.items() if process == 1]
        for reservation in left:  # what they used they used before
            del self.holders[1, reservation.number]
            self.charge(1, reservation, reservation.tokens, reservation.money)
        self.ledgers[1].close()
        self.ledgers[1] = self.one()
        for _ in range(5):
            self.wait(self.lease_s / 4)
        for scope in LIMITS:
            self.ledgers[0].live(scope, self.now)
        self.wait(61.0)  # the ledger charged it later, and later than that nothing is left of it in a minute


class TwoLeasedGateways(TwoGateways):
    """The same, with requests served out of leases."""

    def one(self) -> Ledger:
        return LeasedLedger(super().one(), part=2)

    def nothing_is_lost(self) -> None:
        """Looked at now and then only, for a look gives back what lies idle."""

    @rule()
    def look(self) -> None:
        for ledger in self.ledgers:
            ledger.live("tenant:a", self.now)
        Machine.nothing_is_lost(self)

    @rule()
    def crash(self) -> None:
        for scope in LIMITS:
            self.ledgers[1].live(scope, self.now)
        super().crash()

    def might_not_fit(self, scope: str, tokens: int, money: int) -> bool:
        return True  # what lies idle in the other gateway may stand in the way


_servers = contextlib.ExitStack()


def server() -> Service:
    """One Redis for all machines, ended with the suite."""
    if not hasattr(_servers, "made"):
        folder = Path(_servers.enter_context(tempfile.TemporaryDirectory()))
        _servers.made = _servers.enter_context(redis_server(folder))  # type: ignore[attr-defined]
    return _servers.made  # type: ignore[attr-defined, no-any-return]


@pytest.fixture(scope="module", autouse=True)
def _ended() -> Iterator[None]:
    yield
    _servers.close()


TestInOneProcess = Machine.TestCase
TestInOneProcess.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestInTwoProcesses = TwoProcesses.TestCase
TestInTwoProcesses.settings = settings(max_examples=15, stateful_step_count=30, deadline=None)
TestLeased = Leased.TestCase
TestLeased.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestTwoLeased = TwoLeased.TestCase
TestTwoLeased.settings = settings(max_examples=15, stateful_step_count=30, deadline=None)
TestTwoGateways = TwoGateways.TestCase
TestTwoGateways.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestTwoLeasedGateways = TwoLeasedGateways.TestCase
TestTwoLeasedGateways.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
