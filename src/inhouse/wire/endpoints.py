"""Shapes of the admin API of endpoints. A figure of null is one that the engine does not report."""

from __future__ import annotations

from msgspec import Struct

from inhouse.wire.openapi_operation import Operation


class EndpointCard(Struct, kw_only=True):
    """One replica of one model as it was last seen."""

    id: str
    model: str
    engine: str
    state: str
    """ready, loading, draining or unreachable."""
    reason: str | None
    """Why it takes no requests, where it says."""
    log: list[str]
    """Of an engine that failed here: the last lines of its log."""
    drained: bool
    """Somebody asked for it to be emptied."""
    in_flight: int
    """Requests of this gateway that are there."""
    slots: int
    context_tokens: int | None
    running: int | None
    waiting: int | None
    kv_used: float | None
    prefix_hits: float | None
    ttft_s: float | None
    tpot_s: float | None
    observed_ago_s: float | None
    """Seconds since these figures were read."""


class EndpointList(Struct):
    endpoints: list[EndpointCard]


_ERRORS = (400, 401, 403, 404, 500)
ENDPOINTS = (
    Operation(
        path="/admin/endpoints",
        method="get",
        summary="Every replica of every model as it was last seen",
        tag="Operate",
        answer=EndpointList,
        answers="By model. A figure of null is one that the engine does not report.",
        errors=(401, 403, 500),
        needs="endpoints.read",
    ),
    Operation(
        path="/admin/endpoints/{id}/drain",
        summary="Let a replica take no new requests and finish those that it has",
        tag="Operate",
        answer=EndpointList,
        answers="The replica, once for each model that it serves.",
        errors=_ERRORS,
        needs="endpoints.manage",
    ),
    Operation(
        path="/admin/endpoints/{id}/undrain",
        summary="Let a drained replica take requests again",
        tag="Operate",
        answer=EndpointList,
        answers="The replica, once for each model that it serves.",
        errors=_ERRORS,
        needs="endpoints.manage",
    ),
)
