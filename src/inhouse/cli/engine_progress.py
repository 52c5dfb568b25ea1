"""How far a build is: a bar with the time left on a terminal, a line now and then elsewhere, events with --json."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from inhouse.cli.pull_progress import BAR, time_text

LINE_S = 20.0
REDRAW_S = 0.2


class BuildProgress:
    """Takes what is being done and how far it is; `write` gets what is to be shown. The clock is given."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float], *, kind: str, every_s: float) -> None:
        self._write = write
        self._clock = clock
        self._kind = kind
        self._every_s = every_s
        self._doing = ""
        self._began: tuple[float, int] = (0.0, 0)
        self._next_s = 0.0

    def __call__(self, doing: str, done: int, total: int) -> None:
        now = self._clock()
        if doing != self._doing:
            self._doing, self._began, self._next_s = doing, (now, done), now
        if now < self._next_s:
            return
        self._next_s = now + self._every_s
        self._write(self._shown(now, doing, done, total))

    def _shown(self, now: float, doing: str, done: int, total: int) -> str:
        began_s, first = self._began
        steps, took_s = done - first, now - began_s
        left_s = (total - done) * took_s / steps if total and steps > 0 and took_s > 1 else None
        if self._kind == "json":
            left = None if left_s is None else round(left_s)
            return json.dumps({"event": "progress", "doing": doing, "done": done, "total": total, "left_s": left})
        if not total:
            return f"{doing} …"
        words = f"{doing} {done} of {total}" + (f", {time_text(left_s)} left" if left_s is not None else "")
        if self._kind == "lines":
            return words
        filled = round(done / total * BAR)
        return f"{'━' * filled}{'─' * (BAR - filled)} {100 * done / total:3.0f} %  {words}"


@contextmanager
def told_as_it_goes(*, as_json: bool) -> Iterator[Callable[[str, int, int], None]]:
    """The terminal is left as it was, whatever happens."""
    if as_json:
        yield BuildProgress(lambda text: print(text, flush=True), time.monotonic, kind="json", every_s=1.0)
        return
    if not sys.stderr.isatty():
        write = _line
        yield BuildProgress(write, time.monotonic, kind="lines", every_s=LINE_S)
        return
    try:
        yield BuildProgress(_redrawn, time.monotonic, kind="bar", every_s=REDRAW_S)
    finally:
        sys.stderr.write("\r\x1b[2K")
        sys.stderr.flush()


def _line(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _redrawn(text: str) -> None:
    sys.stderr.write(f"\r\x1b[2K{text}\r")
    sys.stderr.flush()
