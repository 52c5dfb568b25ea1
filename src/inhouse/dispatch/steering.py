"""What is done to routes while they serve, by hand or by their canaries: the one writer of their state in a process.

Theory of operation. `routing/by_hand` says what follows from an act, the store keeps it, `routing/routes` and the
canaries obey it. A change is written before it holds, under the version that was seen; where another process was
quicker, its change is taken over and the act is tried on top of it. Once a second (`sweep`) what others wrote is taken
over, so all processes of a state folder agree within two seconds.

A canary decides by what its own process has seen, and what one decides holds for all. A rollback holds here at once,
and is written over what another process may have decided meanwhile; a step that comes second is dropped. What cannot
be written holds here, and is tried again with each sweep.

Each row names the digest of its route in the file. A row of another digest is removed at the start: a route that was
changed in the file begins as the file says.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import msgspec

from inhouse.config import Stack
from inhouse.core import Identity
from inhouse.errors import Conflict, NotFound
from inhouse.routing import by_hand
from inhouse.routing.by_hand import By, CanaryStage, Event, Known, RouteState
from inhouse.routing.canary import Canary, CanaryEvent, canary_settings
from inhouse.routing.routes import Routes, given_weights
from inhouse.store.routes import RouteRow, RouteStore
from inhouse.telemetry.audit import Audit
from inhouse.telemetry.log import Log
from inhouse.telemetry.metrics import Metrics

_TRIES = 3
_decode = msgspec.json.Decoder(RouteState).decode
_encode = msgspec.json.Encoder().encode
Work = Callable[["Steered", By], RouteState]


@dataclass(slots=True)
class Steered:
    """One route: what the file has, what holds now, and what its canary has seen in this process."""

    known: Known
    digest: str
    canary: Canary | None
    state: RouteState = field(default_factory=RouteState)
    version: int = 0
    """Of its row in the store; 0: there is none."""
    unsaved: bool = False

    @property
    def stage(self) -> CanaryStage | None:
        canary = self.canary
        return None if canary is None else CanaryStage(canary.state, canary.weight, canary.reason)


class Steering:
    """See the module. `clock` is the event loop's, `wall_clock` says seconds since 1970."""

    def __init__(
        self,
        stack: Stack,
        routes: Routes,
        store: RouteStore,
        log: Log,
        metrics: Metrics,
        audit: Audit,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._models = tuple(stack.models)
        self._aliases = {alias: name for name, spec in stack.routes.items() for alias in spec.aliases}
        self._routes = routes
        self._store = store
        self._log = log
        self._metrics = metrics
        self._audit = audit
        self._clock = clock
        self._wall_clock = wall_clock
        self.steered: dict[str, Steered] = {}
        for name, spec in stack.routes.items():
            settings = canary_settings(spec.canary)
            known = Known(name, given_weights(name, spec), spec.canary.model, spec.canary.weight)
            digest = hashlib.sha256(spec.model_dump_json().encode()).hexdigest()
            self.steered[name] = Steered(known, digest, None if settings is None else Canary(settings, clock()))
        if self.steered:
            self._begin()

    def find(self, name: str) -> Steered:
        """By its name or one of its aliases. Raises NotFound."""
        found = self.steered.get(self._aliases.get(name, name))
        if found is None:
            there = f"there are: {', '.join(self.steered)}"
            way_out = there if self.steered else "add one under `routes` in inhouse.yaml"
            raise NotFound(f"there is no route '{name[:64]}'; {way_out}")
        return found

    def canary_of(self, route: str) -> Canary | None:
        """Where it is on trial, or was."""
        steered = self.steered.get(route)
        return None if steered is None else steered.canary

    def canaries(self) -> Iterator[tuple[str, Canary]]:
        for name, steered in self.steered.items():
            if steered.canary is not None:
                yield name, steered.canary

    async def switch(self, name: str, model: str, identity: Identity) -> Steered:
        """All of the route's requests to this model. Raises ApiError, StateError."""
        return await self._do(
            name, identity, lambda it, by: by_hand.switch(it.known, it.state, model, self._models, by)
        )

    async def back(self, name: str, identity: Identity) -> Steered:
        return await self._do(name, identity, lambda it, by: by_hand.back(it.known, it.state, by))

    async def weigh(self, name: str, model: str, weight: float, identity: Identity) -> Steered:
        """In percent."""
        return await self._do(name, identity, lambda it, by: by_hand.weigh(it.known, it.state, model, weight, by))

    async def act_on_canary(self, name: str, act: str, identity: Identity) -> Steered:
        return await self._do(
            name, identity, lambda it, by: by_hand.act_on_canary(it.known, it.state, it.stage, act, by)
        )

    def sweep(self) -> None:
        """About once a second: what others did is taken over, and the canaries decide. Raises StateError."""
        if not self.steered:
            return
        try:
            self._look()
        finally:
            for steered in self.steered.values():
                if steered.canary is not None and not steered.state.hand.switched:
                    event = steered.canary.decide(self._clock())
                    if event is not None:
                        self._decided(steered, steered.canary, event)
        for steered in self.steered.values():
            if steered.unsaved:
                self._save(steered)

    async def _do(self, name: str, identity: Identity, work: Work) -> Steered:
        steered = self.find(name)
        for _ in range(_TRIES):
            by = By(identity.key_id, self._wall_clock())
            before, stage = steered.state, steered.stage
            state = work(steered, by)
            route, digest, seen = steered.known.name, steered.digest, steered.version
            version = await asyncio.to_thread(self._put, route, digest, state, seen)
            if version is not None:
                steered.unsaved = False
                if steered.version < version:
                    steered.version = version
                    if state.canary == before.canary and steered.stage != stage:
                        state = self._with_rollback(steered, state)
                    self._hold(steered, state)
                self._tell(steered, _by(state, by), identity.tenant)
                return steered
            self._look()
        raise Conflict(
            f"others change the route '{name}' at this moment; look at it (`inhouse route show {name}`) and try again"
        )

    def _with_rollback(self, steered: Steered, state: RouteState) -> RouteState:
        """The canary decided while something else was written: a rollback goes on top of that, and will be kept."""
        stage, canary = steered.stage, steered.canary
        if stage is None or canary is None or stage.state != "rolled back":
            return state
        steered.unsaved = True
        return by_hand.decided(state, canary.settings.model, stage, self._wall_clock())

    def _put(self, route: str, digest: str, state: RouteState, seen: int) -> int | None:
        return self._store.put(route, digest, _encode(state), seen=seen)

    def _begin(self) -> None:
        for name, row in self._store.all().items():
            steered = self.steered.get(name)
            if steered is not None and steered.digest != row.digest:
                self._store.remove(name, seen=row.version)
                self._log.event("warning", "route reset", route=name, reason="it was changed in inhouse.yaml")
            elif steered is not None:
                self._adopt(steered, row)

    def _look(self) -> None:
        """What others wrote is taken over."""
        rows = self._store.all()
        for name, steered in self.steered.items():
            row = rows.get(name)
            if row is None or row.digest != steered.digest:
                steered.version = 0 if row is None else row.version  # of a process with another file: kept apart
            elif row.version != steered.version and not steered.unsaved:
                self._adopt(steered, row)
                event = steered.state.events[-1] if steered.state.events else None
                change, by = (event.change, event.by) if event is not None else (None, None)
                self._log.event("info", "route changed elsewhere", route=name, change=change, by=by)

    def _adopt(self, steered: Steered, row: RouteRow) -> None:
        steered.version = row.version
        try:
            state = _decode(row.state)
        except msgspec.DecodeError:
            self._log.event("error", "route reset", route=steered.known.name, reason="its state cannot be read")
            return
        if state.hand.switched and state.hand.switched not in self._models:
            reason = f"it was switched to '{state.hand.switched}', which is no model any more"
            self._log.event("warning", "route reset", route=steered.known.name, reason=reason)
            state = RouteState(canary=state.canary, events=state.events)
        self._hold(steered, state)

    def _hold(self, steered: Steered, state: RouteState) -> None:
        """From now on it is so."""
        turned = state.hand.switched != steered.state.hand.switched
        steered.state = state
        self._routes.set_by_hand(steered.known.name, state.hand.switched, state.hand.weights)
        canary, stage = steered.canary, state.canary or steered.stage
        if canary is not None and stage is not None:
            if turned or stage != steered.stage:
                canary.take(stage.state, stage.weight, stage.reason, self._clock())
            self._routes.weights[steered.known.name] = canary.weight

    def _decided(self, steered: Steered, canary: Canary, event: CanaryEvent) -> None:
        name, model, back = steered.known.name, canary.settings.model, event.state == "rolled back"
        self._routes.weights[name] = event.weight
        stage = CanaryStage(event.state, event.weight, event.reason)
        steered.state = by_hand.decided(steered.state, model, stage, self._wall_clock())
        steered.unsaved = True
        if back:
            self._metrics.rolled_back(name)
        facts = {"state": event.state, "weight_before": event.weight_before, "weight": event.weight}
        self._log.event("warning" if back else "info", "canary", route=name, model=model, **facts, reason=event.reason)
        self._count(steered, steered.state.events[-1], "")

    def _save(self, steered: Steered) -> None:
        name = steered.known.name
        version = self._put(name, steered.digest, steered.state, steered.version)
        if version is None:
            row = self._store.all().get(name)
            if row is not None and row.digest == steered.digest:
                if steered.state.canary is None or steered.state.canary.state != "rolled back":
                    steered.unsaved = False
                    self._adopt(steered, row)
                    return
                event = steered.state.events[-1]
                self._adopt(steered, row)
                rolled = CanaryStage("rolled back", 0.0, event.reason)
                self._hold(steered, by_hand.decided(steered.state, event.model, rolled, event.time))
            seen = 0 if row is None else row.version
            version = self._put(name, steered.digest, steered.state, seen)
        if version is not None:
            steered.version, steered.unsaved = version, False

    def _tell(self, steered: Steered, event: Event, tenant: str) -> None:
        name = steered.known.name
        facts = {"model": event.model or None, "weight": event.weight}
        self._log.event("info", "route changed", route=name, change=event.change, **facts, by=event.by)
        self._count(steered, event, tenant)

    def _count(self, steered: Steered, event: Event, tenant: str) -> None:
        facts: dict[str, int | float | str] = {"change": event.change}
        if event.model:
            facts["model"] = event.model
        if event.weight is not None:
            facts["weight"] = round(event.weight, 3)
        self._audit.act("route.changed", by=event.by, tenant=tenant, target=steered.known.name, facts=facts)
        self._metrics.route_changed(steered.known.name, event.change)


def _by(state: RouteState, by: By) -> Event:
    """What this caller did: the newest of theirs."""
    return next(event for event in reversed(state.events) if event.by == by.who and event.time == by.time)
