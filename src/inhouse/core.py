"""The nouns that every room shares: frozen, without I/O. Parse at the door, trust inside."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request, as the engine counted them.

    `cached_tokens` is the part of `prompt_tokens` that the engine took from its prefix cache.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is calling, as proven by a credential; never taken from an unauthenticated header."""

    key_id: str
    tenant: str = "default"
    roles: frozenset[str] = field(default_factory=frozenset)


ANONYMOUS = Identity(key_id="anonymous")
"""The caller when authentication is off (`--no-auth`, loopback only)."""


ReplicaState = Literal["loading", "ready", "restarting", "failed", "stopped"]


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


@dataclass(frozen=True, slots=True)
class GatewayReport:
    """What the gateway says of itself: where it listens, and that it stops."""

    state: Literal["listening", "draining", "stopped"]
    url: str = ""
    start_s: float | None = None
    open_requests: int = 0


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


Report = GatewayReport | ReplicaReport | KeyMinted | FetchReport
