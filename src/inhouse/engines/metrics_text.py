"""Prometheus' text format, read for a few names. Pure; of what cannot be read, the line is passed over.

A page of an engine may have thousands of lines of which ten matter: lines of other names cost one search each.
"""

from __future__ import annotations

import math
from collections.abc import Collection

LINE_BYTES_MAX = 64 * 1024
SAMPLES_MAX = 10_000


def read(page: bytes, names: Collection[str]) -> dict[str, list[float]]:
    """The values of each of `names` that is there, one for each set of labels, in their order on the page.

    Values that are no number (NaN, infinities, garbage) are left out, so a name may be there without a value.
    """
    wanted = {name.encode() for name in names}
    found: dict[str, list[float]] = {}
    samples = 0
    for line in page.split(b"\n"):
        if len(line) > LINE_BYTES_MAX:
            continue
        line = line.strip(b" \t\r")
        if not line or line.startswith(b"#"):
            continue
        name, rest = _split(line)
        if name not in wanted or rest is None:
            continue
        value = _value(rest)
        if value is not None and samples < SAMPLES_MAX:
            samples += 1
            found.setdefault(name.decode(), []).append(value)
    return found


def _split(line: bytes) -> tuple[bytes, bytes | None]:
    """The name of a sample, and what stands behind its labels; None where those have no end."""
    for at, char in enumerate(line):
        if char == 0x7B:  # {
            end = _labels_end(line, at + 1)
            return line[:at].rstrip(), None if end < 0 else line[end:]
        if char in b" \t":
            rest = line[at:].lstrip()
            if rest.startswith(b"{"):  # a space before the labels is allowed
                end = _labels_end(rest, 1)
                return line[:at], None if end < 0 else rest[end:]
            return line[:at], rest
    return line, None


def _labels_end(line: bytes, at: int) -> int:
    """Where the labels that begin at `at` are over; -1 where they are not. A label's value may hold any character."""
    while True:
        close, quote = line.find(b"}", at), line.find(b'"', at)
        if close < 0:
            return -1
        if quote < 0 or close < quote:
            return close + 1
        at = quote + 1
        while True:
            end = line.find(b'"', at)
            if end < 0:
                return -1
            backslashes = len(line[at:end]) - len(line[at:end].rstrip(b"\\"))
            at = end + 1
            if backslashes % 2 == 0:
                break


def _value(rest: bytes) -> float | None:
    """The first word: a timestamp or an exemplar may follow."""
    words = rest.split(None, 1)
    if not words or b"_" in words[0]:  # float() takes 1_000
        return None
    try:
        value = float(words[0])
    except ValueError:
        return None
    return value if math.isfinite(value) else None
