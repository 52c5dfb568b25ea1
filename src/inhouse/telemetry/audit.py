"""The audit: one record for each request and for each administrative act. No field for content exists.

Theory of operation. `book` and `act` make records and append them to a list. `flush`, called by the clock a few times a
second, hands what has gathered to one thread, which gives it to the sink, all or none; while that thread works, the
next records gather. A batch that could not be written is put back and tried again; beyond `pending_max` the newest are
lost, counted, and their number is written into the chain once it can be (`audit.lost`).

What a process that is killed can lose is what was not handed over and written: less than a second's records.

Not here: the chain and its files (`store/audit_files`), which records somebody wants to see (`audit_page`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotInTime
from dataclasses import dataclass
from typing import Protocol

import msgspec

from inhouse.errors import StateError
from inhouse.telemetry.entry import Entry
from inhouse.telemetry.record import NO_FACTS, ActName, Facts, Record
from inhouse.telemetry.rounding import ten_thousandths, thousandths

CLOSE_S_MAX = 5.0
"""How long the end of a process waits for the last records to be written."""

RETRY_S = 1.0


class Sink(Protocol):
    def append(self, bodies: Sequence[bytes]) -> object:
        """Writes all or none. Raises StateError."""


@dataclass(frozen=True, slots=True)
class AuditReading:
    """For metrics: records written and lost by this process, those that wait, and whether writing fails."""

    written: int
    lost: int
    pending: int
    failing: bool


class Audit:
    """See the module. Without a sink nothing is kept.

    `refuse`: while it cannot be written, `refusing` is true. `tell` is called when writing begins to fail, with the
    reason, and with "" when it works again. `clock` is the event loop's. `writer` has one thread.
    """

    def __init__(
        self,
        sink: Sink | None,
        *,
        pending_max: int,
        refuse: bool,
        tell: Callable[[str], None],
        clock: Callable[[], float],
        wall_clock: Callable[[], float] = time.time,
        writer: ThreadPoolExecutor | None = None,
    ) -> None:
        self.refusing = False
        self._sink = sink
        self._pending_max = pending_max
        self._refuse = refuse
        self._tell = tell
        self._clock = clock
        self._wall_clock = wall_clock
        self._epoch_s = wall_clock() - clock()
        """What the event loop's clock showed, in seconds since 1970, at its zero; looked at again now and then."""
        self._pending: list[bytes] = []
        self._batch: list[bytes] = []
        self._writing: Future[object] | None = None
        self._failing = ""
        self._again_s = 0.0
        self._written = self._lost = self._lost_told = 0
        self._writer = writer or ThreadPoolExecutor(1, thread_name_prefix="audit")

    def book(self, entry: Entry) -> None:
        """A request that is over."""
        if self._has_room():
            self._pending.append(_encode(record_of(entry, self._epoch_s)))

    def act(
        self, name: ActName, *, by: str = "inhouse", tenant: str = "", target: str = "", digest: str = "",
        facts: Facts | None = None,
    ) -> None:  # fmt: skip
        """Something that was done to the gateway, as it happens."""
        if self._has_room():
            now_s = round(self._wall_clock(), 3)
            record = Record(
                time=now_s, kind="act", act=name, by=by, tenant=tenant, target=target, digest=digest, facts=facts or {}
            )
            self._pending.append(_encode(record))

    def flush(self) -> None:
        """Called a few times a second. Never waits for the disk and never raises."""
        self._epoch_s = self._wall_clock() - self._clock()
        if self._writing is not None:
            if not self._writing.done():
                return
            self._settle()
        if self._failing and self._clock() < self._again_s:
            return
        if self._pending and self._sink is not None:
            if self._lost > self._lost_told and not self._failing:
                lost, self._lost_told = self._lost - self._lost_told, self._lost
                self.act("audit.lost", facts={"records": lost})
            self._batch, self._pending = self._pending, []
            self._writing = self._writer.submit(self._sink.append, self._batch)

    def close(self) -> None:
        """Writes what is left, and waits for that; a disk that stands still holds the end up `CLOSE_S_MAX` at most."""
        deadline_s = time.monotonic() + CLOSE_S_MAX
        self._again_s = 0.0
        for _ in range(2):
            self.flush()
            if self._writing is None:
                break
            try:
                self._writing.exception(timeout=max(0.0, deadline_s - time.monotonic()))
            except NotInTime:
                break
        if self._writing is not None and self._writing.done():
            self._settle()
        self._writer.shutdown(wait=False)

    def reading(self) -> AuditReading:
        pending = len(self._pending) + len(self._batch)
        return AuditReading(self._written, self._lost, pending, bool(self._failing))

    def _has_room(self) -> bool:
        """For one more record; without, it is lost."""
        if self._sink is None:
            return False
        if len(self._pending) < self._pending_max:
            return True
        self._lost += 1
        self.refusing = self._refuse
        return False

    def _settle(self) -> None:
        """Sees how the last batch fared."""
        assert self._writing is not None  # noqa: S101 - the callers have looked
        error, self._writing = self._writing.exception(), None
        batch, self._batch = self._batch, []
        if error is None:
            self._written += len(batch)
        else:
            self._again_s = self._clock() + RETRY_S
            self._lost += max(0, len(batch) + len(self._pending) - self._pending_max)
            self._pending = (batch + self._pending)[: self._pending_max]
        reason = "" if error is None else error.message if isinstance(error, StateError) else type(error).__name__
        if bool(reason) != bool(self._failing):
            self._tell(reason)
        self._failing = reason
        self.refusing = self._refuse and bool(reason)


_encode = msgspec.json.Encoder().encode


def record_of(entry: Entry, epoch_s: float) -> Record:
    """`epoch_s` is what the event loop's clock showed, in seconds since 1970, at its zero."""
    usage, arrived_s, ended_s, first_s = entry.usage, entry.arrived_s, entry.ended_s, entry.first_token_s
    return Record(
        thousandths(epoch_s + ended_s),
        "request",
        entry.request_id,
        entry.api,
        entry.tenant,
        entry.key_id,
        entry.model,
        entry.client,
        entry.status,
        entry.code,
        usage.prompt_tokens,
        usage.cached_tokens,
        usage.completion_tokens,
        entry.money,
        ten_thousandths(entry.waited_s) if entry.waited_s else 0.0,
        None if first_s is None else ten_thousandths(first_s - arrived_s),
        ten_thousandths(ended_s - arrived_s),
        {str(name): value for name, value in entry.facts.items()} if entry.facts else NO_FACTS,
    )
