"""The ASGI app: everything that is not hot. Lists, health, metrics, tokens, documentation.

Paths are allow-listed: what an engine could do beyond them cannot be reached.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inhouse import __version__
from inhouse.dispatch.lane import CONTEXT_UNKNOWN, Lane, find
from inhouse.engines.abilities import able
from inhouse.engines.counting import Counting, Question
from inhouse.errors import (
    ApiError,
    BadRequest,
    EngineError,
    InternalError,
    MethodNotAllowed,
    NotFound,
)
from inhouse.gateway.admin_keys import AdminKeys
from inhouse.gateway.admin_routes import AdminRoutes
from inhouse.gateway.apis import APIS
from inhouse.gateway.background import Background
from inhouse.gateway.backlog import Backlog
from inhouse.gateway.batching import Batching
from inhouse.gateway.body import read_body
from inhouse.gateway.endpoints import Endpoints
from inhouse.gateway.records import Records
from inhouse.gateway.sockets import Sockets
from inhouse.parts import Parts, book_all
from inhouse.telemetry.metrics import CONTENT_TYPE
from inhouse.tenancy.roles import Permission, require
from inhouse.wire import errors, messages, sse
from inhouse.wire.decode import RequestDecoder
from inhouse.wire.lenient import leniently
from inhouse.wire.openai_chat import jobs
from inhouse.wire.openapi_shapes import DetokenizeRequest, TokenizeRequest
from inhouse.wire.records import sane_request_id

T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]
_CSP = (
    "default-src 'none'; style-src 'self' 'unsafe-inline'; script-src 'self'; connect-src 'self'; img-src 'self' data:"
)
_encode = msgspec.json.encode


class _EngineSlot(Struct):
    id: int
    n_ctx: int = 0
    is_processing: bool = False


_tokenize = RequestDecoder(TokenizeRequest)
_detokenize = RequestDecoder(DetokenizeRequest)
_slots = msgspec.json.Decoder(list[_EngineSlot]).decode


def build(parts: Parts, work: Batching | None, sockets: Sockets) -> ASGIApp:
    """The app for one process; without `work`, it knows no files and no batches."""
    doors, records, keys, endpoints = _Doors(parts), Records(parts), AdminKeys(parts), Endpoints(parts)
    steer, background = AdminRoutes(parts), Background(parts)
    get, post = ["GET"], ["POST"]
    routes: list[BaseRoute] = [
        Route("/", doors.index, methods=get),
        Route("/health", doors.ready, methods=get),
        Route("/health/live", doors.live, methods=get),
        Route("/health/ready", doors.ready, methods=get),
        Route("/health/backlog", Backlog(parts).show, methods=get),
        Route("/metrics", doors.metrics, methods=get),
        Route("/openapi.json", doors.openapi, methods=get),
        Route("/docs", _page("docs.html", "text/html; charset=utf-8"), methods=get),
        Route("/docs.js", _page("docs.js", "text/javascript; charset=utf-8"), methods=get),
        Route("/v1/models", doors.guarded(doors.models, "models.read"), methods=get),
        Route("/v1/models/{model:path}", doors.guarded(doors.model, "models.read"), methods=get),
        Route("/slots", doors.guarded(doors.slots, "slots.read"), methods=get),
        Route("/tokenize", doors.guarded(doors.tokenize, "tokens.count"), methods=post),
        Route("/detokenize", doors.guarded(doors.detokenize, "tokens.count"), methods=post),
        Route("/v1/messages/count_tokens", doors.guarded(doors.count_tokens, "tokens.count"), methods=post),
        Route("/admin/audit", doors.guarded(records.audit, "audit.read"), methods=get),
        Route("/admin/requests/{id:path}", doors.guarded(records.explain, "requests.read_own"), methods=get),
        Route("/admin/endpoints", doors.guarded(endpoints.list, "endpoints.read"), methods=get),
        Route("/admin/endpoints/{id:path}/drain", doors.guarded(endpoints.drain, "endpoints.manage"), methods=post),
        Route("/admin/endpoints/{id:path}/undrain", doors.guarded(endpoints.undrain, "endpoints.manage"), methods=post),
        Route("/admin/routes", doors.guarded(steer.list, "routes.read"), methods=get),
        Route("/admin/routes/{name:path}/switch", doors.guarded(steer.switch, "routes.manage"), methods=post),
        Route("/admin/routes/{name:path}/back", doors.guarded(steer.back, "routes.manage"), methods=post),
        Route("/admin/routes/{name:path}/weight", doors.guarded(steer.weight, "routes.manage"), methods=post),
        Route("/admin/routes/{name:path}/canary/{act}", doors.guarded(steer.canary, "routes.manage"), methods=post),
        Route("/admin/routes/{name:path}", doors.guarded(steer.show, "routes.read"), methods=get),
        Route("/admin/keys", doors.guarded(keys.list, "keys.read"), methods=get),
        Route("/admin/keys", doors.guarded(keys.create, "keys.manage"), methods=post),
        Route("/admin/keys/{id}/rotate", doors.guarded(keys.rotate, "keys.manage"), methods=post),
        Route("/admin/keys/{id}", doors.guarded(keys.revoke, "keys.manage"), methods=["DELETE"]),
        Route("/admin/usage", doors.guarded(keys.usage, "usage.read_own"), methods=get),
        Route("/admin/tenants", doors.guarded(keys.tenants, "usage.read_own"), methods=get),
        WebSocketRoute("/v1/responses", sockets.responses),
        WebSocketRoute("/v1/chat/completions", sockets.chat),
        *(_work_routes(doors, work) if work is not None else ()),
        # the protocol takes these before they come here; it leaves streams that can be resumed, and other methods
        *(Route(path.decode(), doors.guarded(background.resumable, "infer"), methods=post) for path in APIS),
        Route("/v1/responses/resp_{id}", doors.guarded(background.show, "infer"), methods=get),
        Route("/v1/responses/resp_{id}", doors.guarded(background.delete, "infer"), methods=["DELETE"]),
        Route("/v1/responses/resp_{id}/cancel", doors.guarded(background.cancel, "infer"), methods=post),
    ]
    origins = parts.stack.gateway.cors_origins
    cors = [Middleware(CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"])]
    app = Starlette(
        routes=routes,
        middleware=cors if origins else [],
        exception_handlers={ApiError: _refuse, HTTPException: _refuse_http, Exception: _refuse_fault},
    )
    app.router.redirect_slashes = False
    return _Numbered(app)


def _work_routes(doors: _Doors, work: Batching) -> list[Route]:
    files, batches = work.files, work.batches
    rows: list[tuple[str, str, Handler]] = [
        ("/v1/files", "POST", files.upload),
        ("/v1/files", "GET", files.list),
        ("/v1/files/{id}", "GET", files.show),
        ("/v1/files/{id}", "DELETE", files.delete),
        ("/v1/files/{id}/content", "GET", files.content),
        ("/v1/batches", "POST", batches.create),
        ("/v1/batches", "GET", batches.list),
        ("/v1/batches/{id}", "GET", batches.show),
        ("/v1/batches/{id}/cancel", "POST", batches.cancel),
    ]
    return [Route(path, doors.guarded(handler, "infer"), methods=[method]) for path, method, handler in rows]


class _Numbered:
    """Gives every response an `x-request-id`, the client's where it is sane, as the hot endpoints do."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        own = next((value for name, value in scope.get("headers", ()) if name == b"x-request-id"), b"")
        scope["request_id"] = request_id = sane_request_id(own) or os.urandom(12).hex()

        async def numbered(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        await self._app(scope, receive, numbered)


class _Doors:
    """The handlers, by the name of what they show."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._openapi = b""

    def guarded(self, handler: Handler, permission: Permission) -> Handler:
        """`handler` for callers that prove who they are and may do this."""

        async def guard(request: Request) -> Response:
            headers = request.headers
            raw = [headers.get(name) for name in ("authorization", "x-api-key")]
            identity = self._parts.identify(*(None if value is None else value.encode("latin-1") for value in raw))
            require(identity, permission)
            request.scope["identity"] = identity
            return await handler(request)

        return guard

    async def index(self, request: Request) -> Response:
        return _json({"name": "inhouse", "version": __version__, "docs": "/docs", "openapi": "/openapi.json"})

    async def live(self, request: Request) -> Response:
        return _json({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        lanes = self._parts.lanes.values()
        ok = not self._parts.draining and any(lane.admits for lane in lanes)
        status = "ok" if ok else "draining" if self._parts.draining else "not ready"
        body = {"status": status, "models": {lane.model: lane.state for lane in lanes}}
        troubles = self._parts.troubles()
        if troubles:  # others may be served all the same, so a store that is away takes nobody out of service
            body["stores"] = {concern: "away" if reason else "ok" for concern, reason in troubles.items()}
        return _json(body, 200 if ok else 503, {} if ok else {"retry-after": "2"})

    async def metrics(self, request: Request) -> Response:
        book_all(self._parts)
        return Response(self._parts.metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def openapi(self, request: Request) -> Response:
        from inhouse.wire import openapi

        self._openapi = self._openapi or openapi.render(__version__)
        return Response(self._openapi, media_type="application/json")

    async def models(self, request: Request) -> Response:
        data = [_shown(lane) for lane in self._parts.lanes.values()]
        data += [_named(name, self._parts.lanes) for name in self._parts.ways.names if name not in self._parts.lanes]
        return _json({"object": "list", "data": data})

    async def model(self, request: Request) -> Response:
        name = request.path_params["model"]
        if not name:
            raise NotFound("a model's name is missing after /v1/models/; leave the slash out for the list")
        if name in self._parts.ways.names and name not in self._parts.lanes:
            return _json(_named(name, self._parts.lanes))
        return _json(_shown(find(self._parts.lanes, name)))

    async def slots(self, request: Request) -> Response:
        shown = []
        for lane in self._parts.lanes.values():
            queue = lane.turns.queue
            asks = lane.ready and lane.engine.reads == "props"
            found = await _asked(lane, b"GET", b"/slots", b"", _slots) if asks else []
            counts = {"capacity": queue.capacity, "in_service": queue.serving, "waiting": queue.waiting}
            shown.append({"model": lane.model, "state": lane.state, **counts, "slots": found})
        return _json(shown)

    async def tokenize(self, request: Request) -> Response:
        wanted = await self._read(_tokenize, request)
        lane = self._parts.ways.counting(wanted.model, request.scope["identity"])
        tokens = await _answer(lane, _counting(lane).text(wanted.content, wanted.add_special))
        return _json({"tokens": tokens})

    async def detokenize(self, request: Request) -> Response:
        wanted = await self._read(_detokenize, request)
        lane = self._parts.ways.counting(wanted.model, request.scope["identity"])
        question = _counting(lane).words(wanted.tokens)
        if question is None:
            raise BadRequest(f"the engines of '{lane.model}' ({lane.engine.name}) do not tell the text of tokens")
        return _json({"content": await _answer(lane, question)})

    async def count_tokens(self, request: Request) -> Response:
        wanted = await self._read(messages.parse_count, request)
        lane = self._parts.ways.counting(wanted.model, request.scope["identity"])
        body = jobs(wanted.request, self._parts.stack.requests)[0].body
        counted = await _answer(lane, _counting(lane).chat(body))
        return Response(messages.render_count(counted), media_type="application/json")

    async def _read(self, parse: Callable[[bytes], T], request: Request) -> T:
        """The parsed body; fields that do not exist are passed over, where the stack has it so."""
        return leniently(parse, await read_body(request, self._parts.stack.gateway), self._parts.stack.requests)[0]


def _shown(lane: Lane) -> dict[str, Any]:
    """A model in OpenAI's shape, and what else is worth knowing of it."""
    members = lane.places.members.values()
    context = lane.context_tokens
    return {
        "id": lane.model,
        "object": "model",
        "created": lane.created_s,
        "owned_by": "inhouse",
        "state": lane.state,
        "reason": lane.why or None,
        "engine": lane.engine.name,
        "source": lane.source if "://" in lane.source else lane.source.rpartition("/")[2],  # no folders of ours
        "context": context if members and context < CONTEXT_UNKNOWN else None,
        "slots": sum(member.slots for member in members) if members else None,
        "endpoints": len(members),
        "capabilities": able(lane.lacks),
    }


def _named(name: str, lanes: Mapping[str, Lane]) -> dict[str, Any]:
    """A name that leads to models: a route or an alias."""
    created_s = next(iter(lanes.values())).created_s
    return {"id": name, "object": "model", "created": created_s, "owned_by": "inhouse", "engine": "route"}


def _counting(lane: Lane) -> Counting:
    """Raises BadRequest."""
    if lane.engine.counting is None:
        raise BadRequest(f"the engines of '{lane.model}' ({lane.engine.name}) do not count tokens for others")
    return lane.engine.counting


async def _answer(lane: Lane, question: Question[T]) -> T:
    """Raises EngineError, BadRequest, ModelLoading."""
    await lane.woken()
    return await _asked(lane, b"POST", question.path, question.body, question.read)


async def _asked(lane: Lane, method: bytes, path: bytes, body: bytes, read: Callable[[bytes], T]) -> T:
    """A short question to the engine of a lane, without a slot. Raises EngineError, BadRequest, ModelLoading."""
    with lane.asked() as pool:
        reply = await pool.request(method, path, body)
        answer = await reply.read()
    if reply.status in (400, 422) or (reply.status == 500 and path == b"/detokenize"):
        raise BadRequest("the engine refused this input; are all token ids in this model's vocabulary?")
    try:
        if reply.status == 200:
            return read(answer)
    except sse.UNREADABLE:
        pass
    raise EngineError(f"the engine of '{lane.model}' answered with status {reply.status}")


def _json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(_encode(body), status, headers, media_type="application/json")


def _page(name: str, media_type: str) -> Handler:
    async def page(request: Request) -> Response:
        text = resources.files("inhouse.gateway").joinpath("web", name).read_bytes()
        return Response(text, headers={"content-type": media_type, "content-security-policy": _CSP})

    return page


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101 - registered for this class only
    body = errors.body(error)
    if request.url.path.startswith("/v1/messages"):
        body = messages.render_error(error, request.scope["request_id"])
    headers = {name.decode(): value.decode() for name, value in errors.headers(error)}
    return Response(body, error.status, headers, media_type="application/json")


async def _refuse_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
    path = request.url.path
    if error.status_code == 405:
        allow = (error.headers or {}).get("Allow", "POST")
        return await _refuse(request, MethodNotAllowed(f"{path} takes {allow}, not {request.method}", allow=allow))
    return await _refuse(request, NotFound(f"there is no {path[:200]} here; the paths that exist are listed at /docs"))


async def _refuse_fault(request: Request, error: Exception) -> Response:
    return await _refuse(request, InternalError("an internal error; the log of this server says more"))
