"""One request in the accounts of all its scopes: refused by any of them, or held in every one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from inhouse.store.ledger import (
    NONE,
    Amounts,
    Demand,
    Now,
    Rate,
    Refusal,
    Renewal,
    Renewed,
    Reservation,
    Shortage,
)
from inhouse.store.ledger_account import DAY_US, MINUTE_US, Account

Pairs = Sequence[tuple[Account, Demand]]


def advance(pairs: Pairs, now: Now) -> bool:
    """Brings the accounts to now. True where one was mended, which has to be kept whatever comes next."""
    mended = False
    for account, _ in pairs:
        mended |= account.advance(now.steady_us)
    return mended


def refuse(pairs: Pairs, need: Amounts, now: Now) -> Refusal | None:
    """Why a request cannot be let in by these accounts; None where it can. After `advance`."""
    short: list[Shortage] = []
    for account, demand in pairs:
        short += account.shortages(demand, need, now)
    if not short:
        return None
    requests_rate, tokens_rate = rates(pairs, now)
    return Refusal(
        shortages=tuple(short),
        retry_after_us=max(shortage.retry_after_us for shortage in short),
        requests_rate=requests_rate,
        tokens_rate=tokens_rate,
    )


def one_request(tokens: int, money: int) -> Amounts:
    return Amounts(requests=1, open=1, tokens=tokens, money=money)


def take(pairs: Pairs, tokens: int, money: int, now: Now, number: int) -> Reservation:
    """Lets one request in and holds the amounts in every account. After `refuse`, which said None."""
    day = now.wall_us // DAY_US
    for account, _ in pairs:
        account.hold(one_request(tokens, money), day)
        account.settle(Amounts(requests=1), NONE, day, now.steady_us)  # it counts from now on, whatever becomes of it
    requests_rate, tokens_rate = rates(pairs, now)
    return Reservation(
        number=number,
        scopes=tuple([demand.scope for _, demand in pairs]),
        day=day,
        tokens=tokens,
        money=money,
        requests_rate=requests_rate,
        tokens_rate=tokens_rate,
    )


def give_back(accounts: Iterable[Account], reservation: Reservation, tokens: int, money: int, now: Now) -> None:
    """Settles the reservation in its accounts, for at most what it holds."""
    spent = Amounts(
        tokens=max(0, min(tokens, reservation.tokens)),
        money=max(0, min(money, reservation.money)),
    )
    freed = Amounts(open=1, tokens=reservation.tokens, money=reservation.money) - spent
    for account in accounts:
        account.settle(spent, freed, reservation.day, now.steady_us)


def renew(pairs: Pairs, renewal: Renewal, now: Now) -> tuple[Amounts, Refusal | None]:
    """Changes a lease in its accounts; what it was granted. After `advance`."""
    for account, _ in pairs:
        account.settle(renewal.spent, renewal.freed, renewal.day, renewal.spent_us)
    if renewal.day != now.wall_us // DAY_US:
        return NONE, None
    refusal = refuse(pairs, renewal.need, now) if renewal.need != NONE else None
    if refusal is not None:
        return NONE, refusal
    granted = renewal.need
    if renewal.want != NONE:
        granted += renewal.want.least(spare(pairs, renewal.need, renewal.part, now))
    for account, _ in pairs:
        account.hold(granted, renewal.day)
    return granted, None


def charge_lost(pairs: Pairs, renewal: Renewal) -> None:
    """Charges what was spent of a lease that the accounts do not know any more."""
    for account, _ in pairs:
        account.hold(renewal.spent, renewal.day)
        account.settle(renewal.spent, NONE, renewal.day, renewal.spent_us)


def renewed(pairs: Pairs, number: int, granted: Amounts, now: Now) -> Renewed:
    """The answer to a renewal that was not refused."""
    requests_rate, tokens_rate = rates(pairs, now)
    return Renewed(number=number, granted=granted, requests_rate=requests_rate, tokens_rate=tokens_rate)


def spare(pairs: Pairs, need: Amounts, part: int, now: Now) -> Amounts:
    """What a lease may have beyond what one request needs."""
    rooms = [account.room(demand.limits, now) - need for account, demand in pairs]
    return Amounts(
        max(0, min(room.requests for room in rooms)) // part,
        max(0, min(room.open for room in rooms)) // part,
        max(0, min(room.tokens for room in rooms)) // part,
        max(0, min(room.money for room in rooms)) // part,
    )


def rates(pairs: Pairs, now: Now) -> tuple[Rate | None, Rate | None]:
    """The tightest limits per minute, of requests and of tokens. After `advance`."""
    requests: Rate | None = None
    tokens: Rate | None = None
    for account, demand in pairs:
        limit = demand.limits.requests_per_minute
        if limit is not None:
            remaining = limit - account.requests_used - account.leased_requests
            if requests is None or remaining < requests.remaining:
                reset_us = account.requests[-2] + MINUTE_US - now.steady_us if account.requests else 0
                requests = Rate(limit, max(0, remaining), reset_us)
        limit = demand.limits.tokens_per_minute
        if limit is not None:
            remaining = limit - account.tokens_used - account.open_tokens
            if tokens is None or remaining < tokens.remaining:
                reset_us = account.tokens[-2] + MINUTE_US - now.steady_us if account.tokens else 0
                tokens = Rate(limit, max(0, remaining), MINUTE_US if account.open_tokens else reset_us)
    return requests, tokens
