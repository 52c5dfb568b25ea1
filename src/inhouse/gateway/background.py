"""Answers in the background, and streams that can be resumed: what clients ask for, and how it is shown to them.

POST   /v1/responses {"background": true}    → the response as it is: queued (`divert`, from the hot path)
GET    /v1/responses/{id}                    → as it is by now; with `stream=true`, its events from the first on
POST   /v1/responses/{id}/cancel, DELETE /v1/responses/{id}
POST   /v1/…  with `x-inhouse-resume: true`  → a stream whose events have ids, and that goes on without its client
POST   /v1/…  with `Last-Event-ID: ID`       → what follows that event, and the rest as it comes
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, cast

import msgspec
from msgspec import Raw
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from inhouse.core import Identity
from inhouse.errors import ApiError, BadRequest, NotFound
from inhouse.gateway.apis import APIS, parsed
from inhouse.gateway.aside import Aside
from inhouse.gateway.body import read_body
from inhouse.gateway.kept import Kept, KeptAnswers
from inhouse.parts import Parts
from inhouse.telemetry.log import place_of
from inhouse.wire import errors, responses
from inhouse.wire.responses_items import response

if TYPE_CHECKING:
    from inhouse.gateway.kept_elsewhere import KeptElsewhere
    from inhouse.gateway.kept_shared import KeptShared

_STREAM = {"cache-control": "no-cache", "x-accel-buffering": "no"}
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_flag = msgspec.json.Decoder(bool | None).decode


class Background:
    """The handlers. Whoever comes here has proven an identity."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._shared = _shared(parts)
        self._kept = KeptAnswers(parts.stack.kept, self._shared)
        parts.divert = self.divert
        parts.sweepers.append(self._kept.sweep)
        if self._shared is not None:
            parts.concerns["kept"] = lambda: "" if self._shared is None else self._shared.trouble
            parts.going_on = lambda: self._kept.under_way  # others can read them when this gateway has ended
            parts.stop_aside = self._kept.stop
            parts.closers.append(self._shared.close)

    async def divert(self, path: bytes, body: bytes, identity: Identity) -> bytes | None:
        """Begins a response in the background; None where it was not asked for. Raises ApiError."""
        try:
            fields = _fields(body)
            if not _flag(fields.pop("background", Raw(b"false"))):
                return None
        except msgspec.DecodeError:
            return None  # what is wrong with it is told where it is parsed
        if bytes(fields.get("stream", b"false")) not in (b"false", b"null"):
            raise BadRequest(
                "a response in the background is not streamed by its request; leave `stream` out, and follow it with "
                "GET /v1/responses/{id}?stream=true",
                param="stream",
            )
        fields["stream"] = Raw(b"true")
        body = msgspec.json.encode(fields)
        asked = responses.parse(body).asked
        kept = Kept(identity.tenant, APIS[path].name, background=True)
        aside = Aside(self._parts, APIS[path], body, kept, identity)
        model = asked.model or next(iter(self._parts.lanes))
        first = response(asked, id_hex=aside.id_hex, now_s=time.time(), model=model, status="queued")
        first.background = first.store = True
        kept.id, kept.shown = first.id, msgspec.json.encode(first)
        begun = kept.shown
        self._kept.begin(kept, aside)
        if self._shared is not None:
            await self._shared.begun(kept)
        return begun

    async def show(self, request: Request) -> Response:
        kept = await self._found(request, f"resp_{request.path_params['id']}")
        if request.query_params.get("stream") == "true":
            after = request.query_params.get("starting_after", "-1")
            if not after.removeprefix("-").isdecimal():
                raise BadRequest("`starting_after` is the number of an event", param="starting_after")
            return _streamed(kept, int(after))
        return Response(_as_it_is(kept), media_type="application/json")

    async def cancel(self, request: Request) -> Response:
        kept = await self._found(request, f"resp_{request.path_params['id']}")
        if isinstance(kept, Kept):
            kept.cancel()
        else:
            await kept.cancel()
        return Response(_as_it_is(kept), media_type="application/json")

    async def delete(self, request: Request) -> Response:
        id, tenant = f"resp_{request.path_params['id']}", _tenant(request)
        kept = self._kept.find(id, tenant)
        found = kept is not None
        if self._shared is not None:
            from inhouse.gateway.kept_elsewhere import remove

            found |= await remove(self._shared, id, tenant)
        if not found:
            raise _none(id)
        if kept is not None:
            self._kept.remove(kept)
        told = {"id": id, "object": "response", "deleted": True}
        return Response(msgspec.json.encode(told), media_type="application/json")

    async def resumable(self, request: Request) -> Response:
        """A stream that begins here, or goes on."""
        if (last := request.headers.get("last-event-id")) is not None:
            id, _, number = last.rpartition(":")
            if not number.isdecimal():
                raise BadRequest("`Last-Event-ID` is the id of an event of a stream that can be resumed")
            return _streamed(await self._found(request, id), int(number))
        body = await read_body(request, self._parts.stack.gateway)
        identity = cast(Identity, request.scope["identity"])
        api = APIS[request.url.path.encode()]
        call, _ = parsed(api, body, self._parts.stack.requests, "0" * 24, time.time())
        if not call.view.streams:
            raise BadRequest("only a stream can be resumed: set `stream` to true", param="stream")
        kept = Kept(identity.tenant, api.name, background=False)
        aside = Aside(self._parts, api, body, kept, identity)
        kept.id = aside.id_hex
        self._kept.begin(kept, aside)
        await kept.begun()
        if self._shared is not None:
            await self._shared.begun(kept)
        if kept.refusal is not None:
            self._kept.remove(kept)
            status, refused = kept.refusal
            return Response(refused, status, media_type="application/json")
        return _streamed(kept, -1)

    async def _found(self, request: Request, id: str) -> Kept | KeptElsewhere:
        """Here or at another gateway. Raises NotFound, StateUnavailable."""
        tenant = _tenant(request)
        found: Kept | KeptElsewhere | None = self._kept.find(id, tenant)
        if found is None and self._shared is not None:
            from inhouse.gateway.kept_elsewhere import find

            found = await find(self._shared, id, tenant)
        if found is None:
            raise _none(id)
        return found


def _shared(parts: Parts) -> KeptShared | None:
    """None: gateways share no Redis."""
    store, kept = parts.stack.store, parts.stack.kept
    if not store.redis.is_set:
        return None
    from inhouse.gateway.kept_shared import KeptShared

    def fault(error: BaseException) -> None:
        parts.log.event("error", "internal error", fault=place_of(error))

    link = parts.stores.redis_link
    return KeptShared(link, store.redis.prefix, lease_s=store.lease, keep_s=kept.time, fault=fault)


def _tenant(request: Request) -> str:
    return cast(Identity, request.scope["identity"]).tenant


def _none(id: str) -> NotFound:
    return NotFound(f"there is no answer '{id[:100]}' here: it was never kept, or its time is over")


def _streamed(kept: Kept | KeptElsewhere, after: int) -> Response:
    return StreamingResponse(_events(kept, after), media_type="text/event-stream", headers=_STREAM)


async def _events(kept: Kept | KeptElsewhere, after: int) -> AsyncIterator[bytes]:
    head = f"id: {kept.id}:".encode()
    try:
        async for number, event in kept.follow(after):
            yield b"%b%d\n%b" % (head, number, event)
    except ApiError as error:  # it has no number: whoever comes back gets what follows the last that had one
        yield b"event: error\n" + errors.event(error)


def _as_it_is(kept: Kept | KeptElsewhere) -> bytes:
    """The response by now: a refusal is a failed one, and what was cancelled says so."""
    if not (kept.cancelled or kept.refusal):
        return kept.shown
    shown: dict[str, Any] = msgspec.json.decode(kept.shown)
    shown["status"] = "cancelled" if kept.cancelled else "failed"
    shown["error"] = None
    if kept.refusal and not kept.cancelled:
        error = msgspec.json.decode(kept.refusal[1])["error"]
        shown["error"] = {"code": error.get("code") or "server_error", "message": error["message"]}
    return msgspec.json.encode(shown)
