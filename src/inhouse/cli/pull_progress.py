"""How far fetching is: a bar with rate and time left on a terminal, a line now and then elsewhere, events with --json.

What it reckons (`Pace`) is pure; the clock is given.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from inhouse.weights.wanted import Progress

WINDOW_S = 10.0
BAR = 24
REDRAW_S = 0.1
LINE_S = 10.0
EVENT_S = 1.0


class Pace:
    """Rate over the last ten seconds. What was here at the first look counts as come before."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def saw(self, now_s: float, done_bytes: int) -> None:
        self._seen.append((now_s, done_bytes))
        while len(self._seen) > 2 and now_s - self._seen[1][0] >= WINDOW_S:
            self._seen.popleft()

    @property
    def bytes_per_s(self) -> float | None:
        """None while nothing can be said."""
        if len(self._seen) < 2:
            return None
        (start_s, start), (end_s, end) = self._seen[0], self._seen[-1]
        return (end - start) / (end_s - start_s) if end_s - start_s >= 0.5 else None

    def left_s(self, total_bytes: int | None) -> float | None:
        rate = self.bytes_per_s
        return None if total_bytes is None or not rate else (total_bytes - self._seen[-1][1]) / rate


@contextmanager
def told_as_it_comes(name: str, *, as_json: bool) -> Iterator[Progress]:
    """What to give to a source. The terminal is left as it was, whatever happens."""
    if as_json:
        yield _Events(name)
        return
    if not sys.stderr.isatty():
        yield _Lines(name)
        return
    bar = _Bar(name, sys.stderr)
    try:
        yield bar
    finally:
        bar.clear()


class _Told(ABC):
    every_s = LINE_S

    def __init__(self, name: str) -> None:
        self.name = name
        self.pace = Pace()
        self._next_s = 0.0

    def __call__(self, done_bytes: int, total_bytes: int | None) -> None:
        now = time.monotonic()
        self.pace.saw(now, done_bytes)
        if now >= self._next_s:
            self._next_s = now + self.every_s
            self.show(done_bytes, total_bytes)

    @abstractmethod
    def show(self, done_bytes: int, total_bytes: int | None) -> None:
        """How far it is, as this kind says it."""


class _Events(_Told):
    every_s = EVENT_S

    def show(self, done_bytes: int, total_bytes: int | None) -> None:
        rate, left = self.pace.bytes_per_s, self.pace.left_s(total_bytes)
        event = {
            "event": "progress",
            "model": self.name,
            "done_bytes": done_bytes,
            "total_bytes": total_bytes,
            "bytes_per_s": None if rate is None else round(rate),
            "left_s": None if left is None else round(left, 1),
        }
        print(json.dumps(event, ensure_ascii=False), flush=True)


class _Lines(_Told):
    def show(self, done_bytes: int, total_bytes: int | None) -> None:
        print(f"{self.name}: {status(self.pace, done_bytes, total_bytes)}", file=sys.stderr, flush=True)


class _Bar(_Told):
    every_s = REDRAW_S

    def __init__(self, name: str, terminal: TextIO) -> None:
        super().__init__(name)
        self._terminal = terminal

    def show(self, done_bytes: int, total_bytes: int | None) -> None:
        part = min(1.0, done_bytes / total_bytes) if total_bytes else 0.0
        filled = round(part * BAR)
        bar = f"{'━' * filled}{'─' * (BAR - filled)} {100 * part:3.0f} %  " if total_bytes else ""
        room = max(0, shutil.get_terminal_size().columns - 1)
        line = f"{bar}{status(self.pace, done_bytes, total_bytes)}  {self.name}"[:room]
        self._terminal.write(f"\r\x1b[2K{line}\r")
        self._terminal.flush()

    def clear(self) -> None:
        self._terminal.write("\r\x1b[2K")
        self._terminal.flush()


def status(pace: Pace, done_bytes: int, total_bytes: int | None) -> str:
    """`1.2 of 4.1 GiB, 88.0 MiB/s, 33 s left`"""
    words = [f"{size_text(done_bytes)} of {size_text(total_bytes)}" if total_bytes else size_text(done_bytes)]
    if (rate := pace.bytes_per_s) is not None:
        words.append(f"{size_text(rate)}/s")
    if (left := pace.left_s(total_bytes)) is not None:
        words.append(f"{time_text(left)} left")
    return ", ".join(words)


def size_text(size: float) -> str:
    """`4.1 GiB`: as people compare files, not exact."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def time_text(seconds: float) -> str:
    """`33 s`, `4 min`, `1 h 20 min`"""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
