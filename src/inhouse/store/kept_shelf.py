"""Answers that outlast their connection, in Redis: what may be done with one, as calls of scripts. Keys, types,
lifetimes: `lua/kept.lua`.

A `KeptShelf` only makes calls (`Run`) and reads what comes back; when they are sent, and what is done while Redis is
away, is for those who use it (`gateway/kept_shared.py`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from inhouse.store.redis_calls import Commands, Run, Script, script

_ID = re.compile(r"[A-Za-z0-9_]{1,80}")
_READ_AT_ONCE = 64
GIVEN_UP = "g"
"""The state of an answer whose maker is gone."""


@dataclass(frozen=True, slots=True)
class ShelfTimes:
    """`grace_s`: how long a maker may take to come back whose lease is over, as after an outage of Redis."""

    lease_s: float
    grace_s: float
    keep_s: float


@dataclass(frozen=True, slots=True)
class News:
    """What the maker of an answer has of it that Redis has not. `shown`, `refusal`: b"" where it is as before."""

    first: int
    """The number of the first of these events."""
    events: Sequence[bytes]
    whole: bool
    cancelled: bool
    shown: bytes
    status: int
    refusal: bytes


@dataclass(frozen=True, slots=True)
class Seen:
    """An answer as it stands in Redis."""

    state: str
    late: int
    count: int
    cancelled: bool
    api: str
    shown: bytes
    status: int
    refusal: bytes

    @property
    def over(self) -> bool:
        return self.state != "r"

    @property
    def gone(self) -> bool:
        """Its maker is, and nobody has said so yet."""
        return self.late == 2


class KeptShelf:
    """See the module. `maker` is this gateway."""

    def __init__(self, prefix: str, maker: str, times: ShelfTimes) -> None:
        self._prefix, self._maker, self.times = prefix, maker, times
        self._lease_ms, self._grace_ms = round(times.lease_s * 1000), round(times.grace_s * 1000)
        self._keep_ms = round(times.keep_s * 1000)

    @staticmethod
    def may_be(id: str) -> bool:
        """Whether it can be the id of an answer: keys are made of it."""
        return _ID.fullmatch(id) is not None

    # the maker's
    def push(self, id: str, tenant: str, api: str, news: News, *, background: bool) -> Run:
        """Answers with what `pushed` reads."""
        whole, cancelled = int(news.whole), int(news.cancelled)
        about = (self._maker, tenant, api, int(background), self._lease_ms, self._keep_ms)
        more = (news.first, whole, cancelled, news.shown, news.status, news.refusal)
        return self._run("push", id, *about, *more, *news.events)

    @staticmethod
    def pushed(answer: Any) -> tuple[str, int]:
        return answer[0].decode(), int(answer[1])

    # everybody's
    def look(self, id: str, tenant: str, *, following: bool = False) -> Run:
        """Answers with what `seen` reads."""
        return self._run("look", id, tenant, self._grace_ms, int(following))

    @staticmethod
    def seen(answer: Any) -> Seen | None:
        """None: this tenant has no such answer."""
        if not answer:
            return None
        state, late, count, cancelled, api, shown, status, refusal = answer
        return Seen(state.decode(), late, count, cancelled == b"1", api.decode(), shown, int(status), refusal)

    def give_up(self, id: str, count: int, status: int, refusal: bytes) -> Run:
        """Ends one whose maker is gone, unless it has changed since it had `count` events."""
        return self._run("give_up", id, self._grace_ms, self._keep_ms, count, status, refusal)

    def cancel(self, id: str, tenant: str) -> Run:
        """Answers with the state it was in, b"" where there is none."""
        return self._run("cancel", id, tenant)

    def remove(self, id: str, tenant: str) -> Run:
        """Answers with 1, or with 0 where there is none."""
        return self._run("remove", id, tenant, self._keep_ms + self._lease_ms)

    async def wait(self, client: Commands, id: str, first: int, block_s: float) -> tuple[list[tuple[int, bytes]], str]:
        """The event `first` and what follows it, with their numbers; waits `block_s` at most. Then the state, where
        nothing follows any more, or ""."""
        key, after = self._keys(id)[1], f"{first}-0"
        words = ("COUNT", _READ_AT_ONCE, "BLOCK", max(1, int(block_s * 1000)), "STREAMS", key, after)
        found = await client.execute_command("XREAD", *words)
        entries = found[0][1] if found else []
        end = entries.pop()[1][1].decode() if entries and entries[-1][1][0] == b"z" else ""
        return [(int(at.partition(b"-")[0]) - 1, fields[1]) for at, fields in entries], end

    def _keys(self, id: str) -> tuple[str, str]:
        return f"{self._prefix}:kept:{{{id}}}:about", f"{self._prefix}:kept:{{{id}}}:events"

    def _run(self, name: str, id: str, *args: str | bytes | int | float) -> Run:
        return Run(_loaded(name), self._keys(id), args)


@functools.cache
def _loaded(name: str) -> Script:
    return script("kept", f"kept_{name}")
