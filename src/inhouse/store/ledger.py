"""What every ledger of quotas promises, whatever keeps it: amounts are reserved before a request and settled after it.

Scopes are whatever limits are set for (`tenant:acme`, `key:k4w7qd2mzp`, `model:chat`). For each of them, at every
moment and under every interleaving, used + held ≤ limit. Tokens and money are whole numbers; money is in millionths of
the currency of the stack.

What counts where:
- A request counts for `requests_per_minute` from the moment it is let in, for exactly 60 s, whatever becomes of it.
- Tokens count for `tokens_per_minute` while they are held, and for 60 s from the moment they are settled.
- Days and months are those of UTC. What was reserved in one of them is settled in that one, however late.

Not here: who has which limits and what a refusal says (`tenancy/`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

LimitName = Literal[
    "requests_per_minute",
    "tokens_per_minute",
    "tokens_per_day",
    "tokens_per_month",
    "money_per_day",
    "money_per_month",
    "concurrent_requests",
]


class Now(msgspec.Struct, frozen=True, gc=False):
    """One moment on two clocks: days and months follow the wall, minutes a clock that nobody can set.

    `steady_us` is that of CLOCK_MONOTONIC, the same in every process of a machine until it is started again.
    """

    wall_us: int
    steady_us: int


class Limits(msgspec.Struct, frozen=True):
    """What one scope may use; None is without limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    tokens_per_month: int | None = None
    money_per_day: int | None = None
    money_per_month: int | None = None
    concurrent_requests: int | None = None


class Amounts(msgspec.Struct, frozen=True, gc=False):
    """What requests take of a scope's limits: requests let in, places in flight, tokens, money."""

    requests: int = 0
    open: int = 0
    tokens: int = 0
    money: int = 0

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(
            self.requests + other.requests,
            self.open + other.open,
            self.tokens + other.tokens,
            self.money + other.money,
        )

    def __sub__(self, other: Amounts) -> Amounts:
        return Amounts(
            self.requests - other.requests,
            self.open - other.open,
            self.tokens - other.tokens,
            self.money - other.money,
        )

    def least(self, other: Amounts) -> Amounts:
        """The smaller one of each."""
        return Amounts(
            min(self.requests, other.requests),
            min(self.open, other.open),
            min(self.tokens, other.tokens),
            min(self.money, other.money),
        )


NONE = Amounts()


class Demand(msgspec.Struct, frozen=True):
    """A scope that a request counts for, and its limits."""

    scope: str
    limits: Limits


class Rate(msgspec.Struct, frozen=True, gc=False):
    """Where a limit per minute stands: what is left, and when all of it is there again if nobody asks for more."""

    limit: int
    remaining: int
    reset_us: int


class Reservation(msgspec.Struct, frozen=True, gc=False):
    """What a request holds until it is settled. `requests` and `tokens_rate` are the tightest of its scopes."""

    number: int
    scopes: tuple[str, ...]
    day: int
    tokens: int
    money: int
    requests_rate: Rate | None = None
    tokens_rate: Rate | None = None


class Shortage(msgspec.Struct, frozen=True):
    """A limit that does not let a request in.

    `retry_after_us`: when what is settled by now leaves room. Exact for a caller that is alone; where requests in
    flight hold the rest (`held_by_others`), nobody knows when they end, and it is a guess.
    """

    scope: str
    name: LimitName
    limit: int
    used: int
    held: int
    asked: int
    retry_after_us: int
    held_by_others: bool


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing was reserved. `shortages` has at least one; all of them leave room after `retry_after_us`."""

    shortages: tuple[Shortage, ...]
    retry_after_us: int
    requests_rate: Rate | None = None
    tokens_rate: Rate | None = None


class Use(NamedTuple):
    """How much of a limit is used, and how much more is held by requests in flight."""

    used: int
    held: int


class UsageRow(msgspec.Struct, frozen=True):
    """What one key used of one model on one day (days since 1970-01-01, UTC)."""

    day: int
    tenant: str
    key_id: str
    model: str
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    money: int = 0


class UsageFilter(msgspec.Struct, frozen=True):
    """Days are inclusive; None takes all."""

    since_day: int | None = None
    until_day: int | None = None
    tenant: str | None = None
    key_id: str | None = None
    model: str | None = None


class Renewal(msgspec.Struct, frozen=True, kw_only=True):
    """What changes in a lease: an amount that one process may hand out to requests by itself.

    `number` 0 makes a new lease; one that holds nothing any more ends. A lease belongs to the `day` it was made in and
    grows on that day only.
    """

    number: int
    demands: tuple[Demand, ...]
    day: int
    held: Amounts = NONE
    """What the lease holds before."""
    spent: Amounts = NONE
    """Of it, what requests have used; the last of them at `spent_us`, on the steady clock."""
    spent_us: int = 0
    freed: Amounts = NONE
    """Of it, what is given back."""
    need: Amounts = NONE
    """What one request needs on top: granted whole, or refused."""
    want: Amounts = NONE
    """What would be good to have beyond that: granted as far as it is no more than one `part`-th of what is left."""
    part: int = 8


class Renewed(msgspec.Struct, frozen=True, kw_only=True):
    """`number` 0: the lease is not known any more, and nothing is held by it."""

    number: int
    granted: Amounts
    requests_rate: Rate | None = None
    tokens_rate: Rate | None = None
    until_us: int | None = None
    """On the caller's steady clock: after it the ledger may have charged the lease, unless it is renewed."""


class Ledger(Protocol):
    """Safe to use from several threads. Every method may raise `StateError`; then nothing has changed."""

    def reserve(self, demands: Sequence[Demand], tokens: int, money: int, now: Now) -> Reservation | Refusal:
        """Holds one request of at most so many tokens and so much money in every scope, or in none of them."""

    def settle(self, reservation: Reservation, tokens: int, money: int, now: Now) -> None:
        """Gives back what was held and not used. Once: a second time changes nothing.

        What was used beyond the reservation is not charged: a bound that does not hold must not break a limit.
        """

    def sweep(self, now: Now) -> int:
        """Charges in full what processes that are no more had reserved; how many reservations. To be called often."""

    def live(self, scope: str, now: Now) -> dict[LimitName, Use]:
        """Where a scope stands, by limit, whether one is set or not."""

    def count(self, rows: Iterable[UsageRow]) -> None:
        """Adds to what was used; all rows or none."""

    def usage(self, wanted: UsageFilter) -> tuple[UsageRow, ...]:
        """What was counted, the oldest day first."""

    def renew(self, renewals: Sequence[Renewal], now: Now) -> list[Renewed | Refusal]:
        """All of them in one step; a refusal leaves that renewal's `spent` and `freed` done."""

    def close(self) -> None:
        """What is still reserved is charged in full by the next sweep of another process."""
