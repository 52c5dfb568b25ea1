"""One request in the accounts of all its scopes: refused by any of them, or held in every one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from inhouse.store.ledger import Demand, Now, Rate, Refusal, Reservation, Shortage
from inhouse.store.ledger_account import DAY_US, MINUTE_US, Account


def advance(pairs: Sequence[tuple[Account, Demand]], now: Now) -> bool:
    """Brings the accounts to now. True where one was mended, which has to be kept whatever comes next."""
    mended = False
    for account, _ in pairs:
        mended |= account.advance(now.steady_us)
    return mended


def refuse(pairs: Sequence[tuple[Account, Demand]], tokens: int, money: int, now: Now) -> Refusal | None:
    """Why a request cannot be let in by these accounts; None where it can. After `advance`."""
    short: list[Shortage] = []
    for account, demand in pairs:
        short += account.shortages(demand, tokens, money, now)
    if not short:
        return None
    requests_rate, tokens_rate = _rates(pairs, now)
    return Refusal(
        shortages=tuple(short),
        retry_after_us=max(shortage.retry_after_us for shortage in short),
        requests_rate=requests_rate,
        tokens_rate=tokens_rate,
    )


def take(pairs: Sequence[tuple[Account, Demand]], tokens: int, money: int, now: Now, number: int) -> Reservation:
    """Holds the amounts in every account. After `refuse`, which said None."""
    day = now.wall_us // DAY_US
    for account, _ in pairs:
        account.hold(tokens, money, day, now.steady_us)
    requests_rate, tokens_rate = _rates(pairs, now)
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
    held = (reservation.tokens, reservation.money)
    used = (max(0, min(tokens, held[0])), max(0, min(money, held[1])))
    for account in accounts:
        account.settle(held, used, reservation.day, now.steady_us)


def _rates(pairs: Sequence[tuple[Account, Demand]], now: Now) -> tuple[Rate | None, Rate | None]:
    """The tightest limits per minute, of requests and of tokens. After `advance`."""
    requests: Rate | None = None
    tokens: Rate | None = None
    for account, demand in pairs:
        limit = demand.limits.requests_per_minute
        if limit is not None and (requests is None or limit - account.requests_used < requests.remaining):
            reset_us = account.requests[-2] + MINUTE_US - now.steady_us if account.requests else 0
            requests = Rate(limit, max(0, limit - account.requests_used), reset_us)
        limit = demand.limits.tokens_per_minute
        if limit is not None:
            remaining = limit - account.tokens_used - account.open_tokens
            if tokens is None or remaining < tokens.remaining:
                reset_us = account.tokens[-2] + MINUTE_US - now.steady_us if account.tokens else 0
                tokens = Rate(limit, max(0, remaining), MINUTE_US if account.open_tokens else reset_us)
    return requests, tokens
