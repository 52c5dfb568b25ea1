"""The facts of one request, filled in on its way and booked once it is over. No content, ever."""

from __future__ import annotations

from dataclasses import dataclass

from inhouse.core import Usage

HUNG_UP = 499
"""Status in logs and metrics of a request whose client left; nothing is sent with it (nginx's convention)."""


NOTHING = Usage()


@dataclass(slots=True)
class Entry:
    """Times are seconds of the event loop's clock; None where the request did not come that far."""

    request_id: str
    api: str
    arrived_s: float
    key_id: str = "-"
    tenant: str = "-"
    model: str = "-"
    status: int = 0
    code: str = ""
    waited_s: float = 0.0
    first_token_s: float | None = None
    ended_s: float = 0.0
    usage: Usage = NOTHING
    events: int = 0
    failed: bool = False
    """The answer had begun (status 200) and ended with an error event."""

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
