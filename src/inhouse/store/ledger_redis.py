"""The accounts of limits in Redis or Valkey: one script for each claim, exact between all gateways.

The rules are Lua (`lua/ledger_account.lua` names keys, types and lifetimes); what a refusal says is worked out here,
from the accounts that the script returns, by the same pure code as for every other ledger. Windows and days follow the
server's clock, so gateways need not agree on the time.

On a cluster each scope lies in a slot of its own, {scope}, and is claimed by itself; where they then differ in what
they granted, a second word to those that granted more takes the difference back. Between the two more is held than
needed, never less. On one server all scopes of a claim are one script, and all claims of a gateway one round trip.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import reduce
from importlib import resources

import msgspec

from inhouse.errors import StateError
from inhouse.store.ledger import NONE, Amounts, Demand, Limits, Now
from inhouse.store.ledger_account import Account, month_of
from inhouse.store.ledger_booking import rates
from inhouse.store.ledger_claim import Claim, why
from inhouse.store.ledger_claimed import Outcome
from inhouse.store.redis_scripts import RedisScripts, Script

_pack = msgspec.msgpack.Encoder().encode
_account = msgspec.msgpack.Decoder(Account).decode
_head = msgspec.msgpack.Decoder(tuple[int, tuple[int, int, int, int], int, int]).decode
_looked = msgspec.msgpack.Decoder(tuple[int, int]).decode
_GRANTED, _REFUSED, _LATE, _OTHER_DAY = range(4)
_SERVERS = -1
"""In place of a time: the server's clock."""
_Reply = tuple[int, Amounts, list[Account], Now]


def _text(name: str) -> str:
    return (resources.files("inhouse.store") / "lua" / name).read_text()


class RedisBank:
    """A `Bank`. `keep_s`: how long a gateway that was cut off may come back and set right what was charged.

    `server_clock` off: windows follow the caller's clock, for tests that turn it.
    """

    def __init__(
        self, scripts: RedisScripts, *, prefix: str, lease_s: float, keep_s: float = 3600.0, server_clock: bool = True
    ) -> None:
        self.ahead_us = 0
        self.reclaimed = 0
        self._scripts = scripts
        self._prefix = prefix
        self._lease_us, self._keep_us = round(lease_s * 1e6), round(keep_s * 1e6)
        self._server_clock = server_clock
        prelude = _text("ledger_account.lua")
        self._claim = Script(prelude + _text("ledger_claim.lua"))
        self._look = Script(prelude + _text("ledger_look.lua"))

    def claim(self, asked: Sequence[tuple[tuple[Demand, ...], Claim]], now: Now) -> list[Outcome]:
        calls, sizes = [], []
        for demands, one in asked:
            groups = [(demand,) for demand in demands] if self._scripts.is_cluster else [demands]
            first = one if len(groups) == 1 else msgspec.structs.replace(one, at_once=0)
            calls += [(group, first) for group in groups]
            sizes.append(len(groups))
        replies = iter(self._run(calls, now))
        outcomes, corrections = [], []
        for (demands, one), size in zip(asked, sizes, strict=True):
            parts = [next(replies) for _ in range(size)]
            outcome = self._outcome(demands, one, parts)
            outcomes.append(outcome)
            if size > 1:
                final = msgspec.structs.replace(
                    one, seq=one.seq + 1, granted=one.granted + outcome.granted, need=NONE, want=NONE, at_once=0
                )
                if outcome.refusal is None:
                    final = msgspec.structs.replace(final, spent=final.spent + Amounts(requests=one.at_once))
                for demand, (_, granted, _, _) in zip(demands, parts, strict=True):
                    if granted != outcome.granted or (one.at_once and outcome.refusal is None):
                        corrections.append(((demand,), final))
        if corrections:
            self._run(corrections, now)
        return outcomes

    def look(self, scope: str, now: Now) -> tuple[Account, Now]:
        given = _SERVERS if self._server_clock else now.steady_us
        (reply,) = self._scripts.run(self._look, [(self._keys(scope), _pack([given, self._keep_us]))])
        at_us, reclaimed = _looked(reply[0])
        self.reclaimed += reclaimed
        return _account(reply[1]), self._moment(at_us, now)

    def ping(self) -> None:
        with self._scripts.telling() as client:
            client.ping()

    def close(self) -> None:
        self._scripts.close()

    def _run(self, calls: Sequence[tuple[tuple[Demand, ...], Claim]], now: Now) -> list[_Reply]:
        given = _SERVERS if self._server_clock else now.steady_us
        scripts = [
            (
                [key for demand in demands for key in self._keys(demand.scope)],
                _pack(
                    [
                        given, one.id, one.seq, one.day, month_of(one.day), now.steady_us - one.spent_us,
                        self._lease_us, self._keep_us, _list(one.spent), _list(one.freed), _list(one.granted),
                        _list(one.need), _list(one.want), one.part, one.at_once,
                        [_limits(demand.limits) for demand in demands],
                    ]
                ),
            )
            for demands, one in calls
        ]  # fmt: skip
        begun_us = time.time_ns() // 1000
        replies = self._scripts.run(self._claim, scripts)
        found = []
        for reply in replies:
            state, granted, at_us, reclaimed = _head(reply[0])
            if self._server_clock:
                self.ahead_us = at_us - (begun_us + time.time_ns() // 1000) // 2
            if state == _LATE:
                raise StateError("a claim came to Redis after a newer one; it is told again")
            if state == _OTHER_DAY:
                raise StateError("the clock of this machine is on another day (UTC) than that of Redis; set it right")
            self.reclaimed += reclaimed
            accounts = [_account(account) for account in reply[1:]]
            found.append((state, Amounts(*granted), accounts, self._moment(at_us, now)))
        return found

    def _outcome(self, demands: tuple[Demand, ...], one: Claim, parts: Sequence[_Reply]) -> Outcome:
        at = parts[0][3]
        pairs = list(zip([account for _, _, accounts, _ in parts for account in accounts], demands, strict=True))
        if any(state == _REFUSED for state, _, _, _ in parts):
            if len(parts) > 1:  # where they were granted, the accounts hold it now: it does not stand in its own way
                for (account, _), (_, granted, _, _) in zip(pairs, parts, strict=True):
                    account.settle(NONE, granted, one.day, at.steady_us)
            refusal = why(pairs, one, at)
            if refusal is None:
                raise StateError("Redis refused what its accounts leave room for: is its data of another version?")
            return Outcome(NONE, refusal)
        granted = reduce(Amounts.least, [part[1] for part in parts])
        return Outcome(granted, None, *rates(pairs, at))

    def _moment(self, at_us: int, now: Now) -> Now:
        return Now(at_us, at_us) if self._server_clock else now

    def _keys(self, scope: str) -> list[str]:
        return [f"{self._prefix}:{kind}:{{{scope}}}" for kind in ("account", "leases", "expiry")]


def _list(amounts: Amounts) -> list[int]:
    return [amounts.requests, amounts.open, amounts.tokens, amounts.money]


def _limits(limits: Limits) -> list[int]:
    return [-1 if limit is None else limit for limit in msgspec.structs.astuple(limits)]
