"""The audit on disk: one chain of records for all processes of a state folder, in files of lines that only ever grow.

    audit/head                              the last record, `seq:hash`; its lock is held while somebody writes
    audit/audit-000000000001-20261125.jsonl a segment: a line that says what came before, then records in order

Theory of operation. To append, a process takes the lock, looks whether it knows the chain's end (head, file and size
are as it left them), and reads the end of the last segment where it does not: another process wrote meanwhile. Then it
writes all lines at once, syncs them to the disk, and only then moves the head. A process that dies in between leaves
complete records with an old head, which the next one simply goes on from, or a torn line, which it cuts off and says so
in a record. A segment that ends before the head means that records were taken away: the chain goes on after the head,
in a new segment, so that the gap stays for ever to be seen.

A new segment begins when the day (UTC) changes and when one is large enough. Segments of days that lie `keep_s` back
are removed; the record `audit.expired` says which numbers went, so a segment that was removed by hand is missed.

Not here: what a record says (`telemetry/record`), and reading (`audit_read`).
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from inhouse.store import folder
from inhouse.store.audit_chain import Head, head_from, head_of, seal_all

FOLDER = "audit"
HEAD_NAME = "head"
DAY_S = 86400
_HEAD_BYTES_MAX = 128
_TAIL_BYTES = 64 * 1024
_SEGMENT = re.compile(r"audit-(\d{12})-(\d{8})\.jsonl")


class Opening(msgspec.Struct, frozen=True):
    """The first line of a segment."""

    audit: int
    """The version of the form."""
    after: str
    """The record before, `seq:hash`."""


@dataclass(frozen=True, slots=True)
class Segment:
    """`first` is the number of its first record, `day` that of its day (UTC), counted from 1970-01-01."""

    path: Path
    first: int
    day: int


class AuditFiles:
    """Appends to the chain of a state folder. Safe between threads and processes. Every method may raise StateError."""

    def __init__(
        self, state_dir: Path, *, segment_bytes_max: int, keep_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self.folder = state_dir / FOLDER
        self._segment_bytes_max = segment_bytes_max
        self._keep_s = keep_s
        self._clock = clock
        self._lock = threading.Lock()
        self._segment: int | None = None
        self._day = 0
        self._bytes = 0
        self._head = Head()
        folder.prepare(state_dir)
        self._head_file = self._open_head()

    def append(self, bodies: Sequence[bytes]) -> Head:
        """Writes records, each a JSON object on one line, all or none; the new head, once they are on the disk."""
        with self._lock, folder.telling_os_errors(self.folder), self._alone():
            bodies = [*self._catch_up(), *bodies]
            now_s = self._clock()
            day = int(now_s // DAY_S)
            expired: list[Segment] = []
            if self._segment is None or self._day != day or self._bytes >= self._segment_bytes_max:
                expired, told = self._expired(now_s)
                self._write(self._sealed([*told, *bodies]), day=day)
            elif bodies:
                self._write(self._sealed(bodies))
            for segment in expired:
                segment.path.unlink(missing_ok=True)
            return self._head

    def close(self) -> None:
        with self._lock:
            self._forget()
            os.close(self._head_file)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        fcntl.flock(self._head_file, fcntl.LOCK_EX)
        while not self._is_in_place():  # the folder was moved away, or put back from a copy
            fresh = self._open_head()
            os.close(self._head_file)
            self._forget()
            self._head_file = fresh
            fcntl.flock(self._head_file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._head_file, fcntl.LOCK_UN)

    def _open_head(self) -> int:
        folder.prepare(self.folder)
        with folder.telling_os_errors(self.folder / HEAD_NAME):
            return os.open(self.folder / HEAD_NAME, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.folder / HEAD_NAME), os.fstat(self._head_file))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _catch_up(self) -> list[bytes]:
        """Finds the chain's end where it is not as this process left it; what there is to say of that."""
        told = read_head(self._head_file)
        if self._segment is not None:
            status = os.fstat(self._segment)
            if told == self._head and status.st_size == self._bytes and status.st_nlink:
                return []
        self._forget()
        found, torn_bytes = self._open_last()
        if told.seq <= found.seq:
            self._head = found
        else:
            self._forget()  # records are missing: the next segment says after which one it begins
            self._head = told
        return [act("audit.torn", self._clock(), {"bytes": torn_bytes})] if torn_bytes else []

    def _open_last(self) -> tuple[Head, int]:
        """Opens the last segment, without a torn line at its end: its head, and how many bytes were torn."""
        torn_bytes = 0
        for segment in reversed(segments(self.folder)):
            descriptor = os.open(segment.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
            try:
                head, end = _end_of(descriptor)
                size = os.fstat(descriptor).st_size
                torn_bytes += size - end
                if size != end:
                    os.ftruncate(descriptor, end)
            except BaseException:
                os.close(descriptor)
                raise
            if head is not None:
                self._segment, self._day, self._bytes = descriptor, segment.day, end
                return head, torn_bytes
            os.close(descriptor)
            segment.path.unlink()  # its writer died while it made it
        return Head(), torn_bytes

    def _expired(self, now_s: float) -> tuple[list[Segment], list[bytes]]:
        known = segments(self.folder)
        old = [segment for segment in known if (segment.day + 1) * DAY_S + self._keep_s <= now_s]
        if not old:
            return [], []
        last = known[len(old)].first - 1 if len(old) < len(known) else self._head.seq
        return old, [act("audit.expired", now_s, {"first": old[0].first, "last": last})]

    def _sealed(self, bodies: Sequence[bytes]) -> tuple[bytes, Head]:
        return seal_all(self._head, bodies)

    def _write(self, sealed: tuple[bytes, Head], *, day: int | None = None) -> None:
        """`day` begins a new segment. What could not be written whole is taken back."""
        data, head = sealed
        if day is not None:
            self._forget()
            name = f"audit-{self._head.seq + 1:012d}-{_date(day)}.jsonl"
            flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
            self._segment, self._day, self._bytes = os.open(self.folder / name, flags, 0o600), day, 0
            data = msgspec.json.encode(Opening(1, str(self._head))) + b"\n" + data
        assert self._segment is not None  # noqa: S101 - opened above or by `_catch_up`
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(self._segment, left) :]
            os.fdatasync(self._segment)
            if day is not None:
                _sync_names(self.folder)
        except BaseException:
            os.ftruncate(self._segment, self._bytes)
            if day is not None:
                self._forget()
            raise
        self._bytes += len(data)
        self._head = head
        os.pwrite(self._head_file, f"{head}\n".encode().ljust(_HEAD_BYTES_MAX), 0)

    def _forget(self) -> None:
        if self._segment is not None:
            os.close(self._segment)
            self._segment = None


def segments(home: Path) -> list[Segment]:
    """Those of the folder `audit`, in the order of the chain."""
    paths = home.iterdir() if home.is_dir() else ()
    named = [(path, match) for path in paths if (match := _SEGMENT.fullmatch(path.name))]
    found = [Segment(path, int(match[1]), _day_of(match[2])) for path, match in named]
    return sorted(found, key=lambda segment: segment.first)


def read_head(descriptor: int) -> Head:
    """What the file `head` says; the beginning where it says nothing that can be read."""
    return head_from(os.pread(descriptor, _HEAD_BYTES_MAX, 0).decode("ascii", "replace")) or Head()


def opening_of(line: bytes) -> Head | None:
    """What the first line of a segment says came before; None where it is no such line."""
    try:
        return head_from(msgspec.json.decode(line, type=Opening).after)
    except msgspec.DecodeError:
        return None


def _end_of(descriptor: int) -> tuple[Head | None, int]:
    """The last record of a segment and where its line ends; None: there is no whole line in it."""
    size = os.fstat(descriptor).st_size
    window = _TAIL_BYTES
    while True:
        begin = max(0, size - window)
        data = os.pread(descriptor, size - begin, begin)
        end = data.rfind(b"\n")
        start = data.rfind(b"\n", 0, max(end, 0)) + 1
        if end >= 0 and (start > 0 or begin == 0):
            line = data[start:end]
            return head_of(line) or opening_of(line), begin + end + 1
        if begin == 0:
            return None, 0
        window *= 4


def _sync_names(home: Path) -> None:
    descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def act(name: str, now_s: float, facts: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"time": round(now_s, 3), "kind": "act", "act": name, "by": "inhouse", "facts": facts})


def _date(day: int) -> str:
    return time.strftime("%Y%m%d", time.gmtime(day * DAY_S))


def _day_of(date: str) -> int:
    import calendar

    try:
        return calendar.timegm(time.strptime(date, "%Y%m%d")) // DAY_S
    except ValueError:
        return 0
