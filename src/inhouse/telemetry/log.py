"""Log lines: JSON for machines, text for a terminal. Requests are written in batches, off the event loop.

A line has fields with fixed names and values that are numbers, names or codes. There is no field for content, and
nothing that a client sent is put into a message.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, TextIO

import msgspec

from inhouse.telemetry.entry import Entry

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
Level = Literal["debug", "info", "warning", "error"]
_LINES_MAX = 10_000


class Log:
    """Lines wait in memory until `flush`; beyond `_LINES_MAX` the newest are dropped and counted."""

    def __init__(self, *, level: str = "info", form: str = "auto", stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._threshold = LEVELS[level]
        self._json = form == "json" or (form == "auto" and not self._stream.isatty())
        self._lines: list[dict[str, Any]] = []
        self._dropped = 0
        self._writer: ThreadPoolExecutor | None = ThreadPoolExecutor(1, thread_name_prefix="log")

    def event(self, level: Level, event: str, **fields: Any) -> None:
        """One thing that happened; `event` is a fixed phrase, the fields say which."""
        if LEVELS[level] < self._threshold:
            return
        if len(self._lines) >= _LINES_MAX:
            self._dropped += 1
            return
        self._lines.append({"time": time.time(), "level": level, "event": event, **fields})

    def request(self, entry: Entry) -> None:
        """One finished request."""
        level: Level = "warning" if entry.status >= 500 or entry.failed else "info"
        if LEVELS[level] < self._threshold:
            return
        ttft_s = entry.ttft_s
        self.event(
            level,
            "request",
            request_id=entry.request_id,
            api=entry.api,
            model=entry.model,
            key_id=entry.key_id,
            tenant=entry.tenant,
            status=entry.status,
            **({"code": entry.code} if entry.code else {}),
            **(entry.facts or {}),
            prompt_tokens=entry.usage.prompt_tokens,
            cached_tokens=entry.usage.cached_tokens,
            completion_tokens=entry.usage.completion_tokens,
            waited_ms=round(1000 * entry.waited_s, 1),
            ttft_ms=None if ttft_s is None else round(1000 * ttft_s, 1),
            e2e_ms=round(1000 * (entry.ended_s - entry.arrived_s), 1),
        )

    def flush(self) -> None:
        """Hands what has gathered to the writing thread; called a few times a second."""
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        if self._dropped:
            lines.append(
                {"time": time.time(), "level": "warning", "event": "log lines dropped", "lines": self._dropped}
            )
            self._dropped = 0
        if self._writer is not None:
            self._writer.submit(self._write, lines)
        else:
            self._write(lines)

    def close(self) -> None:
        """Writes what is left and waits until it is out."""
        self.flush()
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.shutdown(wait=True)

    def _write(self, lines: list[dict[str, Any]]) -> None:
        try:
            self._stream.write("".join(map(self._json_line if self._json else _text_line, lines)))
            self._stream.flush()
        except (OSError, ValueError):
            return  # nobody reads standard error any more; there is no other place to say so

    @staticmethod
    def _json_line(line: dict[str, Any]) -> str:
        line["time"] = round(line["time"], 3)
        return msgspec.json.encode(line).decode() + "\n"


def _text_line(line: dict[str, Any]) -> str:
    at = time.strftime("%H:%M:%S", time.localtime(line.pop("time")))
    level, event = line.pop("level"), line.pop("event")
    fields = " ".join(f"{name}={value}" for name, value in line.items() if value not in (None, "-"))
    return f"{at} {level:<7} {event} {fields}\n"
