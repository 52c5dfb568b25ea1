"""The admin API of routes: how they stand, and what may be done to them while they serve."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from inhouse.config.units import parse_percent
from inhouse.core import Identity
from inhouse.dispatch.steering import Steered
from inhouse.errors import AuditUnavailable, BadRequest, StateError, StateUnavailable
from inhouse.gateway.body import read_body
from inhouse.parts import Parts
from inhouse.routing.by_hand import Event, shares
from inhouse.routing.canary import Canary, Sample
from inhouse.wire.routes import (
    CanaryCard,
    RouteCard,
    RouteEvent,
    RouteList,
    RouteShare,
    WindowFigures,
    parse_switch,
    parse_weight,
)


class AdminRoutes:
    """The handlers. Whoever comes here has proven an identity, which is in the request's scope."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._steering = parts.ways.steering

    async def list(self, request: Request) -> Response:
        """Needs `routes.read`."""
        return _json(RouteList([self._card(steered) for steered in self._steering.steered.values()]))

    async def show(self, request: Request) -> Response:
        """Needs `routes.read`."""
        return _json(self._card(self._steering.find(_name(request))))

    async def switch(self, request: Request) -> Response:
        """Needs `routes.manage`."""
        asked = parse_switch(await read_body(request, self._parts.stack.gateway))
        return await self._done(self._steering.switch(_name(request), asked.model, _identity(request)))

    async def back(self, request: Request) -> Response:
        """Needs `routes.manage`."""
        return await self._done(self._steering.back(_name(request), _identity(request)))

    async def weight(self, request: Request) -> Response:
        """Needs `routes.manage`."""
        asked = parse_weight(await read_body(request, self._parts.stack.gateway))
        try:
            weight = parse_percent(asked.weight)
        except ValueError:
            raise BadRequest("`weight` is not a percentage such as 25%", param="weight") from None
        return await self._done(self._steering.weigh(_name(request), asked.model, weight, _identity(request)))

    async def canary(self, request: Request) -> Response:
        """Needs `routes.manage`."""
        act = request.path_params["act"]
        return await self._done(self._steering.act_on_canary(_name(request), act, _identity(request)))

    async def _done(self, act: Awaitable[Steered]) -> Response:
        """What the state folder refuses is told in the log, and without its path to the client."""
        try:
            if self._parts.audit.refusing:
                raise AuditUnavailable(
                    "the audit cannot be written, so nothing is changed; the log of this server says why",
                    retry_after_s=5.0,
                )
            return _json(self._card(await act))
        except StateError as error:
            self._parts.alarm.state(error.message)
            raise StateUnavailable(
                "the gateway cannot read or write its state now, nothing was changed; its log says why",
                retry_after_s=5.0,
            ) from error

    def _card(self, steered: Steered) -> RouteCard:
        known, state, canary = steered.known, steered.state, steered.canary
        spec = self._parts.stack.routes[known.name]
        return RouteCard(
            name=known.name,
            aliases=[*spec.aliases],
            models=_shares(steered),
            why=_why(steered),
            switched=state.hand.switched or None,
            back=state.before is not None,
            tenants=[*spec.tenants],
            prompt_tokens=[*spec.prompt_tokens],
            fallback=[*spec.fallback],
            canary=None if canary is None else _canary(canary),
            events=[_event(event) for event in reversed(state.events)],
        )


def _shares(steered: Steered) -> list[RouteShare]:
    hand, canary = steered.state.hand, steered.canary
    if hand.switched:
        return [RouteShare(model=hand.switched, weight=100.0)]
    rest = 1.0 if canary is None else 1.0 - canary.weight / 100.0
    found = [
        RouteShare(model=model, weight=round(rest * part, 3)) for model, part in shares(steered.known, hand).items()
    ]
    if canary is not None:
        found.append(RouteShare(model=canary.settings.model, weight=round(canary.weight, 3)))
    return found


def _why(steered: Steered) -> str:
    hand = steered.state.hand
    if hand.switched:
        return "switched by hand; tenants, sizes, weights and the canary decide nothing until it goes back"
    return "weights set by hand" if hand.weights else "as in inhouse.yaml"


def _canary(canary: Canary) -> CanaryCard:
    return CanaryCard(
        model=canary.settings.model,
        state=canary.state,
        weight=round(canary.weight, 3),
        reason=canary.reason,
        window_s=round(asyncio.get_running_loop().time() - canary.since_s, 1),
        min_requests=canary.settings.requests_min,
        stable=_figures(canary.stable),
        canary=_figures(canary.canary),
    )


def _figures(sample: Sample) -> WindowFigures:
    ttft_s, tpot_s = sample.ttft_p95_s, sample.tpot_p95_s
    return WindowFigures(
        requests=sample.requests,
        failed=sample.failures,
        ttft_p95_s=None if ttft_s is None else round(ttft_s, 4),
        tpot_p95_s=None if tpot_s is None else round(tpot_s, 5),
    )


def _event(event: Event) -> RouteEvent:
    return RouteEvent(
        time=round(event.time, 3),
        change=event.change,
        by=event.by,
        model=event.model or None,
        weight=None if event.weight is None else round(event.weight, 3),
        reason=event.reason or None,
    )


def _name(request: Request) -> str:
    return str(request.path_params["name"])


def _identity(request: Request) -> Identity:
    return cast(Identity, request.scope["identity"])


def _json(document: RouteCard | RouteList) -> Response:
    return Response(msgspec.json.encode(document), media_type="application/json")
