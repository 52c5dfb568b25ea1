"""A replica as the gateway sees it: whether it is open, how many requests it has of ours, what it last reported.

One `Member` has one writer of its state: the shell that keeps or watches the replica (`replica`, `remote`). What people
and discovery say of it (`drained`, `leaving`) is kept apart from it, so that neither undoes the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from inhouse.core import Endpoint, EndpointState, ReplicaState
from inhouse.engines.engine import Engine
from inhouse.engines.figures import Figures
from inhouse.engines.http import Pool


def _nobody() -> None:
    return None


_STATES: dict[ReplicaState, EndpointState] = {
    "ready": "ready",
    "loading": "loading",
    "restarting": "loading",
    "asleep": "asleep",
}


@dataclass(slots=True, eq=False)
class Member:
    """`changed` is called after anything that may open or shut it, `reported` after it said something of itself."""

    id: str
    engine: Engine
    slots: int
    """Requests of ours that it may have at once."""
    ahead: int = 0
    """Requests that it may have beyond its slots: they wait there, so that no slot waits for its next one."""
    state: EndpointState = "loading"
    said: ReplicaState = "loading"
    """The word that its shell has for its state."""
    reason: str = ""
    """Why it is not ready, in words."""
    told: str = ""
    """The same for clients: without what its log says once requests have come."""
    log: tuple[str, ...] = ()
    """The last lines of an engine that has failed, for operators."""
    retry_s: float | None = None
    """When an engine that has failed is started again, on the event loop's clock."""
    pool: Pool | None = None
    generation: int = 0
    context_tokens: int | None = None
    model: bytes = b""
    """What the engine calls the model, as the beginning of a body: `{"model":"name"`. Empty: any name will do."""
    figures: Figures = field(default_factory=Figures)
    drained: bool = False
    """A person wants it empty."""
    leaving: bool = False
    """Discovery does not name it any more, or names it as not ready."""
    doubted: bool = False
    """A connection broke: nothing more goes there until it has answered again."""
    in_flight: int = 0
    changed: Callable[[], None] = _nobody
    reported: Callable[[], None] = _nobody
    _snapshot: Endpoint | None = None

    @property
    def open(self) -> bool:
        """Whether it takes new requests."""
        return self.state == "ready" and not (self.doubted or self.drained or self.leaving)

    @property
    def hopeful(self) -> bool:
        """Whether it will soon be open again: it is only asked whether it still lives."""
        return self.state == "ready" and not (self.drained or self.leaving)

    @property
    def shown_state(self) -> EndpointState:
        return "draining" if self.drained or self.leaving else self.state

    def enter(self, said: ReplicaState, reason: str = "", told: str = "") -> None:
        """The replica's own state; it clears a doubt. Why it failed stays known while it is tried again."""
        if said != "loading":
            self.reason, self.told = reason, told or reason
        self.said, self.doubted = said, False
        self.state = _STATES.get(said, "unreachable")
        self.touch()

    def doubt(self) -> None:
        self.doubted = True
        self.touch()

    def touch(self) -> None:
        """Something else than `in_flight` has changed."""
        self._snapshot = None
        self.changed()

    def report(self, figures: Figures) -> None:
        """What it said of itself; nothing opens or shuts by it."""
        self.figures = figures
        self._snapshot = None
        self.reported()

    def endpoint(self) -> Endpoint:
        """The frozen snapshot, made once per change."""
        snapshot = self._snapshot
        if snapshot is None or snapshot.in_flight != self.in_flight:
            figures = self.figures
            snapshot = self._snapshot = Endpoint(
                id=self.id,
                state="unreachable" if self.doubted and self.state == "ready" else self.shown_state,
                generation=self.generation,
                slots=self.slots,
                in_flight=self.in_flight,
                running=figures.running,
                waiting=figures.waiting,
                kv_used=figures.kv_used,
                prefix_hits=figures.prefix_hits,
                ttft_s=figures.ttft_s,
                tpot_s=figures.tpot_s,
                observed_s=figures.observed_s,
            )
        return snapshot
