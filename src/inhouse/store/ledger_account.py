"""The account of one scope: what it used and what it holds. Pure: both ledgers decide with it, one of them keeps it.

Theory of operation. Minutes are sliding windows: a list of (time, amount), the oldest first. An entry counts for 60 s
and what falls into one second is kept as one entry with the latest time, so a list has at most 61 of them and errs by
at most a second, on the side of the limit. In no 60 s, wherever they begin, is a limit exceeded. Without new entries
the sum only falls, and the moment at which it leaves room can be read off the list: that is `Retry-After`.

Days and months are counters by the number of the period, so a wall clock that jumps meets another counter and comes
back to the one that it left. The last eight periods that were touched are kept.

Clocks. Windows follow a clock that cannot be set but starts again with the machine. Two processes may come to the
account in another order than they looked at the clock, so an entry may lie a little in the future and stays there. One
that lies further ahead than 60 s is from before a restart and is moved to now: it was made earlier than that, so
nothing is forgotten too early, and nobody is held for more than 60 s.
"""

from __future__ import annotations

import datetime
from functools import lru_cache

import msgspec

from inhouse.store.ledger import Amounts, Demand, LimitName, Limits, Now, Shortage, Use

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
DAY_US = 86_400 * SECOND_US
IN_FLIGHT_RETRY_US = SECOND_US
"""The guess where only requests in flight stand in the way."""
PERIODS_KEPT = 8
UNLIMITED = 1 << 60

_EPOCH = datetime.date(1970, 1, 1).toordinal()


class Period(msgspec.Struct, array_like=True):
    """A day or a month."""

    number: int
    tokens_used: int = 0
    tokens_held: int = 0
    money_used: int = 0
    money_held: int = 0


class Account(msgspec.Struct, array_like=True):
    """Windows are flat lists: time, amount, time, amount."""

    requests: list[int] = []
    requests_used: int = 0
    tokens: list[int] = []
    tokens_used: int = 0
    open_requests: int = 0
    open_tokens: int = 0
    days: list[Period] = []
    months: list[Period] = []
    leased_requests: int = 0
    """Held to be let in later, without a new look at the account."""

    def advance(self, steady_us: int) -> bool:
        """Lets old entries go. True where entries from a clock that has started again were moved to now."""
        mended = False
        if _is_outdated(self.requests, steady_us):
            mended = _mend(self.requests, steady_us)
            self.requests_used -= _expire(self.requests, steady_us)
        if _is_outdated(self.tokens, steady_us):
            mended |= _mend(self.tokens, steady_us)
            self.tokens_used -= _expire(self.tokens, steady_us)
        return mended

    def hold(self, amounts: Amounts, day: int) -> None:
        self.leased_requests += amounts.requests
        self.open_requests += amounts.open
        self.open_tokens += amounts.tokens
        for period in (_period(self.days, day), _period(self.months, month_of(day))):
            period.tokens_held += amounts.tokens
            period.money_held += amounts.money

    def settle(self, spent: Amounts, freed: Amounts, day: int, steady_us: int) -> None:
        """Of what is held, `spent` is used from now on and `freed` is held no more. `day` is that of `hold`.

        Places in flight (`open`) are only freed.
        """
        self.leased_requests -= spent.requests + freed.requests
        self.open_requests -= freed.open
        self.open_tokens -= spent.tokens + freed.tokens
        if spent.requests:
            _append(self.requests, steady_us, spent.requests)
            self.requests_used += spent.requests
        if spent.tokens:
            _append(self.tokens, steady_us, spent.tokens)
            self.tokens_used += spent.tokens
        for period in (_period(self.days, day), _period(self.months, month_of(day))):
            period.tokens_held -= spent.tokens + freed.tokens
            period.money_held -= spent.money + freed.money
            period.tokens_used += spent.tokens
            period.money_used += spent.money

    def revive(self, amounts: Amounts, day: int) -> None:
        """Holds again what was held and then charged as a whole. What windows count, they count for their minute."""
        self.leased_requests += amounts.requests
        self.open_requests += amounts.open
        self.open_tokens += amounts.tokens
        for period in (_period(self.days, day), _period(self.months, month_of(day))):
            period.tokens_used = max(0, period.tokens_used - amounts.tokens)
            period.money_used = max(0, period.money_used - amounts.money)
            period.tokens_held += amounts.tokens
            period.money_held += amounts.money

    def room(self, limits: Limits, now: Now) -> Amounts:
        """What is left below every limit. After `advance`."""
        day, month = _period(self.days, now.wall_us // DAY_US), _period(self.months, month_of(now.wall_us // DAY_US))
        day_tokens, month_tokens = day.tokens_used + day.tokens_held, month.tokens_used + month.tokens_held
        day_money, month_money = day.money_used + day.money_held, month.money_used + month.money_held
        return Amounts(
            requests=_left(limits.requests_per_minute, self.requests_used + self.leased_requests),
            open=_left(limits.concurrent_requests, self.open_requests),
            tokens=min(
                _left(limits.tokens_per_minute, self.tokens_used + self.open_tokens),
                _left(limits.tokens_per_day, day_tokens),
                _left(limits.tokens_per_month, month_tokens),
            ),
            money=min(_left(limits.money_per_day, day_money), _left(limits.money_per_month, month_money)),
        )

    def shortages(self, demand: Demand, need: Amounts, now: Now) -> list[Shortage]:
        """The limits that `need`, which is of one request at most, would exceed. After `advance`."""
        limits, found, tokens, money = demand.limits, [], need.tokens, need.money

        def short(name: LimitName, limit: int, use: Use, asked: int, retry_after_us: int) -> None:
            by_others = use.used + asked <= limit
            wait_us = IN_FLIGHT_RETRY_US if by_others else retry_after_us
            found.append(Shortage(demand.scope, name, limit, use.used, use.held, asked, wait_us, by_others))

        limit = limits.requests_per_minute
        if limit is not None and self.requests_used + self.leased_requests + need.requests > limit:
            wait_us = _wait_us(self.requests, self.requests_used + 1 - limit, now.steady_us)
            short("requests_per_minute", limit, Use(self.requests_used, self.leased_requests), 1, wait_us)
        limit = limits.tokens_per_minute
        if limit is not None and self.tokens_used + self.open_tokens + tokens > limit:
            wait_us = _wait_us(self.tokens, self.tokens_used + tokens - limit, now.steady_us)
            short("tokens_per_minute", limit, Use(self.tokens_used, self.open_tokens), tokens, wait_us)
        limit = limits.concurrent_requests
        if limit is not None and self.open_requests + need.open > limit:
            short("concurrent_requests", limit, Use(0, self.open_requests), 1, IN_FLIGHT_RETRY_US)
        if limits.tokens_per_day is not None or limits.money_per_day is not None:
            day = _period(self.days, now.wall_us // DAY_US)
            for name, limit, use, asked in _of_day(day, limits, tokens, money):
                short(name, limit, use, asked, DAY_US - now.wall_us % DAY_US)
        if limits.tokens_per_month is not None or limits.money_per_month is not None:
            month = _period(self.months, month_of(now.wall_us // DAY_US))
            for name, limit, use, asked in _of_month(month, limits, tokens, money):
                short(name, limit, use, asked, _next_month_us(now.wall_us // DAY_US) - now.wall_us)
        return found

    def live(self, now: Now) -> dict[LimitName, Use]:
        """Used and held, by limit. After `advance`."""
        day, month = _period(self.days, now.wall_us // DAY_US), _period(self.months, month_of(now.wall_us // DAY_US))
        return {
            "requests_per_minute": Use(self.requests_used, self.leased_requests),
            "tokens_per_minute": Use(self.tokens_used, self.open_tokens),
            "tokens_per_day": Use(day.tokens_used, day.tokens_held),
            "tokens_per_month": Use(month.tokens_used, month.tokens_held),
            "money_per_day": Use(day.money_used, day.money_held),
            "money_per_month": Use(month.money_used, month.money_held),
            "concurrent_requests": Use(0, self.open_requests),
        }


def _left(limit: int | None, taken: int) -> int:
    return UNLIMITED if limit is None else max(0, limit - taken)


@lru_cache(maxsize=64)
def month_of(day: int) -> int:
    """Months since year 0, of a day since 1970."""
    date = datetime.date.fromordinal(_EPOCH + day)
    return date.year * 12 + date.month - 1


def _next_month_us(day: int) -> int:
    year, month = divmod(month_of(day) + 1, 12)
    return (datetime.date(year, month + 1, 1).toordinal() - _EPOCH) * DAY_US


def _of_day(day: Period, limits: Limits, tokens: int, money: int) -> list[tuple[LimitName, int, Use, int]]:
    found: list[tuple[LimitName, int, Use, int]] = []
    limit = limits.tokens_per_day
    if limit is not None and day.tokens_used + day.tokens_held + tokens > limit:
        found.append(("tokens_per_day", limit, Use(day.tokens_used, day.tokens_held), tokens))
    limit = limits.money_per_day
    if limit is not None and day.money_used + day.money_held + money > limit:
        found.append(("money_per_day", limit, Use(day.money_used, day.money_held), money))
    return found


def _of_month(month: Period, limits: Limits, tokens: int, money: int) -> list[tuple[LimitName, int, Use, int]]:
    found: list[tuple[LimitName, int, Use, int]] = []
    limit = limits.tokens_per_month
    if limit is not None and month.tokens_used + month.tokens_held + tokens > limit:
        found.append(("tokens_per_month", limit, Use(month.tokens_used, month.tokens_held), tokens))
    limit = limits.money_per_month
    if limit is not None and month.money_used + month.money_held + money > limit:
        found.append(("money_per_month", limit, Use(month.money_used, month.money_held), money))
    return found


def _append(window: list[int], at_us: int, amount: int) -> None:
    if window and (window[-2] >= at_us or window[-2] // SECOND_US == at_us // SECOND_US):
        window[-2] = max(window[-2], at_us)
        window[-1] += amount
    else:
        window += (at_us, amount)


def _is_outdated(window: list[int], at_us: int) -> bool:
    return bool(window) and (window[0] + MINUTE_US <= at_us or window[-2] > at_us + MINUTE_US)


def _expire(window: list[int], at_us: int) -> int:
    """What was let go."""
    gone = end = 0
    while end < len(window) and window[end] + MINUTE_US <= at_us:
        gone += window[end + 1]
        end += 2
    if end:
        del window[:end]
    return gone


def _mend(window: list[int], at_us: int) -> bool:
    if window[-2] <= at_us + MINUTE_US:
        return False
    moved = 0
    while window and window[-2] > at_us:
        moved += window.pop()
        window.pop()
    _append(window, at_us, moved)
    return True


def _wait_us(window: list[int], need: int, at_us: int) -> int:
    """Until so much has been let go; 0 where nothing needs to."""
    index = 0
    while need > 0 and index < len(window):
        need -= window[index + 1]
        index += 2
    return window[index - 2] + MINUTE_US - at_us if index else 0


def _period(periods: list[Period], number: int) -> Period:
    """The period, touched. One that requests in flight hold on to is never dropped."""
    if periods and periods[-1].number == number:
        return periods[-1]
    for index, period in enumerate(periods):
        if period.number == number:
            periods.append(periods.pop(index))
            return period
    if len(periods) >= PERIODS_KEPT:
        idle = (place for place, period in enumerate(periods) if not (period.tokens_held or period.money_held))
        oldest = next(idle, None)
        if oldest is not None:
            del periods[oldest]
    periods.append(Period(number))
    return periods[-1]
