"""From the model that a client names to the lanes that may answer, by the routes of the stack.

A thin shell around `routing.routes`; who changes routes while they serve: `steering`. Where a stack has neither routes
nor external models, a name is a lane and nothing else happens here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from inhouse.config import Stack
from inhouse.core import Identity
from inhouse.dispatch.lane import Lane, find, not_found
from inhouse.dispatch.steering import Steering
from inhouse.errors import ApiError, Forbidden, Unavailable
from inhouse.routing.routes import ModelAsk, Plan, Routes
from inhouse.store.routes import RouteStore
from inhouse.telemetry.audit import Audit
from inhouse.telemetry.collectors import CanaryReading
from inhouse.telemetry.entry import HUNG_UP, Entry, Trial
from inhouse.telemetry.log import Log
from inhouse.telemetry.metrics import Metrics
from inhouse.telemetry.story import Routed
from inhouse.tenancy.limits import models_allowed
from inhouse.tenancy.roles import require
from inhouse.wire.call import Call


class Ways:
    """See the module. `clock` says seconds; `seed` decides whom the weights draw."""

    def __init__(
        self,
        stack: Stack,
        lanes: Mapping[str, Lane],
        log: Log,
        metrics: Metrics,
        audit: Audit,
        store: RouteStore,
        clock: Callable[[], float],
        seed: int,
    ) -> None:
        self._stack = stack
        self._lanes = lanes
        self._clock = clock
        self._routes = Routes(stack, seed)
        self.steering = Steering(stack, self._routes, store, log, metrics, audit, clock=clock, wall_clock=time.time)

    @property
    def trivial(self) -> bool:
        """Whether every name is a lane that all may be sent to."""
        return self._routes.trivial

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that a client may send."""
        return self._routes.names

    def of(self, call: Call, identity: Identity, demanded: str, session: str, entry: Entry) -> list[Lane]:
        """The lanes to try, in this order; those that are ready stand before those that are not.

        `demanded` is the model that the caller wants past the route, "" where none. Raises ModelNotFound and Forbidden.
        """
        if demanded:
            require(identity, "route.override")
        elif self._routes.trivial:
            return [find(self._lanes, call.model)]
        tokens, own = self._prompt_tokens(call), f"{identity.tenant}:{session}" if session else ""
        plan = self._plan(identity, call.model, prompt_tokens=tokens, session=own, override=demanded)
        entry.step(_told(plan, self._clock()))
        lanes = [self._lanes[choice.model] for choice in plan.choices]
        if not lanes[0].takes:
            lanes.sort(key=lambda lane: not lane.takes)
        if plan.trial is not None and plan.version is not None and lanes[0].model == plan.choices[0].model:
            entry.trial = Trial(plan.trial, plan.version)
        return lanes

    def counting(self, name: str, identity: Identity) -> Lane:
        """The lane that counts tokens for those who ask for `name`: always the same one. Raises as `of`."""
        if self._routes.trivial:
            return find(self._lanes, name)
        return self._lanes[self._plan(identity, name, session=f"{identity.tenant}:tokens").choices[0].model]

    def passed_on(self, entry: Entry, error: ApiError) -> None:
        """The next lane is tried: what it does is not what a version on trial did. That its engine refused is."""
        trial, entry.trial = entry.trial, None
        if trial is None or not (isinstance(error, Unavailable) and error.from_engine):
            return
        canary = self.steering.canary_of(trial.route)
        if canary is not None:
            canary.ended(trial.version, failed=True, ttft_s=None, tpot_s=None)

    def ended(self, entry: Entry) -> None:
        """One request is over. Only those of a trial count, and only what the version answers for."""
        trial = entry.trial
        if trial is None or entry.status == HUNG_UP:
            return
        canary = self.steering.canary_of(trial.route)
        failed = entry.failed or entry.status >= 500
        if canary is None or not (failed or entry.status == 200):
            return
        canary.ended(trial.version, failed=failed, ttft_s=entry.ttft_s, tpot_s=entry.tpot_s)

    def readings(self) -> Iterable[CanaryReading]:
        """How the canaries stand."""
        for route, canary in self.steering.canaries():
            yield CanaryReading(route, canary.settings.model, canary.state, canary.weight, canary.reason)

    def _plan(
        self, identity: Identity, name: str, *, prompt_tokens: int = 0, session: str = "", override: str = ""
    ) -> Plan:
        tenant = self._stack.tenants.get(identity.tenant, self._stack.tenant_defaults)
        ask = ModelAsk(
            name=name,
            tenant=identity.tenant,
            prompt_tokens=prompt_tokens,
            session=session,
            override=override,
            models=models_allowed(self._stack, identity),
            data_may_leave=tenant.data_may_leave,
        )
        plan = self._routes.resolve(ask)
        if plan is None:
            raise not_found(override or name, self._routes.names)
        if not plan.choices:
            raise _closed(plan)
        return plan

    def _prompt_tokens(self, call: Call) -> int:
        """A guess by its bytes, at the ratio that the named model, or else the first one, has shown of late."""
        lane = self._lanes.get(call.model) or next(iter(self._lanes.values()))
        return lane.tokens_guess(len(call.jobs[0].body))


def _told(plan: Plan, at_s: float) -> Routed:
    first, *behind = plan.choices
    names = tuple(choice.model for choice in behind)
    return Routed(at_s, plan.route, first.model, first.reason, names, tuple(choice.model for choice in plan.closed))


def _closed(plan: Plan) -> Forbidden:
    first = plan.closed[0]
    return Forbidden(
        f"the model '{first.model}' cannot be used: it is {first.reason}; who runs this server can allow it in "
        "inhouse.yaml (`models` and `data_may_leave` of the tenant)",
        param="model",
    )
