"""The bytes of responses: status lines, header lines, and the answers that need no request."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from inhouse.errors import ApiError
from inhouse.telemetry.entry import Entry
from inhouse.wire import errors

STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
JSON = b"content-type: application/json\r\n"
EVENT_STREAM = b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"
_ALIVE = b'{"status":"ok"}'


def header_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def head_of(entry: Entry, status: int, first: bytes, last: bytes) -> bytes:
    """The head of an answer, with what is told of its request between the lines `first` and `last`."""
    if entry.cache and status == 200:
        first += b"x-inhouse-cache: %b\r\n" % entry.cache.encode()
    if entry.failovers:
        first += b"x-inhouse-failovers: %d\r\n" % entry.failovers
    waited = b"x-inhouse-queue-wait: %.3f\r\n" % entry.waited_s if entry.waited_s else b""
    return b"%b%bx-request-id: %b\r\n%b%b\r\n" % (STATUS_LINES[status], first, entry.request_id.encode(), waited, last)


def alive(default_lines: bytes, *, keep_alive: bool) -> bytes:
    """The answer to whoever asks whether this process lives."""
    closing = b"" if keep_alive else b"connection: close\r\n"
    return b"%b%b%bcontent-length: %d\r\n%b\r\n%b" % (
        STATUS_LINES[200],
        default_lines,
        JSON,
        len(_ALIVE),
        closing,
        _ALIVE,
    )


def refusal(error: ApiError, default_lines: bytes) -> bytes:
    """The answer to what never became a request; the connection ends with it."""
    body = errors.body(error)
    return b"%b%b%b%bcontent-length: %d\r\nconnection: close\r\n\r\n%b" % (
        STATUS_LINES[error.status],
        default_lines,
        header_lines(errors.headers(error)),
        JSON,
        len(body),
        body,
    )
