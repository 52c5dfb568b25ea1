"""A chain of records: each line carries a hash over itself and over the hash before it. Pure.

A line is a JSON object whose first field is `seq` and whose last one is `hash`:

    {"seq":7,"time":1764108000.25,…,"hash":"9f86d081…"}

`seq` counts from 1 without a gap. `hash` is SHA-256, in hex, of the hash of the record before (64 zeros for the first)
followed by the line without its hash, that is the bytes up to `,"hash":"` and a closing brace. So a changed, dropped,
added or moved record is seen at that record, by anybody with a SHA-256. What a chain cannot tell by itself is that its
end was cut off, or that it was made anew as a whole: `audit_files` keeps its head apart, and so can others.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

BEGINNING = "0" * 64
_SEQ = re.compile(rb'\{"seq":(\d{1,18}),')
_TAIL = re.compile(rb',"hash":"([0-9a-f]{64})"\}')
_TAIL_BYTES = len(b',"hash":""}') + 64


@dataclass(frozen=True, slots=True)
class Head:
    """The last record of a chain: its number and its hash. (0, `BEGINNING`) where there is none."""

    seq: int = 0
    hash: str = BEGINNING

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"


def head_from(text: str) -> Head | None:
    """The head that `str(head)` wrote; None for any other text."""
    seq, _, digest = text.strip().partition(":")
    fits = seq.isascii() and seq.isdigit() and len(seq) < 19 and re.fullmatch(r"[0-9a-f]{64}", digest)
    return Head(int(seq), digest) if fits else None


def seal(head: Head, body: bytes) -> tuple[bytes, Head]:
    """The line, with its end of line, of the record that comes next, and the chain's new head.

    `body` is a JSON object with at least one field, on one line.
    """
    return seal_all(head, (body,))


def seal_all(head: Head, bodies: Iterable[bytes]) -> tuple[bytes, Head]:
    """The same for several records, in order: all lines, and the head after the last one."""
    seq, digest, lines = head.seq, head.hash.encode(), []
    for body in bodies:
        seq += 1
        numbered = b'{"seq":%d,%b' % (seq, body[1:])
        digest = _hash(digest, numbered)
        lines.append(b'%b,"hash":"%b"}\n' % (numbered[:-1], digest))
    return b"".join(lines), Head(seq, digest.decode())


def head_of(line: bytes) -> Head | None:
    """Number and hash that a line says it has, without its end of line; None where it is no record."""
    seq, tail = _SEQ.match(line), _TAIL.fullmatch(line, max(0, len(line) - _TAIL_BYTES))
    return Head(int(seq[1]), tail[1].decode()) if seq and tail else None


def holds(line: bytes, before: str) -> bool:
    """Whether a record is the one that was written after the one whose hash is `before`."""
    found = head_of(line)
    return found is not None and _hash(before.encode(), line[:-_TAIL_BYTES] + b"}") == found.hash.encode()


def _hash(before: bytes, body: bytes) -> bytes:
    return hashlib.sha256(before + body).hexdigest().encode()


@dataclass(slots=True)
class Check:
    """Goes through the lines of a chain, in order, and gathers what is wrong with it.

    After a fault it goes on with what the next record says of itself, so that one fault is told once.
    """

    head: Head = field(default_factory=Head)
    """The last record so far; at the beginning that before the first one."""
    records: int = 0
    _anchored: bool = True
    _missing: list[range] = field(default_factory=list)
    _problems: list[str] = field(default_factory=list)

    def line(self, line: bytes, where: str) -> None:
        """The next line, without its end; `where` names it to people, as in `audit-….jsonl, line 7`."""
        found = head_of(line)
        if found is None:
            self._problems.append(f"the line after record {self.head.seq} is no record ({where})")
            self._anchored = False
            return
        self.records += 1
        wanted = self.head.seq + 1
        if found.seq < wanted:
            self._out_of_place(found, where)
            return
        if found.seq > wanted:
            self._missing.append(range(wanted, found.seq))
        elif self._anchored and not holds(line, self.head.hash):
            self._problems.append(
                f"record {found.seq} was changed, or the one before it was replaced: its hash does not match ({where})"
            )
        self.head, self._anchored = found, True

    def anchor(self, head: Head, where: str) -> None:
        """Here the chain says of itself what came before: it has to be what was seen."""
        if head.seq > self.head.seq:
            self._missing.append(range(self.head.seq + 1, head.seq + 1))
        elif self._anchored and head != self.head:
            self._problems.append(f"{where} does not go on where record {self.head.seq} ended")
        self.head, self._anchored = head, True

    def problems(self) -> Iterator[str]:
        for gap in sorted(self._missing, key=lambda gap: gap.start):
            names = f"record {gap.start} is" if len(gap) == 1 else f"records {gap.start} to {gap[-1]} are"
            yield f"{names} missing"
        yield from self._problems

    def _out_of_place(self, found: Head, where: str) -> None:
        for index, gap in enumerate(self._missing):
            if found.seq in gap:
                left = (range(gap.start, found.seq), range(found.seq + 1, gap.stop))
                self._missing[index : index + 1] = [part for part in left if part]
                self._problems.append(f"record {found.seq} is not in its place: it stands at {where}")
                return
        self._problems.append(f"record {found.seq} is there twice: again at {where}")


def check(lines: Iterable[bytes], head: Head | None = None) -> list[str]:
    """What is wrong with the chain of these lines, which begins after `head`."""
    checked = Check(head or Head())
    for number, line in enumerate(lines, start=1):
        checked.line(line, f"line {number}")
    return list(checked.problems())
