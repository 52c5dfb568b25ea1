"""The facts of one request, filled in on its way and booked once it is over. No content, ever."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from inhouse.core import NOTHING
from inhouse.telemetry.story import STEPS_MAX, Step

HUNG_UP = 499
"""Status in logs and metrics of a request whose client left; nothing is sent with it (nginx's convention)."""

FactName = Literal[
    "credential",
    "trimmed_messages",
    "trimmed_tokens",
    "answer_tokens_asked",
    "retries",
    "failovers",
    "cache",
    "reused_tokens",
]
FACTS: dict[FactName, str] = {
    "credential": "why nobody was proven: `missing`, `malformed`, `unknown`, `expired` or `revoked`",
    "trimmed_messages": "messages that were left out of a prompt that was too long",
    "trimmed_tokens": "tokens that were left out of it",
    "cache": "where an answer that may be reused came from: `hit`, `shared` or `miss`",
    "reused_tokens": "tokens of the answer that were not generated for this request",
    "retries": "replicas that failed before the first token, after which the request went on at another",
    "failovers": "replicas that failed in the middle of an answer, after which it went on at another",
    "answer_tokens_asked": "the longer answer that the client asked for, where the model's limit took its place",
}
"""What may stand in a request's facts: the names are fixed, the values are numbers or words of ours."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What the end of a request counts for: one side of a route's canary."""

    route: str
    version: Literal["stable", "canary"]


class Entry:
    """Times are seconds of the event loop's clock; None where the request did not come that far."""

    key_id: str = "-"
    tenant: str = "-"
    model: str = "-"
    client: str = ""
    """The address that the connection came from, where the stack wants it noted."""
    status: int = 0
    code: str = ""
    waited_s: float = 0.0
    place: int = 0
    """In the queue, when it came: 1 was next. 0: it did not wait."""
    first_token_s: float | None = None
    ended_s: float = 0.0
    money: int = 0
    """What it cost, in millionths of the stack's currency."""
    events: int = 0
    retries: int = 0
    """Replicas that failed before the first token, whose request went on elsewhere."""
    failovers: int = 0
    """Replicas that failed in the middle of an answer, which went on elsewhere."""
    cache: Literal["", "hit", "miss", "shared"] = ""
    """Where the answer came from: kept, generated, or a generation shared with others; "" where none may be reused."""
    reused_tokens: int = 0
    """Tokens of the answer that were not generated for this request; `usage` is without them."""
    failed: bool = False
    """The answer had begun (status 200) and ended with an error event."""
    begun: bool = False
    """The pipeline has seen it; a client may leave before."""
    facts: dict[FactName, int | float | str] | None = None
    trial: Trial | None = None
    """The side of a canary that its end counts for."""

    def __init__(self, request_id: str, api: str, arrived_s: float) -> None:
        self.request_id = request_id
        self.api = api
        self.arrived_s = arrived_s
        self.usage = NOTHING
        self.steps: list[Step] = []
        """What happened on the way, for `inhouse explain`."""

    def note(self, name: FactName, value: float | str) -> None:
        """A fact for log, audit and explanation. Never content, nothing that a client sent."""
        if self.facts is None:
            self.facts = {}
        self.facts[name] = value

    def step(self, step: Step) -> None:
        """Beyond `STEPS_MAX` the newest are left out."""
        if len(self.steps) < STEPS_MAX:
            self.steps.append(step)

    @property
    def ttft_s(self) -> float | None:
        return None if self.first_token_s is None else self.first_token_s - self.arrived_s

    @property
    def tpot_s(self) -> float | None:
        """Seconds per token after the first."""
        tokens = self.usage.completion_tokens
        if self.first_token_s is None or tokens < 2:
            return None
        return (self.ended_s - self.first_token_s) / (tokens - 1)
