"""Which records of the audit somebody wants to see: a filter, and pages of them. Pure: lines in, lines out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from inhouse.telemetry.record import Record

LOOKED_AT_MAX = 20_000
"""Records that are looked at for one page; a page that found fewer than it may hold says where to go on."""
STATUS_PATTERN = r"[1-5](\d\d|xx)"


class Line(Record, kw_only=True):
    """A record with its number and hash, as it stands in the file."""

    seq: int = 0
    hash: str = ""


decode = msgspec.json.Decoder(Line).decode


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to show; what is None does not matter. Times are seconds since 1970; `until` is not included."""

    since: float | None = None
    until: float | None = None
    tenant: str | None = None
    key: str | None = None
    model: str | None = None
    status: str | None = None
    """As in `429` or `5xx`."""
    kind: str | None = None
    request: str | None = None
    """The request's id."""

    def takes(self, record: Record) -> bool:
        return (
            (self.since is None or record.time >= self.since)
            and (self.until is None or record.time < self.until)
            and (self.tenant is None or record.tenant == self.tenant)
            and (self.key is None or self.key in (record.key, record.target, record.by))
            and (self.model is None or record.model == self.model)
            and (self.status is None or self._has_status(record.status))
            and (self.kind is None or record.kind == self.kind)
            and (self.request is None or record.id == self.request)
        )

    def _has_status(self, status: int) -> bool:
        wanted = self.status or ""
        return str(status) == wanted or (wanted.endswith("xx") and str(status)[:1] == wanted[0])


@dataclass(frozen=True, slots=True)
class Page:
    """Records, the newest first. `before` is where the next page begins; None: there is no more."""

    lines: tuple[bytes, ...]
    before: int | None


def is_status(text: str) -> bool:
    return re.fullmatch(STATUS_PATTERN, text) is not None


def page(newest: Iterable[bytes], wanted: Wanted, *, limit: int, looked_at_max: int = LOOKED_AT_MAX) -> Page:
    """The first `limit` records that are wanted. `newest` are lines, the newest first."""
    found: list[bytes] = []
    slack_s = 3600.0  # records are written in the order in which requests end, by clocks that may be set meanwhile
    for looked_at, line in enumerate(newest, start=1):
        record = _record(line)
        if record is None:
            continue
        if wanted.since is not None and record.time < wanted.since - slack_s:
            return Page(tuple(found), None)
        if wanted.takes(record):
            found.append(line)
        if len(found) >= limit or looked_at >= looked_at_max:
            return Page(tuple(found), record.seq if record.seq > 1 else None)
    return Page(tuple(found), None)


def matching(lines: Iterable[bytes], wanted: Wanted) -> Iterator[bytes]:
    """All lines that are wanted, in their order."""
    for line in lines:
        record = _record(line)
        if record is not None and wanted.takes(record):
            yield line


def _record(line: bytes) -> Line | None:
    """None where somebody has made it unreadable; `audit verify` names it."""
    try:
        return decode(line)
    except msgspec.DecodeError:
        return None
