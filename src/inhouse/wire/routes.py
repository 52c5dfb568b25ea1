"""Shapes of the admin API of routes. Times are seconds since 1970, weights are in percent."""

from __future__ import annotations

from msgspec import Struct

from inhouse.wire.decode import RequestDecoder
from inhouse.wire.openapi_operation import Operation


class SwitchRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """The model that all requests of the route go to."""

    model: str


class WeightRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """Another share for one of the route's models, or for its canary: `25%`."""

    model: str
    weight: str


class RouteShare(Struct, kw_only=True):
    """What a target of the route has of its requests now, those by tenant and size left out."""

    model: str
    weight: float


class WindowFigures(Struct, kw_only=True):
    """What one version did in the present window, in this process. Null: there is nothing to measure it by."""

    requests: int
    failed: int
    ttft_p95_s: float | None
    tpot_p95_s: float | None


class CanaryCard(Struct, kw_only=True):
    """A new version on trial."""

    model: str
    state: str
    """trying, settled, paused, done, rolled back or by hand."""
    weight: float
    reason: str
    window_s: float
    """How old the present window is."""
    min_requests: int
    """That each version needs in a window before they are compared."""
    stable: WindowFigures
    canary: WindowFigures


class RouteEvent(Struct, kw_only=True):
    """Something that changed the route."""

    time: float
    change: str
    by: str
    """The id of a key; `inhouse` where a canary decided by itself."""
    model: str | None
    weight: float | None
    reason: str | None


class RouteCard(Struct, kw_only=True):
    """One route as it is now."""

    name: str
    aliases: list[str]
    models: list[RouteShare]
    why: str
    switched: str | None
    """The model that it is switched to."""
    back: bool
    """Whether there is something to go back to."""
    tenants: list[str]
    prompt_tokens: list[str]
    fallback: list[str]
    canary: CanaryCard | None
    events: list[RouteEvent]
    """The last ones, the newest first."""


class RouteList(Struct):
    routes: list[RouteCard]


parse_switch = RequestDecoder(SwitchRequest)
parse_weight = RequestDecoder(WeightRequest)

_CHANGE = (400, 401, 403, 404, 409, 413, 415, 500, 503)
ROUTES = (
    Operation(
        path="/admin/routes",
        method="get",
        summary="Every route as it is now",
        tag="Operate",
        answer=RouteList,
        answers="In the order of inhouse.yaml.",
        errors=(401, 403, 500),
        needs="routes.read",
    ),
    Operation(
        path="/admin/routes/{name}",
        method="get",
        summary="One route as it is now",
        tag="Operate",
        answer=RouteCard,
        answers="Weights, canary, the figures of its window, and why it is so.",
        errors=(401, 403, 404, 500),
        needs="routes.read",
    ),
    Operation(
        path="/admin/routes/{name}/switch",
        summary="Send all requests of a route to one model",
        tag="Operate",
        request=SwitchRequest,
        example={"model": "chat-v2"},
        answer=RouteCard,
        answers="The route as it is now.",
        errors=_CHANGE,
        needs="routes.manage",
    ),
    Operation(
        path="/admin/routes/{name}/back",
        summary="Undo the last switch of a route",
        tag="Operate",
        answer=RouteCard,
        answers="The route as it is now.",
        errors=(401, 403, 404, 409, 500, 503),
        needs="routes.manage",
    ),
    Operation(
        path="/admin/routes/{name}/weight",
        summary="Give a model of a route another share",
        tag="Operate",
        request=WeightRequest,
        example={"model": "chat-v2", "weight": "25%"},
        answer=RouteCard,
        answers="The route as it is now.",
        errors=_CHANGE,
        needs="routes.manage",
    ),
    Operation(
        path="/admin/routes/{name}/canary/{act}",
        summary="Start, pause, resume, rollback or promote the canary of a route",
        tag="Operate",
        answer=RouteCard,
        answers="The route as it is now.",
        errors=(400, 401, 403, 404, 409, 500, 503),
        needs="routes.manage",
    ),
)
