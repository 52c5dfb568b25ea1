"""What is asked of the router, and what it answers: the pick with its candidates, to be explained later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from inhouse.routing.known import Known

Outcome = Literal["ok", "failed", "neutral"]
"""How a request at an endpoint ended. `failed` is the endpoint's fault: no connection, silence, a 5xx, a broken stream.
`ok` is every answer that shows it healthy, a refusal of the client's own mistake among them. `neutral` says nothing:
the client hung up, the gateway stopped."""

Refusal = Literal["not ready", "tried already", "breaker open", "probing", "ejected", "full"]
"""Why an endpoint was no candidate."""

NOBODY: frozenset[str] = frozenset()


class RouteAsk:
    """One request, as far as routing cares. Kept for its retries: the prompt is hashed once.

    `prompt` is the body for the engine, whose beginning is what prompts share; of one that was hashed only the first
    block is kept, as it may be long, and `prompt_bytes` says how long it was. `session` is a key that the requests of
    one conversation or user have in common, "" without one. `excluded` are endpoints that failed this request.
    """

    blocks: list[int] | None = None
    """The hash chain of the prompt, once the router has needed it."""

    def __init__(self, prompt: bytes = b"", session: str = "", excluded: frozenset[str] = NOBODY) -> None:
        self.prompt = prompt
        self.prompt_bytes = len(prompt)
        self.session = session
        self.excluded = excluded


@dataclass(frozen=True, slots=True)
class Candidate:
    """One endpoint at one pick. `score` is within 0 and 1; None where a filter took it out, which `refusal` names."""

    endpoint_id: str
    score: float | None
    refusal: Refusal | None = None
    load: float | None = None
    """Requests there, running and waiting, as they were counted for the score."""
    prefix: float | None = None
    """Part of the prompt that it has seen lately, 0 to 1; None where that was not looked at."""


class Pick:
    """An endpoint, chosen. Cheap to make; `candidates` is put together when somebody asks.

    `names`, `scores`, `loads` and `prefixes` belong together by index: those that could have had the request.
    `known`, `started`, `ended`, `probe` and `proven` are the router's own.
    """

    started: bool = False
    ended: bool = False
    probe: bool = False
    proven: bool = False

    def __init__(
        self,
        endpoint_id: str,
        reason: str,
        ask: RouteAsk,
        known: Known,
        names: Sequence[str],
        scores: Sequence[float],
        loads: Sequence[float],
        prefixes: Sequence[float] | None,
        refused: Sequence[tuple[str, Refusal]],
    ) -> None:
        self.endpoint_id = endpoint_id
        self.reason = reason
        self.ask = ask
        self.known = known
        self.names = names
        self.scores = scores
        self.loads = loads
        self.prefixes = prefixes
        self.refused = refused

    def begun(self) -> None:
        """Its answer has begun."""
        if self.probe and not self.proven:
            self.proven = True
            self.known.breaker.proven()

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """Every endpoint that was looked at, those that could have served first, best score first."""
        prefixes: Sequence[float | None] = self.prefixes or [None] * len(self.names)
        scored = [
            Candidate(name, score, None, load, prefix)
            for name, score, load, prefix in zip(self.names, self.scores, self.loads, prefixes, strict=True)
        ]
        scored.sort(key=lambda candidate: -(candidate.score or 0.0))
        return (*scored, *(Candidate(name, None, refusal) for name, refusal in self.refused))
