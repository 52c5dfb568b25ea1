"""Errors in the shape of the OpenAI API: one object, always with message, type, param and code."""

from __future__ import annotations

import math

import msgspec

from inhouse.errors import ApiError, MethodNotAllowed, RateLimited


def body(error: ApiError) -> bytes:
    """The JSON body of a refusal."""
    return msgspec.json.encode(
        {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}
    )


def event(error: ApiError) -> bytes:
    """The terminal event of a stream that broke off after its first byte."""
    return b"data: " + body(error) + b"\n\n"


def headers(error: ApiError) -> list[tuple[bytes, bytes]]:
    """Headers that belong to a refusal: when to try again, how to authenticate, what is allowed."""
    found: list[tuple[bytes, bytes]] = []
    if error.retry_after_s is not None:
        found.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s))))
    if error.status == 401:
        found.append((b"www-authenticate", b'Bearer realm="inhouse"'))
    if isinstance(error, RateLimited):
        found += error.headers
    if isinstance(error, MethodNotAllowed):
        found.append((b"allow", error.allow.encode()))
    return found
