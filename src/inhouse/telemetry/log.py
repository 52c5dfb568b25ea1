"""Log lines: JSON for machines, text for a terminal. They are written in batches, off the event loop.

A line has fields with fixed names and values that are numbers, names or codes. There is no field for content, and
nothing that a client sent is put into a message.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, BinaryIO, TextIO

import msgspec
from msgspec import UNSET

from inhouse.telemetry.entry import Entry
from inhouse.telemetry.line import Level, RequestLine
from inhouse.telemetry.rounding import tenths, thousandths

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_INFO = LEVELS["info"]
_LINES_MAX = 10_000


class Log:
    """Lines wait in memory until `flush`, and while the lines before them are being written, which takes as long as
    somebody takes to read; beyond `_LINES_MAX` the newest are dropped and counted."""

    def __init__(self, *, level: str = "info", form: str = "auto", stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._threshold = LEVELS[level]
        self._json = form == "json" or (form == "auto" and not self._stream.isatty())
        self._lines: list[dict[str, Any] | RequestLine | bytes] = []
        """Those of requests are in their form already where that is JSON: there are many."""
        self._epoch_s = time.time() - time.monotonic()
        """What the event loop's clock showed, in seconds since 1970, at its zero; looked at again now and then."""
        self._dropped = 0
        self._writer: ThreadPoolExecutor | None = ThreadPoolExecutor(1, thread_name_prefix="log")
        self._writing: Future[None] | None = None

    def event(self, level: Level, event: str, **fields: Any) -> None:
        """One thing that happened; `event` is a fixed phrase, the fields say which."""
        if LEVELS[level] >= self._threshold:
            self._append({"time": round(time.time(), 3), "level": level, "event": event, **fields})

    def request(self, entry: Entry) -> None:
        """One finished request."""
        if self._threshold <= _INFO or LEVELS[_level(entry)] >= self._threshold:
            line = _line(entry, self._epoch_s)
            self._append(_encode(line) if self._json else line)

    def _append(self, line: dict[str, Any] | RequestLine | bytes) -> None:
        if len(self._lines) < _LINES_MAX:
            self._lines.append(line)
        else:
            self._dropped += 1

    def flush(self) -> None:
        """Hands what has gathered to the writing thread; called a few times a second."""
        self._epoch_s = time.time() - time.monotonic()
        if not self._lines or (self._writing is not None and not self._writing.done()):
            return
        lines, self._lines = self._lines, []
        if self._dropped:
            at = round(time.time(), 3)
            lines.append({"time": at, "level": "warning", "event": "log lines dropped", "lines": self._dropped})
            self._dropped = 0
        if self._writer is not None:
            self._writing = self._writer.submit(self._write, lines)
        else:
            self._write(lines)

    def close(self) -> None:
        """Writes what is left and waits until it is out."""
        if self._writing is not None:
            wait([self._writing])
        self.flush()
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.shutdown(wait=True)

    def _write(self, lines: list[dict[str, Any] | RequestLine | bytes]) -> None:
        form = _encode if self._json else _text_line
        try:
            written = [one if isinstance(one, bytes) else form(one) for one in lines]
            text = b"\n".join([*written, b""])
            below: BinaryIO | None = getattr(self._stream, "buffer", None)
            if below is None:
                self._stream.write(text.decode())
            else:  # as the bytes they are: thousands of lines would be copied twice
                self._stream.flush()
                below.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            return  # nobody reads standard error any more; there is no other place to say so


def _level(entry: Entry) -> Level:
    return "warning" if entry.status >= 500 or entry.failed else "info"


def _line(entry: Entry, epoch_s: float) -> dict[str, Any] | RequestLine:
    """`epoch_s` is what the event loop's clock showed, in seconds since 1970, at its zero."""
    usage, arrived_s, first_s = entry.usage, entry.arrived_s, entry.first_token_s
    line = RequestLine(
        thousandths(epoch_s + entry.ended_s),
        _level(entry),
        "request",
        entry.request_id,
        entry.api,
        entry.model,
        entry.key_id,
        entry.tenant,
        entry.status,
        usage.prompt_tokens,
        usage.cached_tokens,
        usage.completion_tokens,
        tenths(1000 * entry.waited_s),
        None if first_s is None else tenths(1000 * (first_s - arrived_s)),
        tenths(1000 * (entry.ended_s - arrived_s)),
        entry.code or UNSET,
    )
    return line if not entry.facts else _fields(line) | {**entry.facts}


def _fields(line: RequestLine) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(line).items() if value is not UNSET}


_encode = msgspec.json.Encoder().encode


def _text_line(entry: dict[str, Any] | RequestLine) -> bytes:
    line = dict(entry) if isinstance(entry, dict) else _fields(entry)
    at = time.strftime("%H:%M:%S", time.localtime(line.pop("time")))
    level, event = line.pop("level"), line.pop("event")
    fields = " ".join(f"{name}={value}" for name, value in line.items() if value not in (None, "-"))
    return f"{at} {level:<7} {event} {fields}".encode()


def place_of(error: BaseException) -> str:
    """The kind of an error and where it was raised, for the log: its text may hold content."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else f" at {trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}"
    return type(error).__name__ + where
