"""Shapes of what is told of requests: stories, audit records; and the client's request id, which stands in them."""

from __future__ import annotations

from datetime import UTC, datetime
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


class AuditRecord(Struct, kw_only=True, omit_defaults=True):
    """One line of the audit. `kind` says what it is of: a `request`, or an administrative `act`.

    `id` to `total_s` are of a request, `act` to `digest` of an act. What does not apply is left out.
    """

    seq: int
    """Counts from 1 without a gap."""
    time: float
    """When it was over, in seconds since 1970."""
    kind: str
    id: str = ""
    api: str = ""
    tenant: str = ""
    key: str = ""
    """The id of the key; `-` where nobody was proven."""
    model: str = ""
    client: str = ""
    """The address that the connection came from, with `audit.client_address`."""
    status: int = 0
    """499: the client hung up."""
    code: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    money_micros: int = 0
    """What it cost, in millionths of the currency."""
    queue_s: float = 0.0
    first_token_s: float | None = None
    total_s: float = 0.0
    facts: dict[str, int | float | str] = {}
    act: str = ""
    by: str = ""
    """Who did it: the id of a key, `cli:` and the system's user, or `inhouse` itself."""
    target: str = ""
    digest: str = ""
    hash: str
    """SHA-256 over the record before it and this one."""


class AuditPage(Struct):
    """Records, the newest first. `before` is what to ask the next page with; null: there is no more."""

    data: list[AuditRecord]
    before: int | None


AUDIT_QUERY = {
    "limit": "How many records at most, 1 to 1000; 100 without it. A page may hold fewer, and still have a `before`.",
    "before": "Only records with a smaller `seq`: the `before` of the page before.",
    "since": "Only from then on: seconds since 1970, or a moment such as `2026-11-25T10:00:00Z`.",
    "until": "Only before then.",
    "tenant": "Only of this tenant.",
    "key": "Only by this key, or done to it.",
    "model": "Only of this model.",
    "status": "Only with this status, such as `429` or `5xx`.",
    "kind": "Only `request` or `act`.",
    "request": "Only the request with this id.",
}


def moment(text: str) -> float:
    """Seconds since 1970 of a number or of an ISO 8601 moment; one without a zone is UTC. Raises ValueError."""
    if text.replace(".", "", 1).isdigit():
        return float(text)
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
