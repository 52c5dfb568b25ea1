"""A claim on a lease that can be told twice: what a gateway says to a ledger that it reaches over a network. Pure.

Theory of operation. Between a question and its answer a network may lose either, and who asked cannot know which. So a
claim never says "20 more were used": it tells totals since the lease was made, of what was spent, given back, and
granted as far as the gateway knows. The ledger keeps the same totals in the lease's record and does what lies between
the two, so a claim that is told again changes nothing, and a grant whose answer was lost is taken back by the next one.
`seq` grows with each claim: one that comes late, after a newer one, is passed over.

It also heals a ledger that has lost its last seconds, as after a failover to a replica: what its record lacks of the
claim's totals is held and charged again.

A lease that nobody claims in time is charged in full. Where its gateway was only cut off and comes back, it is held
again as if nothing had happened; only the windows of a minute keep the charge for their minute.

Redis runs the same rules as Lua (`lua/ledger_claim.lua`), everything else this text.
"""

from __future__ import annotations

import msgspec

from inhouse.store.ledger import NONE, Amounts, Now, Refusal
from inhouse.store.ledger_account import DAY_US
from inhouse.store.ledger_booking import Pairs, advance, refuse, spare

_SLACK_US = 5_000_000


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """Totals since the lease `id` was made, and what is asked for: see `ledger.Renewal`.

    `at_once`: of the requests that are granted so many are let in at this moment.
    """

    id: str
    seq: int
    day: int
    spent: Amounts
    spent_us: int
    freed: Amounts
    granted: Amounts
    need: Amounts = NONE
    want: Amounts = NONE
    part: int = 8
    at_once: int = 0


class Record(msgspec.Struct, array_like=True):
    """What the ledger knows of a lease in one scope. Its fields are totals since it was made."""

    seq: int
    day: int
    charged: bool = False
    """It ran out: what it held was charged."""
    spent: Amounts = NONE
    freed: Amounts = NONE
    granted: Amounts = NONE

    @property
    def held(self) -> Amounts:
        return self.granted - self.spent - self.freed


def claim(pairs: Pairs, records: list[Record], asked: Claim, now: Now) -> tuple[Amounts, Refusal | None]:
    """Brings accounts and records, one for each pair, to what the claim says; what was granted, or why not."""
    advance(pairs, now)
    for (account, _), record in zip(pairs, records, strict=True):
        if record.charged:
            account.revive(record.held, record.day)
            record.charged = False
        account.settle(NONE, record.granted - asked.granted, asked.day, now.steady_us)
        account.settle(asked.spent - record.spent, asked.freed - record.freed, asked.day, asked.spent_us)
        record.seq, record.spent, record.freed, record.granted = asked.seq, asked.spent, asked.freed, asked.granted
    if asked.need == NONE and asked.want == NONE:
        return NONE, None
    at = _within(asked.day, now)
    refusal = refuse(pairs, asked.need, at) if asked.need != NONE else None
    if refusal is not None:
        return NONE, refusal
    granted = asked.need + asked.want.least(spare(pairs, asked.need, asked.part, at))
    at_once = Amounts(requests=asked.at_once)
    for (account, _), record in zip(pairs, records, strict=True):
        account.hold(granted, asked.day)
        account.settle(at_once, NONE, asked.day, now.steady_us)
        record.granted += granted
        record.spent += at_once
    return granted, None


def charge(pairs: Pairs, record: Record, now: Now) -> bool:
    """Charges in full what a lease holds that ran out, in the accounts of its scopes. False: it holds nothing."""
    held = record.held
    if record.charged or held == NONE:
        return False
    spent = Amounts(requests=held.requests, tokens=held.tokens, money=held.money)
    for account, _ in pairs:
        account.settle(spent, Amounts(open=held.open), record.day, now.steady_us)
    record.charged = True
    return True


def is_of_day(day: int, now: Now) -> bool:
    """Whether the claim's day is today, where clocks may differ by a few seconds."""
    return day * DAY_US - _SLACK_US <= now.wall_us < (day + 1) * DAY_US + _SLACK_US


def why(pairs: Pairs, asked: Claim, now: Now) -> Refusal | None:
    """Why these accounts do not grant it; None where they would."""
    return refuse(pairs, asked.need, _within(asked.day, now))


def _within(day: int, now: Now) -> Now:
    """The moment, moved into the claim's day where that has just ended, or begins in a moment."""
    return Now(min(max(now.wall_us, day * DAY_US), (day + 1) * DAY_US - 1), now.steady_us)
