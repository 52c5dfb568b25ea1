"""What a line of the audit says, of a request and of an administrative act. No field for content exists."""

from __future__ import annotations

from typing import Literal

import msgspec

ActName = Literal[
    "gateway.started",
    "gateway.stopped",
    "stack.loaded",
    "key.made",
    "key.rotated",
    "key.revoked",
    "endpoint.drained",
    "endpoint.undrained",
    "route.changed",
    "audit.read",
    "audit.lost",
    "audit.torn",
    "audit.expired",
]
ACTS: dict[ActName, str] = {
    "gateway.started": "a gateway began to serve",
    "gateway.stopped": "it ended, and had time to say so",
    "stack.loaded": "what it serves: `digest` is the SHA-256 of all settings in force",
    "key.made": "a key was made; `target` is its id, `tenant` whose it is",
    "key.rotated": "a key got a new secret",
    "key.revoked": "a key was revoked",
    "endpoint.drained": "a replica takes no new requests from then on; `target` is its id, `model` whose it is",
    "endpoint.undrained": "it takes requests again",
    "route.changed": "a route was changed by hand, or by its canary; `target` is its name, `change` says what",
    "audit.read": "somebody read the audit through the API",
    "audit.lost": "`records` could not be kept while the audit could not be written",
    "audit.torn": "a process was killed while it wrote: `bytes` of an unfinished line were cut off",
    "audit.expired": "records `first` to `last` were older than `audit.keep` and were removed",
}
Facts = dict[str, int | float | str]
NO_FACTS: Facts = {}


class Record(msgspec.Struct, omit_defaults=True, gc=False):
    """One line of the audit, less its number and hash. Times are seconds; `time` is when it was over, since 1970.

    `id` to `facts` of a request, `act` to `target` of an act; `tenant` and `facts` of both.
    """

    time: float
    kind: Literal["request", "act"]
    id: str = ""
    api: str = ""
    tenant: str = ""
    key: str = ""
    model: str = ""
    client: str = ""
    status: int = 0
    code: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    money_micros: int = 0
    """In millionths of the stack's currency."""
    queue_s: float = 0.0
    first_token_s: float | None = None
    total_s: float = 0.0
    facts: Facts = {}
    act: ActName | Literal[""] = ""
    by: str = ""
    """Who: the id of a key, `cli:` and the name of the system's user, or `inhouse` itself."""
    target: str = ""
    digest: str = ""
