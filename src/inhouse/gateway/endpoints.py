"""The admin API of endpoints: list, drain, undrain. What is drained stays so until this process ends."""

from __future__ import annotations

import time
from typing import cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from inhouse.core import Identity
from inhouse.dispatch.lane import Lane
from inhouse.engines.member import Member
from inhouse.errors import NotFound
from inhouse.parts import Parts
from inhouse.wire.endpoints import EndpointCard, EndpointList


class Endpoints:
    """The handlers. Whoever comes here has proven an identity and may do this."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def list(self, request: Request) -> Response:
        """Needs `endpoints.read`."""
        return _shown(
            [(lane, member) for lane in self._parts.lanes.values() for member in lane.places.members.values()]
        )

    async def drain(self, request: Request) -> Response:
        """Needs `endpoints.manage`."""
        return self._turn(request, drained=True)

    async def undrain(self, request: Request) -> Response:
        """Needs `endpoints.manage`."""
        return self._turn(request, drained=False)

    def _turn(self, request: Request, *, drained: bool) -> Response:
        name, identity = request.path_params["id"], cast(Identity, request.scope["identity"])
        lanes = self._parts.lanes.values()
        found = [(lane, member) for lane in lanes for member in lane.places.members.values() if member.id == name]
        if not found:
            raise NotFound(f"there is no endpoint '{name[:200]}'; GET /admin/endpoints lists those that exist")
        for lane, member in found:
            if member.drained != drained:
                member.drained = drained
                member.touch()
                self._parts.audit.act(
                    "endpoint.drained" if drained else "endpoint.undrained",
                    by=identity.key_id,
                    tenant=identity.tenant,
                    target=member.id,
                    facts={"model": lane.model},
                )
                what = "endpoint drained" if drained else "endpoint undrained"
                facts = {"endpoint": member.id, "in_flight": member.in_flight, "by": identity.key_id}
                self._parts.log.event("info", what, model=lane.model, **facts)
        return _shown(found)


def _shown(rows: list[tuple[Lane, Member]]) -> Response:
    body = msgspec.json.encode(EndpointList([_card(lane, member) for lane, member in rows]))
    return Response(body, media_type="application/json")


def _card(lane: Lane, member: Member) -> EndpointCard:
    endpoint = member.endpoint()
    observed_s = endpoint.observed_s
    refusal = None
    if lane.router is not None:
        refusal = lane.router.health(member.id, time.monotonic())
    return EndpointCard(
        id=member.id,
        model=lane.model,
        engine=member.engine.name,
        state=endpoint.state,
        reason=member.reason or refusal,
        log=list(member.log) if member.said in ("failed", "restarting", "loading") else [],
        drained=member.drained,
        in_flight=member.in_flight,
        slots=member.slots,
        context_tokens=member.context_tokens,
        running=endpoint.running,
        waiting=endpoint.waiting,
        kv_used=endpoint.kv_used,
        prefix_hits=endpoint.prefix_hits,
        ttft_s=endpoint.ttft_s,
        tpot_s=endpoint.tpot_s,
        observed_ago_s=None if observed_s is None else round(time.monotonic() - observed_s, 3),
    )
