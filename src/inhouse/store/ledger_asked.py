"""Leases on a ledger that is reached over a network, for an event loop that must not wait for it.

Theory of operation. Requests are served out of purses, as by `ledger_leased`; that takes microseconds and no network.
What a purse lacks is asked for by one thread, in rounds: it takes all who wait, asks for all of their purses in one
round trip, lets in whom it can and goes on with the rest. So a slow ledger makes some requests wait, each other one and
every stream goes on, and the more wait the more share a round trip.

- In a round the first who waits at a purse gets what it needs, or is refused; with it are refused all who wait there
  and need at least as much. What the others need is asked for as what would be good to have.
- A refusal counts only after all purses of this process have given back what lies idle.
- Once a second (`sweep`) the thread tells what was spent, gives back what is not needed, and lets the ledger know that
  this gateway lives. While the ledger is away purses go on handing out what they have, until their leases end.

Whoever waits for an answer and goes away (a client that hangs up) has what it was granted put back.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast

from inhouse.errors import StateError
from inhouse.store.ledger import (
    Amounts,
    Demand,
    Ledger,
    LimitName,
    Now,
    Refusal,
    Renewal,
    Renewed,
    Reservation,
    UsageFilter,
    UsageRow,
    Use,
)
from inhouse.store.ledger_lender import Lender
from inhouse.store.ledger_purse import Purse, Purses

_T = TypeVar("_T")
_CLOSE_S_MAX = 5.0
Answer = Reservation | Refusal


class RemoteLedger(Ledger, Protocol):
    def now(self) -> Now: ...


@dataclass(slots=True)
class _Ask:
    demands: Sequence[Demand]
    tokens: int
    money: int
    now: Now
    future: Future[Answer] = field(default_factory=Future)

    def needs_at_least(self, other: _Ask) -> bool:
        return self.tokens >= other.tokens and self.money >= other.money


class AskedLedger:
    """A `Ledger` in front of `ledger`, which it closes. `at_hand`, `settle` and `sweep` never wait.

    `part` as of `LeasedLedger`.
    """

    def __init__(self, ledger: RemoteLedger, *, part: int = 8) -> None:
        self.now = ledger.now
        self._ledger = ledger
        self._part = part
        self._lock = threading.Lock()
        self._news = threading.Condition()
        self._purses = Purses()
        self.lender = Lender(self._lock, self._purses)
        self._asks: deque[_Ask] = deque()
        self._jobs: deque[Callable[[], None]] = deque()
        self._swept: Now | None = None
        self._ended = False
        self._trouble = ""
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """Why the ledger could not be asked the last time; "" where it could."""
        return self._trouble

    def at_hand(self, demands: Sequence[Demand], tokens: int, money: int, now: Now) -> Reservation | None:
        """Lets the request in where a purse covers it. None: `ask`."""
        with self._lock:
            purse = self._purses.of(demands, now)
            if not purse.covers(tokens, money, now.steady_us):
                return None
            return self._purses.let_in(purse, tokens, money, now)

    def ask(self, demands: Sequence[Demand], tokens: int, money: int, now: Now) -> Future[Answer]:
        """The answer to come; it may raise `StateError`. One that is cancelled in time is put back."""
        ask = _Ask(demands, tokens, money, now)
        self._tell(lambda: self._asks.append(ask))
        return ask.future

    def reserve(self, demands: Sequence[Demand], tokens: int, money: int, now: Now) -> Answer:
        """Waits for the answer: not for an event loop."""
        return self.at_hand(demands, tokens, money, now) or self.ask(demands, tokens, money, now).result()

    def settle(self, reservation: Reservation, tokens: int, money: int, now: Now) -> None:
        with self._lock:
            self._purses.put_back(reservation, tokens, money, now)

    def sweep(self, now: Now) -> int:
        """Has the thread do it, soon; so nothing can be said of what it finds."""

        def note() -> None:
            self._swept = now

        self._tell(note)
        return 0

    def live(self, scope: str, now: Now) -> dict[LimitName, Use]:
        def look() -> dict[LimitName, Use]:
            self._flush(now, idle=True)
            return self._ledger.live(scope, now)

        return self._do(look)

    def count(self, rows: Iterable[UsageRow]) -> None:
        self._ledger.count(rows)

    def usage(self, wanted: UsageFilter) -> tuple[UsageRow, ...]:
        return self._ledger.usage(wanted)

    def renew(self, renewals: Sequence[Renewal], now: Now) -> list[Renewed | Refusal]:
        return self._do(lambda: self._ledger.renew(renewals, now))

    def close(self) -> None:
        """Gives back what lies idle; waits `_CLOSE_S_MAX` for it at most."""

        def end() -> None:
            self._ended = True

        self._tell(end)
        self._thread.join(_CLOSE_S_MAX)

    def _tell(self, note: Callable[[], None]) -> None:
        with self._news:
            note()
            self._news.notify()

    def _do(self, work: Callable[[], _T]) -> _T:
        """In the thread, after all that it was told before."""
        future: Future[Any] = Future()

        def job() -> None:
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - it is raised where somebody waits for it
                future.set_exception(error)

        self._tell(lambda: self._jobs.append(job))
        return cast(_T, future.result())

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._asks or self._jobs or self._swept or self._ended)
                asks, self._asks = list(self._asks), deque()
                jobs, self._jobs = list(self._jobs), deque()
                swept, self._swept, ended = self._swept, None, self._ended
            if asks:
                self._answer(asks)
            if swept is not None:
                self._see_to_it(lambda now=swept: self._sweep(now))  # type: ignore[misc]
            for job in jobs:
                job()
            if ended:
                self._see_to_it(lambda: self._flush(self.now(), idle=True))
                self._ledger.close()
                return

    def _see_to_it(self, work: Callable[[], None]) -> None:
        try:
            work()
            self._trouble = ""
        except Exception as error:  # noqa: BLE001 - the thread goes on
            self._trouble = _told(error)

    def _sweep(self, now: Now) -> None:
        self._flush(now, idle=False)
        self._ledger.sweep(now)

    def _flush(self, now: Now, *, idle: bool) -> None:
        with self._lock:
            found = self._purses.to_flush(idle=idle, keep=bool(self._trouble) and not idle)
            changes = [(purse, purse.renewal()) for purse in found]
        self._renew(changes, now)
        with self._lock:
            self._purses.rest()

    def _answer(self, asks: list[_Ask]) -> None:
        try:
            while asks:
                asks = self._round(asks)
            self._trouble = ""
        except Exception as error:  # noqa: BLE001 - who waits must hear of it, and the thread goes on
            self._trouble = _told(error)
            self._fail(asks, error)

    def _round(self, asks: list[_Ask]) -> list[_Ask]:
        """Those who still wait after one round trip, or two where some were refused."""
        with self._lock:
            waiting = self._let_in(asks)
            changes = []
            for purse, its in waiting.items():
                need, want = purse.lacks(its[0].tokens, its[0].money), purse.taken.now()
                for other in its[1:]:
                    want += Amounts(1, 1, other.tokens, other.money)
                changes.append((purse, purse.renewal(need=need, want=want, part=self._part)))
        moments = [ask.now for its in waiting.values() for ask in its]
        if not moments:
            return []
        now = max(moments, key=lambda moment: moment.steady_us)
        answers = self._renew(changes, now, let_in=waiting)
        if any(isinstance(answer, Refusal) for answer in answers):
            with self._lock:
                idle = self._purses.free_idle()
                freed = [(purse, purse.renewal()) for purse in idle]
            self._renew(freed, now)
            refused = [
                purse for (purse, _), answer in zip(changes, answers, strict=True) if isinstance(answer, Refusal)
            ]
            with self._lock:
                again = [
                    (purse, purse.renewal(need=purse.lacks(waiting[purse][0].tokens, waiting[purse][0].money)))
                    for purse in refused
                    if waiting[purse]
                ]
            answers = self._renew(again, now, let_in=waiting)
            for (purse, _), answer in zip(again, answers, strict=True):
                if isinstance(answer, Refusal):
                    first = waiting[purse][0]
                    for ask in [one for one in waiting[purse] if one.needs_at_least(first)]:
                        waiting[purse].remove(ask)
                        _deliver(ask, answer)
        return [ask for its in waiting.values() for ask in its]

    def _renew(
        self,
        changes: Sequence[tuple[Purse, Renewal]],
        now: Now,
        *,
        let_in: dict[Purse, list[_Ask]] | None = None,
    ) -> list[Renewed | Refusal]:
        """Those of `let_in` who are covered then leave it, before anybody else can take what was granted for them."""
        if not changes:
            return []
        answers = self._ledger.renew([renewal for _, renewal in changes], now)
        with self._lock:
            for (purse, renewal), answer in zip(changes, answers, strict=True):
                self._purses.answered(purse, renewal, answer)
            if let_in is not None:
                for purse, _ in changes:
                    let_in[purse][:] = [ask for ask in let_in[purse] if not self._is_let_in(purse, ask)]
        return answers

    def _let_in(self, asks: Iterable[_Ask]) -> dict[Purse, list[_Ask]]:
        """Those who have to wait on, by purse."""
        waiting: dict[Purse, list[_Ask]] = {}
        for ask in asks:
            if not ask.future.cancelled():
                purse = self._purses.of(ask.demands, ask.now)
                if not self._is_let_in(purse, ask):
                    waiting.setdefault(purse, []).append(ask)
        return waiting

    def _is_let_in(self, purse: Purse, ask: _Ask) -> bool:
        if not purse.covers(ask.tokens, ask.money, ask.now.steady_us):
            return False
        reservation = self._purses.let_in(purse, ask.tokens, ask.money, ask.now)
        if not _deliver(ask, reservation):
            self._purses.put_back(reservation, 0, 0, ask.now)
        return True

    @staticmethod
    def _fail(asks: Iterable[_Ask], error: BaseException) -> None:
        for ask in asks:
            if not ask.future.done() and ask.future.set_running_or_notify_cancel():
                ask.future.set_exception(error)


def _told(error: Exception) -> str:
    return error.message if isinstance(error, StateError) else f"an internal error ({type(error).__name__})"


def _deliver(ask: _Ask, answer: Answer) -> bool:
    """False where nobody waits for it any more."""
    if not ask.future.set_running_or_notify_cancel():
        return False
    ask.future.set_result(answer)
    return True
