"""Quotas of a running gateway: what a request may use is held before it starts, and settled when it ends in any way.

Theory of operation. `reserve` gives a `Hold`, a context manager: leaving it settles. Who does not say what was used
pays the whole bound. A settlement that cannot be written is kept and tried again by `flush`; until then the ledger goes
on holding the bound, so a full disk makes limits tighter, never wider. A reservation that cannot be written is a 503.

What was used is counted for everybody, with limits or without, in memory; `flush`, called about once a second, writes
it in one transaction. `close` writes the rest. A process that is killed loses the last second of these counts; limits
lose nothing.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from inhouse.config import Stack
from inhouse.core import Identity, Usage
from inhouse.errors import StateError, StateUnavailable
from inhouse.store.ledger import Ledger, Now, Refusal, Reservation, UsageRow
from inhouse.store.ledger_account import DAY_US
from inhouse.store.ledger_asked import Answer, AskedLedger
from inhouse.store.ledger_leased import LeasedLedger
from inhouse.store.ledger_purse import Purse
from inhouse.store.moment import now
from inhouse.tenancy.limits import Bound, Terms, check_fits, rate_lines, refusal_error, terms
from inhouse.tenancy.prices import FREE

TERMS_REMEMBERED_MAX = 10_000
_RETRY_S = 5.0


@dataclass(slots=True, eq=False)
class Hold:
    """What one request holds since `at`. Settled once, by `settle` or by leaving the block.

    `reservation` is None where nothing limits the request; `money` is what it came to, in millionths, once it is
    settled.
    """

    quotas: Quotas
    identity: Identity
    model: str
    terms: Terms
    bound: Bound
    reservation: Reservation | None
    at: Now
    settled: bool = False
    money: int = 0

    @property
    def lines(self) -> bytes:
        """Where the limits per minute stood when the request was let in, in OpenAI's form: lines for its response."""
        held = self.reservation
        return b"" if held is None else rate_lines(held.requests_rate, held.tokens_rate)

    def settle(self, used: Usage) -> None:
        """Charges what was used and gives back the rest. Never raises; a second time changes nothing."""
        if self.settled:
            return
        self.settled = True
        price = self.terms.price
        money = self.money = 0 if price is FREE else price.cost(used)
        if self.reservation is not None:
            self.quotas.settle(self.reservation, used.prompt_tokens + used.completion_tokens, money)
        self.quotas.count(self.at.wall_us // DAY_US, self.identity, self.model, used, money)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.settle(self.bound.usage)


class Quotas:
    """The limits of a stack, kept by a ledger. Raises `StateError` where the ledger cannot be written at the start."""

    def __init__(
        self,
        stack: Stack,
        ledger: Ledger,
        *,
        clock: Callable[[], Now] = now,
        tell: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """`tell` hears why the ledger failed whenever it does."""
        self._tell = tell
        self._stack = stack
        self._ledger = ledger
        self._asked = ledger if isinstance(ledger, AskedLedger) else None
        self.at_hand = self._asked is None
        """Nothing has to be asked over a network: `reserve` is as good as `reserve_soon`."""
        self._lender = ledger.lender if isinstance(ledger, AskedLedger | LeasedLedger) else None
        self.now = self._clock = clock
        self._terms: dict[tuple[str, str, str], tuple[Identity, Terms]] = {}
        self._unsettled: list[tuple[Reservation, int, int]] = []
        self._counts: dict[tuple[int, str, str, str], list[int]] = {}
        self.held = 0
        """Reservations of this process that are not settled yet."""
        self.overruns = 0
        """Requests that used more than their bound: a bound that does not hold. The rest was not charged."""
        self.unchecked = 0
        """Requests that were let in without a look at their limits, since nobody could look."""
        ledger.sweep(clock())

    def reserve(self, identity: Identity, model: str, bound: Bound, agreed: Terms | None = None) -> Hold:
        """Holds what the request may use at most; `agreed` are its terms, where the caller has them already.

        Raises `Forbidden` (the model), `RequestExceedsQuota`, `RateLimited`, `QuotaExceeded`, `StateUnavailable`.
        """
        agreed = agreed or self.terms(identity, model)
        at = self._clock()
        if not agreed.demands:
            return Hold(self, identity, model, agreed, bound, None, at)
        money = self._money(agreed, bound)
        answer: Answer | None
        try:
            answer = self._ledger.reserve(agreed.demands, bound.tokens, money, at)
        except StateError as error:
            answer = self._without(error)
        return self._hold(identity, model, agreed, bound, answer, at)

    def lend(self, agreed: Terms, tokens: int, at: Now) -> Purse | None:
        """As `reserve`, where this process can let a request in by itself that costs no money; None where it cannot.

        Without a hold: the request ends by `restore`, or with what `hold` makes of it.
        """
        lender, most = self._lender, agreed.tokens_max
        if lender is None or agreed.price is not FREE or (most is not None and tokens > most):
            return None
        purse = lender.lend(agreed.demands, tokens, at)
        if purse is not None:
            self.held += 1
        return purse

    def restore(self, purse: Purse, held: int, tokens: int, at_us: int) -> None:
        """The request took so many tokens of those `held`, as it is over `at_us` on the steady clock."""
        if tokens > held:
            self.overruns += 1
        if self._lender is not None:
            self._lender.restore(purse, held, tokens, at_us)
            self.held -= 1

    def hold(self, identity: Identity, model: str, agreed: Terms, bound: Bound, purse: Purse | None, at: Now) -> Hold:
        """What was lent `at` that moment, as a hold."""
        held = None
        if purse is not None and self._lender is not None:
            held = self._lender.reservation(purse, bound.tokens)
        return Hold(self, identity, model, agreed, bound, held, at)

    async def reserve_soon(self, identity: Identity, model: str, bound: Bound, agreed: Terms) -> Hold:
        """The same, for a ledger that may have to be asked over a network: nobody else waits for it."""
        ledger = self._asked
        if ledger is None or not agreed.demands:
            return self.reserve(identity, model, bound, agreed)
        money, at = self._money(agreed, bound), self._clock()
        answer: Answer | None = ledger.at_hand(agreed.demands, bound.tokens, money, at)
        if answer is None:
            future = ledger.ask(agreed.demands, bound.tokens, money, at)
            try:
                answer = await asyncio.wrap_future(future)
            except asyncio.CancelledError:
                if not future.cancel():  # it is answered already, or in this moment
                    future.add_done_callback(functools.partial(self._put_back, at))
                raise
            except StateError as error:
                answer = self._without(error)
        return self._hold(identity, model, agreed, bound, answer, at)

    @staticmethod
    def _money(agreed: Terms, bound: Bound) -> int:
        """What is to be held at most. Raises `RequestExceedsQuota` where the request can never be let in."""
        price, most = agreed.price, agreed.tokens_max
        money = 0 if price is FREE else price.cost_max(bound.prompt_tokens, bound.completion_tokens * bound.answers)
        if money or (most is not None and bound.tokens > most):
            check_fits(agreed, bound, money)
        return money

    def _hold(
        self, identity: Identity, model: str, agreed: Terms, bound: Bound, answer: Answer | None, at: Now
    ) -> Hold:
        if isinstance(answer, Refusal):
            raise refusal_error(answer, bound, agreed.currency)
        if answer is not None:
            self.held += 1
        return Hold(self, identity, model, agreed, bound, answer, at)

    def _without(self, error: StateError) -> Answer | None:
        """The ledger cannot say: the request is refused, or goes on without a hold where the stack has it so."""
        self._tell(error.message)
        if self._stack.store.away.quotas == "fail_open":
            self.unchecked += 1
            return None
        raise StateUnavailable(
            "limits cannot be checked now, the gateway cannot reach or write its state; its log says why",
            retry_after_s=_RETRY_S,
        ) from error

    def _put_back(self, at: Now, future: Future[Answer]) -> None:
        if future.cancelled() or future.exception() is not None:
            return
        answer = future.result()
        if not isinstance(answer, Refusal):
            self._ledger.settle(answer, 0, 0, at)

    def terms(self, identity: Identity, model: str) -> Terms:
        """What holds for this caller and model. Raises `Forbidden`.

        `tokens_max` is what a request without `max_tokens` should be cut to, prompt and answers together.
        """
        place = (identity.tenant, identity.key_id, model)
        known = self._terms.get(place)
        if known is not None and (known[0] is identity or known[0] == identity):  # its key may have changed meanwhile
            return known[1]
        if len(self._terms) >= TERMS_REMEMBERED_MAX:
            self._terms.clear()
        agreed = terms(self._stack, identity, model)
        self._terms[place] = identity, agreed
        return agreed

    def settle(self, reservation: Reservation, tokens: int, money: int) -> None:
        """For `Hold`."""
        if tokens > reservation.tokens or money > reservation.money:
            self.overruns += 1
        try:
            self._ledger.settle(reservation, tokens, money, self._clock())
            self.held -= 1
        except StateError as error:
            self._tell(error.message)
            self._unsettled.append((reservation, tokens, money))

    def count(self, day: int, identity: Identity, model: str, used: Usage, money: int) -> None:
        """For `Hold`."""
        place = (day, identity.tenant, identity.key_id, model)
        sums = self._counts.get(place)
        if sums is None:
            sums = self._counts[place] = [0, 0, 0, 0, 0]
        sums[0] += 1
        sums[1] += used.prompt_tokens
        sums[2] += used.cached_tokens
        sums[3] += used.completion_tokens
        sums[4] += money

    def flush(self) -> None:
        """Sees to what dead processes left, settles what could not be settled, writes what was counted.

        Raises `StateError`; what was not written stays for the next time.
        """
        self._ledger.sweep(self._clock())
        while self._unsettled:
            reservation, tokens, money = self._unsettled[0]
            self._ledger.settle(reservation, tokens, money, self._clock())
            self.held -= 1
            del self._unsettled[0]
        if self._counts:
            self._ledger.count(UsageRow(*place, *sums) for place, sums in self._counts.items())
            self._counts.clear()

    def close(self) -> None:
        """The last flush. Raises `StateError`; the ledger is closed by whoever made it."""
        self.flush()
