"""A fleet under a virtual clock: the deciders that ship, driven by simulated replicas, clients and faults.

The fair queue, the ledger of quotas, the router with its breakers and outliers are those of the gateway; nothing of
them is imitated. Time is a number, chance comes from one seed: the same seed gives the same run, event by event, and
`digest` says whether two runs were the same. Whatever breaks an invariant raises BrokenInvariant on the spot.

Invariants, checked while it runs and at its end (`settled`):
- every request ends exactly once;
- no replica has more of our requests than its slots and the configured queueing;
- the slots of the queue, the places at the replicas and the reservations are all given back;
- what the quotas counted as used is what the requests were charged.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from inhouse.admission.fair import FairQueue, Ticket
from inhouse.core import Endpoint
from inhouse.errors import QueueFull
from inhouse.plan.fleet_plan import FleetPlan
from inhouse.plan.simulated_replica import SimulatedReplica
from inhouse.routing.router import Outcome, Pick, RouteAsk, Router
from inhouse.store.ledger import Demand, Now, Refusal, Reservation
from inhouse.store.ledger_memory import MemoryLedger

Ending = Literal["answered", "cut", "failed", "gone", "full", "late", "no quota", "no replica"]

_TICK_S = 0.1
_REST_S_MAX = 15.0
_CONNECT_S = 0.001
_CHARACTERS_PER_TOKEN = 4


class BrokenInvariant(AssertionError):
    """Something that must never happen has happened; the seed of the run brings it back."""


@dataclass(slots=True, eq=False)
class Request:
    """One request and how it fares. `beginnings`: see `SimulatedReplica.times`."""

    prompt: bytes
    answer_tokens: int
    tenant: str = "default"
    session: str = ""
    beginnings: tuple[tuple[str, int], ...] = ()
    over: Callable[[Request], None] | None = None
    """Called when it has ended."""
    arrived_s: float = 0.0
    first_s: float | None = None
    ended_s: float | None = None
    ending: Ending | None = None
    attempts: int = 0

    _ticket: Ticket | None = None
    _reservation: Reservation | None = None
    _ask: RouteAsk = field(default_factory=RouteAsk)
    _attempt: _Attempt | None = None
    _rests_until_s: float | None = None

    @property
    def prompt_tokens(self) -> int:
        return len(self.prompt) // _CHARACTERS_PER_TOKEN + 1

    @property
    def ttft_s(self) -> float | None:
        return None if self.first_s is None else self.first_s - self.arrived_s


@dataclass(slots=True, eq=False)
class _Attempt:
    request: Request
    replica: SimulatedReplica
    pick: Pick
    began_s: float
    over: bool = False


class Simulation:
    """See the module."""

    def __init__(self, plan: FleetPlan, seed: int) -> None:
        self.plan = plan
        self.random = random.Random(seed)  # noqa: S311 - the run's one source of chance
        self.now_s = 0.0
        self.requests: list[Request] = []
        self.endings: Counter[str] = Counter()
        self.retries = 0
        self.replicas = {f"r{number}": SimulatedReplica(f"r{number}", plan.model) for number in range(plan.replicas)}
        self.router = Router(plan.router, seed)
        self.ledger = MemoryLedger()
        self.queue = FairQueue(
            "chat",
            waiting_max=plan.queue_max,
            waiting_tokens_max=1 << 60,
            waiting_bytes_max=1 << 60,
            prefill_long_tokens=1 << 60,
        )
        self.charged: Counter[str] = Counter()
        self._endpoints: list[Endpoint] = []
        self._resting: deque[Request] = deque()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._trace = hashlib.blake2b(digest_size=16)
        self._scrape()
        self._tick()

    # -- what a scenario does ----------------------------------------------------------------------------------------

    def at(self, time_s: float, what: Callable[[], None]) -> None:
        """Does something then, or now if that is over."""
        heapq.heappush(self._events, (max(time_s, self.now_s), next(self._numbers), what))

    def arrive(self, time_s: float, request: Request, *, hangs_up_s: float | None = None) -> None:
        """A client sends a request then, and leaves `hangs_up_s` later unless it was answered."""
        self.at(time_s, lambda: self._arrived(request))
        if hangs_up_s is not None:
            self.at(time_s + hangs_up_s, lambda: self._hang_up(request))

    def run(self, until_s: float) -> None:
        """Lets time pass."""
        while self._events and self._events[0][0] <= until_s:
            self.now_s, _, what = heapq.heappop(self._events)
            what()
        self.now_s = until_s

    @property
    def digest(self) -> str:
        """Of everything that happened so far."""
        return self._trace.hexdigest()

    def settled(self) -> None:
        """Checks that everything was given back. To be called when no request is under way."""
        _check(all(request.ending is not None for request in self.requests), "a request has not ended")
        _check(sum(self.endings.values()) == len(self.requests), "a request ended twice")
        _check((self.queue.serving, self.queue.waiting) == (0, 0), "the queue has kept a slot or a place")
        _check(not self._resting, "a turn rests for nobody")
        for name, replica in self.replicas.items():
            _check(self.router.in_flight(name) == 0, f"the router has kept a place at {name}")
            _check(not replica.active, f"{name} has kept an attempt")
        for tenant, tokens in self.charged.items():
            use = self.ledger.live(f"tenant:{tenant}", self._ledger_now())
            _check(use["concurrent_requests"].held == 0, f"a reservation of {tenant} was kept")
            _check(
                (use["tokens_per_day"].used, use["tokens_per_day"].held) == (tokens, 0), f"{tenant} was charged wrong"
            )

    # -- faults ------------------------------------------------------------------------------------------------------

    def crash(self, name: str) -> None:
        """Its process dies; a new one is up after `restart_s`."""
        replica = self.replicas[name]
        self._note("crash", name)
        self._lose(replica)
        if replica.up:
            replica.up = False
            self.at(self.now_s + self.plan.restart_s, lambda: self._restart(replica))

    def hang(self, name: str) -> None:
        """It accepts and says nothing more. Attempts end by the idle timeout; after twice that it is started anew."""
        replica = self.replicas[name]
        if replica.hung or not replica.up:
            return
        self._note("hang", name)
        replica.hung = True
        generation = replica.generation
        for attempt in list(replica.active):
            self._watch(attempt)
        self.at(
            self.now_s + 2 * self.plan.idle_timeout_s,
            lambda: self.crash(name) if replica.generation == generation else None,
        )

    def slow(self, name: str, speed: float, for_s: float) -> None:
        """Attempts that begin from now on take longer."""
        replica = self.replicas[name]
        self._note("slow", name)
        replica.speed = speed
        self.at(self.now_s + for_s, lambda: setattr(replica, "speed", 1.0))

    def refuse(self, name: str, for_s: float) -> None:
        """It refuses connections; what runs goes on."""
        replica = self.replicas[name]
        self._note("refuse", name)
        replica.refusing = True
        self.at(self.now_s + for_s, lambda: setattr(replica, "refusing", False))

    def drain(self, name: str, for_s: float) -> None:
        """It takes nothing new, and is started anew once that time is over."""
        replica = self.replicas[name]
        self._note("drain", name)
        replica.draining = True
        self._scrape_now()
        self.at(self.now_s + for_s, lambda: self.crash(name))

    # -- the gateway -------------------------------------------------------------------------------------------------

    def _arrived(self, request: Request) -> None:
        request.arrived_s = self.now_s
        self.requests.append(request)
        self._note("arrive", request.tenant)
        tokens_max = request.prompt_tokens + request.answer_tokens
        demands = [Demand(f"tenant:{request.tenant}", self.plan.limits)]
        held = self.ledger.reserve(demands, tokens_max, 0, self._ledger_now())
        if isinstance(held, Refusal):
            self._end(request, "no quota", 0)
            return
        request._reservation = held
        request._ask = RouteAsk(request.prompt, request.session)
        ticket = Ticket(
            lambda error: self.at(self.now_s, lambda: self._woken(request, error)),
            self.now_s + self.plan.queue_wait_s,
            self.now_s,
            tenant=request.tenant,
            prompt_tokens=request.prompt_tokens,
            tokens_max=tokens_max,
            body_bytes=len(request.prompt),
        )
        try:
            at_once = self.queue.offer(ticket, self.now_s)
        except QueueFull:
            self._end(request, "full", 0)
            return
        request._ticket = ticket
        if at_once:
            self._go(request)

    def _woken(self, request: Request, error: Exception | None) -> None:
        if request.ending is not None:
            return  # it hung up in the same moment, and gave the slot back
        if error is not None:
            self._end(request, "late", 0)
        else:
            self._go(request)

    def _go(self, request: Request) -> None:
        """The request holds a slot of the queue and wants a place."""
        pick = self.router.pick(request._ask, self._endpoints, self.now_s)
        if pick is None:
            if request._rests_until_s is None:
                request._rests_until_s = self.now_s + _REST_S_MAX
            self._resting.append(request)
            return
        replica = self.replicas[pick.endpoint_id]
        attempt = request._attempt = _Attempt(request, replica, pick, self.now_s)
        request.attempts += 1
        self.router.started(pick, self.now_s)
        self._note("start", replica.id)
        if not replica.up or replica.refusing:
            self.at(self.now_s + _CONNECT_S, lambda: self._broke(attempt))
            return
        replica.active[attempt] = None
        allowed = self.plan.model.slots + self.plan.router.queueing_max
        _check(len(replica.active) <= allowed, f"{replica.id} has {len(replica.active)} requests")
        if replica.hung:
            self._watch(attempt)
            return
        first_s, end_s = replica.times(request.beginnings, request.prompt_tokens, request.answer_tokens, self.now_s)
        self.at(first_s, lambda: self._first(attempt))
        self.at(end_s, lambda: self._last(attempt))

    def _watch(self, attempt: _Attempt) -> None:
        """The idle timeout of an attempt at a replica that says nothing."""
        self.at(self.now_s + self.plan.idle_timeout_s, lambda: self._broke(attempt) if attempt.replica.hung else None)

    def _first(self, attempt: _Attempt) -> None:
        if not attempt.over and not attempt.replica.hung:
            attempt.request.first_s = self.now_s
            attempt.pick.begun()
            attempt.replica.remember(attempt.request.beginnings)

    def _last(self, attempt: _Attempt) -> None:
        request = attempt.request
        if attempt.over or attempt.replica.hung or request.first_s is None:
            return
        tpot_s = (self.now_s - request.first_s) / max(1, request.answer_tokens - 1)
        self._leave(attempt, "ok", request.first_s - attempt.began_s, tpot_s)
        self._end(request, "answered", request.prompt_tokens + request.answer_tokens)

    def _broke(self, attempt: _Attempt) -> None:
        """The attempt has failed. Before the first token it is tried elsewhere, within the budget."""
        if attempt.over:
            return
        request = attempt.request
        self._leave(attempt, "failed")
        if request.first_s is not None:
            self._end(request, "cut", request.prompt_tokens)
        elif request.attempts <= self.router.settings.retries_max and self.router.retries.withdraw(self.now_s):
            self.retries += 1
            request._ask.excluded |= {attempt.replica.id}
            self._go(request)
        else:
            self._end(request, "failed", 0)

    def _hang_up(self, request: Request) -> None:
        if request.ending is not None or request._reservation is None:
            return
        if request._attempt is not None and not request._attempt.over:
            self._leave(request._attempt, "neutral")
        self._end(request, "gone", request.prompt_tokens if request.first_s is not None else 0)

    def _leave(
        self, attempt: _Attempt, outcome: Outcome, ttft_s: float | None = None, tpot_s: float | None = None
    ) -> None:
        attempt.over = True
        attempt.replica.active.pop(attempt, None)
        self.router.ended(attempt.pick, outcome, self.now_s, ttft_s=ttft_s, tpot_s=tpot_s)

    def _end(self, request: Request, ending: Ending, tokens: int) -> None:
        _check(request.ending is None, "a request ended twice")
        request.ending, request.ended_s = ending, self.now_s
        self.endings[ending] += 1
        self._note(ending, request.tenant)
        if request in self._resting:
            self._resting.remove(request)
        if request._ticket is not None:
            self.queue.release(request._ticket, self.now_s, tokens)
        if request._reservation is not None:
            self.ledger.settle(request._reservation, tokens, 0, self._ledger_now())
            self.charged[request.tenant] += tokens
        if self._resting:
            self.at(self.now_s, self._settle_resting)
        if request.over is not None:
            request.over(request)

    def _settle_resting(self) -> None:
        for _ in range(len(self._resting)):
            request = self._resting.popleft()
            if request._rests_until_s is not None and self.now_s >= request._rests_until_s:
                self._end(request, "no replica", 0)
            else:
                self._go(request)

    # -- time, and what is seen of the fleet ------------------------------------------------------------------------

    def _tick(self) -> None:
        self.queue.expire(self.now_s)
        self._settle_resting()
        self.at(self.now_s + _TICK_S, self._tick)

    def _scrape(self) -> None:
        self._scrape_now()
        self.at(self.now_s + self.plan.scrape_s, self._scrape)

    def _scrape_now(self) -> None:
        slots = self.plan.model.slots
        self._endpoints = [
            Endpoint(
                replica.id,
                state="draining" if replica.draining else "ready" if replica.up and not replica.hung else "unreachable",
                generation=replica.generation,
                slots=slots,
                running=len(replica.active),
                kv_used=min(1.0, replica.cached_tokens / self.plan.model.cache_tokens),
                observed_s=self.now_s,
            )
            for replica in self.replicas.values()
        ]
        capacity = sum(
            slots
            for endpoint in self._endpoints
            if endpoint.state == "ready" and self.router.health(endpoint.id, self.now_s) is None
        )
        self.queue.resize(capacity, self.now_s)

    def _restart(self, replica: SimulatedReplica) -> None:
        self._lose(replica)
        replica.restart()
        self._note("restart", replica.id)

    def _lose(self, replica: SimulatedReplica) -> None:
        for attempt in list(replica.active):
            self._broke(attempt)

    def _ledger_now(self) -> Now:
        microseconds = int(self.now_s * 1e6)
        return Now(microseconds, microseconds)

    def _note(self, what: str, of: str) -> None:
        self._trace.update(f"{self.now_s!r} {what} {of}\n".encode())


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise BrokenInvariant(what)
