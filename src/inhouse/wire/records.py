"""Shapes of what is told of requests: stories, audit records; and the client's request id, which stands in them."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

REQUEST_ID_BYTES_MAX = 128
_FIT_FOR_IDS = bytes(byte for byte in range(0x21, 0x7F) if byte not in b"\"'`\\<>&")


def sane_request_id(value: bytes) -> str | None:
    """The client's `x-request-id` if it can stand in a header, a log line and a path: visible ASCII without quotes,
    backslashes and what HTML means something by, 128 bytes at most."""
    if 0 < len(value) <= REQUEST_ID_BYTES_MAX and not value.translate(None, _FIT_FOR_IDS):
        return value.decode("ascii")
    return None


class StoryTokens(Struct):
    """As the engine counted; after a hang-up, the tokens that were sent."""

    prompt: int
    cached: int
    completion: int


class StorySeconds(Struct):
    """null: it did not come that far. `prefill` begins when the engine was asked, `decode` at the first token."""

    queue: float
    prefill: float | None
    first_token: float | None
    decode: float | None
    total: float


class RequestStory(Struct, kw_only=True):
    """How one request fared. `ending`: answered, refused, hung up, or broke off in the middle of its stream."""

    id: str
    time: float
    """Arrival, in seconds since 1970."""
    api: str
    model: str
    tenant: str
    key: str
    status: int
    code: str
    ending: str
    queue_place: int
    """Its place in the queue when it came; 0: it did not wait."""
    seconds: StorySeconds
    tokens: StoryTokens
    money: float | None
    """What it cost, in the stack's currency; null where the model has no price."""
    facts: dict[str, int | float | str]
    steps: list[dict[str, Any]]
    """What happened, in order: `what`, `at_s` (seconds after arrival), and fields of its own."""


class StoryList(Struct):
    """The requests that bear one id, the newest first."""

    requests: list[RequestStory]
