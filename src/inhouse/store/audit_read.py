"""Reading the audit back: its lines, the newest first, and whether the chain is whole. Holds up no writer.

Every function may raise StateError.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from inhouse.store import folder
from inhouse.store.audit_chain import BEGINNING, Check, Head, head_of
from inhouse.store.audit_files import FOLDER, HEAD_NAME, Segment, opening_of, read_head, segments

_BLOCK_BYTES = 256 * 1024
_LINE_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a look at the whole chain found. `first` and `head` are its first number and its last record."""

    records: int
    first: int
    head: Head
    problems: tuple[str, ...]


class _Expired(msgspec.Struct):
    first: int
    last: int


class _Act(msgspec.Struct):
    act: str = ""
    facts: _Expired | None = None


def newest(state_dir: Path, *, before: int | None = None) -> Iterator[bytes]:
    """Records as their lines, without the end of line, backwards from the newest or from the one before `before`."""
    _, parts = _snapshot(state_dir / FOLDER)
    with folder.telling_os_errors(state_dir / FOLDER):
        for segment, size in reversed(parts):
            if before is None or segment.first < before:
                yield from _backwards(segment.path, size, before)


def oldest(state_dir: Path) -> Iterator[bytes]:
    """All records as their lines, from the oldest on."""
    _, parts = _snapshot(state_dir / FOLDER)
    with folder.telling_os_errors(state_dir / FOLDER):
        for segment, size in parts:
            for line in _lines(segment.path, size):
                if head_of(line) is not None:
                    yield line


def verify(state_dir: Path, *, noted: Head | None = None) -> Verdict:
    """Goes through all of it. `noted` is a head that was noted elsewhere and has to be in the chain still."""
    told, parts = _snapshot(state_dir / FOLDER)
    check, start, expired = Check(), Head(), 0
    wanted = {head.seq: head.hash for head in (told, noted or Head()) if head.seq}
    seen: dict[int, str] = {}
    with folder.telling_os_errors(state_dir / FOLDER):
        for index, (segment, size) in enumerate(parts):
            for number, line in enumerate(_lines(segment.path, size), start=1):
                if number == 1 and (opened := opening_of(line)) is not None:
                    if index == 0:
                        check.head = start = opened
                    else:
                        check.anchor(opened, segment.path.name)
                    continue
                check.line(line, f"{segment.path.name}, line {number}")
                if check.head.seq in wanted:
                    seen[check.head.seq] = check.head.hash
                if b'"audit.expired"' in line:
                    expired = max(expired, expired_by(line))
    problems = list(check.problems())
    if start.seq > expired:
        problems.insert(0, f"records {expired + 1} to {start.seq} are missing, and no record says that they expired")
    problems += ends(check.head, start, wanted, seen)
    return Verdict(check.records, start.seq + 1, check.head, tuple(problems))


def ends(head: Head, start: Head, wanted: dict[int, str], seen: dict[int, str]) -> Iterator[str]:
    for seq, digest in sorted(wanted.items()):
        if seq > head.seq:
            yield f"the chain ends at record {head.seq}, and it reached record {seq} once: the end was cut off"
        elif seq > start.seq and seen.get(seq, BEGINNING) != digest:
            yield f"record {seq} is not the one that was noted: the chain was made anew"


def expired_by(line: bytes) -> int:
    """The last number that a record says expired; 0 for any other record."""
    try:
        found = msgspec.json.decode(line, type=_Act)
    except msgspec.DecodeError:
        return 0
    return found.facts.last if found.act == "audit.expired" and found.facts is not None else 0


def _snapshot(home: Path) -> tuple[Head, list[tuple[Segment, int]]]:
    """The head and the segments with their sizes as they were at one moment."""
    try:
        descriptor = os.open(home / HEAD_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return Head(), [(segment, segment.path.stat().st_size) for segment in segments(home)]
    except OSError as error:
        with folder.telling_os_errors(home):
            raise error
    try:
        with folder.telling_os_errors(home):
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            return read_head(descriptor), [(segment, segment.path.stat().st_size) for segment in segments(home)]
    finally:
        os.close(descriptor)


def _lines(path: Path, size: int) -> Iterator[bytes]:
    """Whole lines, without their end. What stands after the last one is torn; the next writer cuts it off."""
    with path.open("rb") as file:
        while (at := file.tell()) < size and (line := file.readline(min(size - at, _LINE_BYTES_MAX))):
            if line.endswith(b"\n"):
                yield line[:-1]


def _backwards(path: Path, size: int, before: int | None) -> Iterator[bytes]:
    with path.open("rb") as file:
        end = size if before is None else _offset_of(file.fileno(), size, before)
        rest = b""
        while end > 0:
            begin = max(0, end - _BLOCK_BYTES)
            data = os.pread(file.fileno(), end - begin, begin) + rest
            lines = data.split(b"\n")
            rest = lines.pop(0) if begin else b""
            for line in reversed(lines):
                found = head_of(line) if line else None
                if found is not None and (before is None or found.seq < before):
                    yield line
            end = begin


def _offset_of(descriptor: int, size: int, seq: int) -> int:
    """An offset, at the beginning of a line, at or a little after record `seq`; found by halving."""
    low, high = 0, size
    while high - low > _BLOCK_BYTES:
        middle = (low + high) // 2
        data = os.pread(descriptor, _BLOCK_BYTES, middle)
        start = data.find(b"\n") + 1
        found = head_of(data[start : data.find(b"\n", start)]) if start else None
        if found is None:
            return high
        if found.seq < seq:
            low = middle
        else:
            high = middle + start
    return high
