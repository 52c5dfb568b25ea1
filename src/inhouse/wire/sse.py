"""Server-sent events: cutting a byte stream into whole events (WHATWG HTML, section 9.2).

Engines end their lines with LF; a stream with CRLF is accepted too. Events are handed on as bytes, so that a stream
nobody needs to look into is never parsed.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from inhouse.errors import EngineError

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)
"""What a decoder raises for a payload that is no JSON, or not what was to come."""
DONE = b"data: [DONE]\n\n"
EVENT_BYTES_MAX = 16 * 1024 * 1024


class EventCutter:
    """Holds back the beginning of an event until its end has come, so that the client sees whole events only."""

    __slots__ = ("rest",)

    def __init__(self) -> None:
        self.rest = b""
        """The beginning of an event."""

    def feed(self, data: bytes) -> bytes:
        """The whole events that are complete with `data`; b"" when none is.

        Raises EngineError for an event longer than `EVENT_BYTES_MAX`.
        """
        if self.rest:
            data = self.rest + data
            self.rest = b""
        if data.endswith(b"\n\n"):
            return data
        cut = data.rfind(b"\n\n") + 2
        if cut == 1:
            if b"\r\n\r\n" in data:
                return self._feed_crlf(data)
            cut = 0
        self.rest = data[cut:]
        if len(self.rest) > EVENT_BYTES_MAX:
            raise EngineError(f"the engine sent an event of more than {EVENT_BYTES_MAX} bytes")
        return data[:cut]

    def _feed_crlf(self, data: bytes) -> bytes:
        cut = data.rfind(b"\r\n\r\n") + 4
        self.rest = data[cut:]
        return data[:cut].replace(b"\r\n", b"\n")


def queued(position: int | None, wait_s: float | None, doing: str = "") -> bytes:
    """A comment for a client that waits: `: queued position=3 wait_s=4.2`. What is not known is left out."""
    place = b"" if position is None else b" position=%d" % position
    pace = b"" if wait_s is None else b" wait_s=%.1f" % wait_s
    return b": queued%b%b%b\n\n" % (place, pace, f" {doing}".encode() if doing else b"")


def went_on(times: int) -> bytes:
    """A comment: from here on the answer comes from another replica, for the `times`th time."""
    return b": failover %d\n\n" % times


def payloads(events: bytes) -> Iterator[bytes]:
    """The data of each event. Comments and events without data are passed over."""
    for event in events.split(b"\n\n"):
        if event.startswith(b"data: ") and b"\n" not in event:
            yield event[6:]
        elif event:
            lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
            if lines:
                yield b"\n".join(lines)
