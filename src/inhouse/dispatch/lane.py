"""A lane: one public model name, its queue and the replicas that serve it."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from inhouse.admission.context_fit import REJECTING, Fit
from inhouse.admission.fair import Priority
from inhouse.admission.notices import Tell
from inhouse.admission.turns import Ask, Turn, Turns
from inhouse.core import ReplicaState
from inhouse.dispatch.failover import Failover
from inhouse.dispatch.flights import Flights
from inhouse.dispatch.places import Places
from inhouse.dispatch.sleeper import Sleeper
from inhouse.dispatch.watch import HEADER, TimeLimits, Watched
from inhouse.engines.engine import Ability, Engine
from inhouse.engines.http import Pool
from inhouse.errors import (
    ApiError,
    EngineError,
    MemoryFull,
    ModelFailed,
    ModelLoading,
    ModelNotFound,
    Unavailable,
    WaitedTooLong,
)
from inhouse.routing.router import Router
from inhouse.wire.call import Job

if TYPE_CHECKING:
    from inhouse.dispatch.queued import Queued

_LOADING_RETRY_S = 2.0
_TELLING_BYTES = 1024
CONTEXT_UNKNOWN = 1 << 30
_SMOOTHING = 0.1
_COUNTING_MAX = 4
_BEST_FIRST: tuple[ReplicaState, ...] = ("ready", "loading", "restarting", "failed", "asleep", "unreachable", "stopped")


@dataclass(frozen=True, slots=True)
class Share:
    """What a tenant gets of the slots when several wait."""

    tenant: str
    weight: float = 1.0
    priority: Priority = "standard"


@dataclass(slots=True, eq=False)
class Lane:
    """`preparing` says what is done before there is a replica; `failure`, why there cannot be one."""

    model: str
    source: str
    created_s: int
    turns: Turns
    alone: Turns
    """The one place for a job that must not share the engine with its like (embeddings)."""
    load_wait_s: float
    limits: TimeLimits
    engine: Engine
    fit: Fit = REJECTING
    counting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_COUNTING_MAX))
    """Prompts that the engine counts at once, beside the slots."""
    router: Router | None = None
    """Chooses among replicas; a lane with one that was started here has none."""
    context_given: int | None = None
    body_start: bytes | None = None
    """How a body begins that names the model as the engines do (`upstream.start_of`); None where any name will do."""
    shown_model: tuple[bytes, bytes] | None = None
    """The model as the engines name it in their answers, and as clients are to see it; None where that is the same."""
    lacks: Mapping[Ability, str] = field(default_factory=dict)
    """What its engines cannot do, each with the reason."""
    preparing: str = ""
    failure: str = ""
    retry_s: float | None = None
    """When what failed is tried again, on the event loop's clock."""
    sleeper: Sleeper | None = None
    """Who wakes the model; None for one that runs elsewhere, or whose weights are not here yet."""
    asking: int = 0
    """Short questions to its engines, beside the slots."""
    watches: set[Watched] = field(default_factory=set)
    """Of the jobs that wait or run now."""
    failover: Failover | None = None
    """How answers go on whose replica dies; None where they do not."""
    flights: Flights | None = None
    """Answers that are kept and shared; None where the model has no cache."""
    queued: Queued | None = None
    """The way to workers, where the engines are theirs; None where they are reached from here."""
    places: Places = field(init=False)
    _token_bytes: float = 4.0

    def __post_init__(self) -> None:
        self.places = Places(self.router, resize=self.resize, hopeless=self.lost)

    @property
    def ready(self) -> bool:
        return self.places.any_ready

    @property
    def takes(self) -> bool:
        """Whether a request that comes now is answered or held: it is ready, or will be woken."""
        return self.places.any_ready or (self.sleeper is not None and self.sleeper.holds)

    @property
    def admits(self) -> bool:
        """Whether a request is taken now: a replica is ready, or it may wait for one, or for a worker, on its way."""
        if self.queued is not None and self.queued.away:
            return False
        return self.takes or (self.load_wait_s > 0 and not self.failure)

    @property
    def state(self) -> str:
        if self.failure:
            return "failed"
        said = {member.said for member in self.places.members.values()}
        return next((state for state in _BEST_FIRST if state in said), self.preparing or "unreachable")

    @property
    def context_tokens(self) -> int:
        """Of one request, prompt and answer together; without bound while that is not known."""
        return self.places.context_tokens or self.context_given or CONTEXT_UNKNOWN

    def resize(self, slots: int) -> None:
        """The slots that may be held now; 0 while no replica is ready."""
        self.turns.resize(slots)
        self.alone.resize(min(slots, 1) if self.engine.llama else slots)

    def tick(self) -> None:
        """Sees to all that has taken too long, and tells those that wait where they stand; a few times a second."""
        self.turns.expire()
        self.alone.expire()
        now_s = self.turns.now_s()
        for watch in tuple(self.watches):
            watch.look(now_s)
        self.turns.tell()
        self.places.tick()
        if self.flights is not None:
            self.flights.tick(now_s, lambda: self.turns.queue.wait_estimate_s(now_s))

    def turn_alone(self, prefer_wait_s: float, wait_s: float, ask: Ask) -> Turn:
        """A turn at the one place that is taken before a slot. Raises as `turn` does."""
        return Turn(self.alone, self.patience_s(prefer_wait_s, wait_s), ask, None)

    def turn(self, prefer_wait_s: float, wait_s: float, ask: Ask, tell: Tell | None = None) -> Turn:
        """A turn at a slot. Raises ModelLoading or Unavailable at once where nothing is worth waiting for.

        `wait_s` is how long the request may wait; `tell` hears now and then where it stands.
        """
        if not self.places.any_ready:
            wait_s = self.patience_s(prefer_wait_s, wait_s)
        return Turn(self.turns, wait_s, ask, tell)

    def tokens_guess(self, body_bytes: int) -> int:
        """About how many tokens a prompt of so many bytes has."""
        return int(body_bytes / self._token_bytes) + 1

    def ask(self, job: Job, share: Share) -> Ask:
        """What a job asks of the queue. Its prompt's tokens are guessed from its bytes, at the ratio of late."""
        context, body_bytes, answer_tokens = self.context_tokens, len(job.body), job.answer_tokens_max
        prompt_tokens = self.prompt_guess(body_bytes, context)
        tokens_max = min(context, prompt_tokens + (context if answer_tokens is None else answer_tokens))
        return Ask(share.tenant, share.weight, share.priority, prompt_tokens, tokens_max, body_bytes)

    def prompt_guess(self, body_bytes: int, context: int) -> int:
        """About how many tokens the prompt in a body of so many bytes has."""
        return min(context, int(body_bytes / self._token_bytes) + 1)

    def learn(self, body_bytes: int, prompt_tokens: int) -> None:
        """What a prompt really took. Short bodies are mostly JSON around the prompt and say little."""
        if body_bytes >= _TELLING_BYTES and prompt_tokens > 0:
            self._token_bytes += _SMOOTHING * (body_bytes / prompt_tokens - self._token_bytes)

    def patience_s(self, prefer_wait_s: float, wait_s: float) -> float:
        """How long a request waits that comes now. Raises as `turn` does where nothing is worth waiting for."""
        if self.ready:
            return wait_s
        load_wait_s = max(self.load_wait_s, prefer_wait_s)
        if self.sleeper is not None:
            load_wait_s = max(load_wait_s, self.sleeper.wanted())
        if wait_s < self.limits.wait_s:  # the client allows less; the queue's own limit is none of loading
            load_wait_s = min(load_wait_s, wait_s)
        if load_wait_s <= 0 or self.state == "failed" or (self.queued is not None and self.queued.away):
            raise self.unready()
        return load_wait_s

    def late(self, error: WaitedTooLong, wait_s: float) -> Exception:
        """What a waiter is told at its deadline: that the queue was slow, or that the model is not there yet."""
        if not self.ready:
            return self.unready()
        if wait_s >= self.limits.wait_s:
            return error
        return WaitedTooLong(
            f"no slot of '{self.model}' became free within {wait_s:g} s, which is what the client waits "
            f"(`{HEADER}`, `Prefer: wait`, or the timeout that its library sent); allow more, or retry later",
            retry_after_s=error.retry_after_s,
        )

    def unready(self) -> Unavailable:
        """Why no slot can be had now."""
        state = self.state
        if state == "failed":
            return self.failed()
        obstacle = "" if self.sleeper is None else self.sleeper.obstacle()
        if obstacle:
            return MemoryFull(
                f"the model '{self.model}' is asleep and there is no room to load it: {obstacle}; retry later",
                retry_after_s=_LOADING_RETRY_S,
            )
        if self.queued is not None:
            return Unavailable(self.queued.lack, retry_after_s=_LOADING_RETRY_S)
        if state in ("ready", "unreachable"):
            return Unavailable(
                f"no replica of '{self.model}' can take requests now; retry in {_LOADING_RETRY_S:.0f} s; "
                "`inhouse endpoints list` says why",
                retry_after_s=_LOADING_RETRY_S,
            )
        return ModelLoading(
            f"the model '{self.model}' is still loading; retry in {_LOADING_RETRY_S:.0f} s, "
            "or send `Prefer: wait=60` to wait for it",
            retry_after_s=_LOADING_RETRY_S,
        )

    @property
    def why(self) -> str:
        """Why it failed, in words for clients; "" where it did not."""
        members = self.places.members.values()
        return self.failure or next((one.told for one in members if one.said in ("failed", "loading") and one.told), "")

    def failed(self) -> Unavailable:
        """What requests are told of a model that does not load or does not stay."""
        due = [self.retry_s, *(member.retry_s for member in self.places.members.values() if member.said == "failed")]
        left_s = min((at_s for at_s in due if at_s is not None), default=0.0) - self.turns.now_s()
        retry_s = max(1.0, left_s)
        return ModelFailed(
            f"the model '{self.model}' did not load: {self.why}; it is tried again in {retry_s:.0f} s",
            retry_after_s=retry_s,
        )

    def dismiss(self) -> None:
        """Its engines have failed: those that wait are told so."""
        self.turns.queue.dismiss(self.failed)
        self.alone.queue.dismiss(self.failed)

    def lost(self) -> ApiError:
        """What a request is told whose replica has gone and that has no other to go to."""
        return EngineError(f"the engine of '{self.model}' has just stopped; it is being restarted, send it again")

    @contextlib.contextmanager
    def asked(self) -> Iterator[Pool]:
        """The way to some replica for a short question; meanwhile the model is not put to sleep. Raises as `pool`."""
        self.asking += 1
        try:
            yield self.pool()
        finally:
            self.asking -= 1

    async def woken(self) -> None:
        """Returns when there is a replica to be `asked`: a model that is asleep is loaded. Raises Unavailable."""
        if self.ready:
            return
        wait_s = self.patience_s(0.0, self.limits.wait_s)
        try:
            async with self.turns.turn(wait_s):
                pass
        except WaitedTooLong as error:
            raise self.late(error, self.limits.wait_s) from None

    def pool(self) -> Pool:
        """The way to some replica that is ready, for a short question. Raises EngineError if there is none."""
        for member in self.places.members.values():
            if member.hopeful and member.pool is not None:
                return member.pool
        raise self.lost()


def find(lanes: Mapping[str, Lane], model: str) -> Lane:
    """The lane of a public model name; "" is the first one. Raises ModelNotFound, which names those that exist."""
    lane = lanes.get(model)
    if lane is not None:
        return lane
    if not model:
        return next(iter(lanes.values()))
    raise not_found(model, lanes)


def not_found(model: str, names: Iterable[str]) -> ModelNotFound:
    """What tells a client that `model` leads nowhere, and which names do lead somewhere."""
    known = list(names)
    near = difflib.get_close_matches(model, known, n=1)
    shown = ", ".join(f"'{name}'" for name in known[:20])
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return ModelNotFound(f"the model '{model[:128]}' does not exist; those that do: {shown}.{hint}", param="model")
