"""The nouns that every room shares: frozen, without I/O. Parse at the door, trust inside."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import msgspec


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one request, as the engine counted them. (A struct, as it is made several times in each request.)

    `cached_tokens` is the part of `prompt_tokens` that the engine took from its prefix cache.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def without(self, reused_tokens: int) -> Usage:
        """The same, less those tokens of the answer that were not generated for it."""
        if not reused_tokens:
            return self
        return Usage(self.prompt_tokens, max(0, self.completion_tokens - reused_tokens), self.cached_tokens)

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )


NOTHING = Usage()


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is calling, as proven by a credential; never taken from an unauthenticated header."""

    key_id: str
    tenant: str = "default"
    roles: frozenset[str] = field(default_factory=frozenset)
    models: tuple[str, ...] = ()
    """Models that this one key may use; empty is all of its tenant's."""
    limits: tuple[tuple[str, int], ...] = ()
    """Limits of this one key by name, as its record has them; those of inhouse.yaml hold beside them."""


ROLE_NAMES = ("admin", "operator", "developer", "auditor")
"""What each of them may do: `tenancy/roles`."""

ANONYMOUS = Identity(key_id="anonymous")
"""The caller when authentication is off (`--no-auth`, loopback only)."""


ReplicaState = Literal["loading", "ready", "restarting", "failed", "asleep", "stopped", "unreachable"]


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """What a replica says of itself when its state changes; `reason` only where something went wrong."""

    model: str
    engine: str
    state: ReplicaState
    threads: int | None = None
    slots: int | None = None
    context_tokens: int | None = None
    """Context of one request, prompt and answer together."""
    memory_bytes: int | None = None
    load_s: float | None = None
    reason: str | None = None
    endpoint: str = ""
    """The id of its endpoint."""
    native: bool = False
    """The engine is one that was compiled on this machine."""
    gpu: str = ""
    """What it computes on beside the CPU."""


EndpointState = Literal["ready", "loading", "asleep", "draining", "unreachable"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One replica as it was last seen: where it is, what it reported, what we have in flight there.

    None is "unknown", never 0: an engine that does not report a figure has not reported that it is idle.
    """

    id: str
    """Stable while the replica lives, as in `chat-0` (a copy that was started here) or `10.0.3.7:8000`."""
    state: EndpointState = "ready"
    generation: int = 0
    """Grows when the replica was started anew: what was known of its caches is no longer true."""
    slots: int | None = None
    in_flight: int = 0
    """Requests of this gateway, counted at once; the figures below are as old as the last scrape."""
    running: int | None = None
    waiting: int | None = None
    kv_used: float | None = None
    """Part of the memory for keys and values that is in use, 0 to 1."""
    prefix_hits: float | None = None
    """Part of the prompt tokens of late that came from its prefix cache, 0 to 1."""
    ttft_s: float | None = None
    tpot_s: float | None = None
    observed_s: float | None = None
    """When the figures were read, on the event loop's clock."""


@dataclass(frozen=True, slots=True)
class GatewayReport:
    """What the gateway says of itself: where it listens, and that it stops."""

    state: Literal["listening", "draining", "stopped"]
    url: str = ""
    start_s: float | None = None
    open_requests: int = 0


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What a worker says of itself: which queue it works for, and that it stops. `health_url` where it has a port."""

    state: Literal["working", "draining", "stopped"]
    queue: str = ""
    models: tuple[str, ...] = ()
    health_url: str = ""
    running: int = 0
    """Jobs that it still has."""


@dataclass(frozen=True, slots=True)
class KeyMinted:
    """The first start made a key. The one moment at which its text exists; only a hash is kept."""

    key: str
    key_id: str
    state_dir: str


@dataclass(frozen=True, slots=True)
class FetchReport:
    """Weights on their way to this machine. `total_bytes` is None until the source has told it."""

    model: str
    done_bytes: int
    total_bytes: int | None


Report = GatewayReport | WorkerReport | ReplicaReport | KeyMinted | FetchReport
