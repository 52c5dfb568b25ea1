"""The bytes of responses: status lines, header lines, and the answers that need no request."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from inhouse.errors import ApiError
from inhouse.wire import errors

STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
JSON = b"content-type: application/json\r\n"
EVENT_STREAM = b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"
DOCUMENT = STATUS_LINES[200] + b"%b" + JSON + b"content-length: %d\r\nx-request-id: %b\r\n%b%b%b\r\n%b"
"""A whole answer: default lines, length, request id, lines of limits, of CORS and of the connection's end, body."""
_ALIVE = b'{"status":"ok"}'


def header_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join([b"%b: %b\r\n" % header for header in headers])


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
