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
from typing import Any, cast

import msgspec
from msgspec import Raw
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from inhouse.core import Identity
from inhouse.errors import BadRequest
from inhouse.gateway.apis import APIS, parsed
from inhouse.gateway.aside import Aside
from inhouse.gateway.body import read_body
from inhouse.gateway.kept import Kept, KeptAnswers
from inhouse.runtime import Parts
from inhouse.wire import responses
from inhouse.wire.responses_items import response

_STREAM = {"cache-control": "no-cache", "x-accel-buffering": "no"}
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_flag = msgspec.json.Decoder(bool | None).decode


class Background:
    """The handlers. Whoever comes here has proven an identity."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._kept = KeptAnswers(parts.stack.kept)
        parts.divert = self.divert
        parts.sweepers.append(self._kept.sweep)

    def divert(self, path: bytes, body: bytes, identity: Identity) -> bytes | None:
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
        kept = Kept(identity.tenant, background=True)
        aside = Aside(self._parts, APIS[path], body, kept, identity)
        model = asked.model or next(iter(self._parts.lanes))
        first = response(asked, id_hex=aside.id_hex, now_s=time.time(), model=model, status="queued")
        first.background = first.store = True
        kept.id, kept.shown = first.id, msgspec.json.encode(first)
        self._kept.begin(kept, aside)
        return kept.shown

    async def show(self, request: Request) -> Response:
        kept = self._found(request, f"resp_{request.path_params['id']}")
        if request.query_params.get("stream") == "true":
            after = request.query_params.get("starting_after", "-1")
            if not after.removeprefix("-").isdecimal():
                raise BadRequest("`starting_after` is the number of an event", param="starting_after")
            return _streamed(kept, int(after))
        return Response(_as_it_is(kept), media_type="application/json")

    async def cancel(self, request: Request) -> Response:
        kept = self._found(request, f"resp_{request.path_params['id']}")
        self._kept.cancel(kept)
        return Response(_as_it_is(kept), media_type="application/json")

    async def delete(self, request: Request) -> Response:
        kept = self._found(request, f"resp_{request.path_params['id']}")
        self._kept.remove(kept)
        told = {"id": kept.id, "object": "response", "deleted": True}
        return Response(msgspec.json.encode(told), media_type="application/json")

    async def resumable(self, request: Request) -> Response:
        """A stream that begins here, or goes on."""
        if (last := request.headers.get("last-event-id")) is not None:
            id, _, number = last.rpartition(":")
            if not number.isdecimal():
                raise BadRequest("`Last-Event-ID` is the id of an event of a stream that can be resumed")
            return _streamed(self._found(request, id), int(number))
        body = await read_body(request, self._parts.stack.gateway)
        identity = cast(Identity, request.scope["identity"])
        api = APIS[request.url.path.encode()]
        call, _ = parsed(api, body, self._parts.stack.requests, "0" * 24, time.time())
        if not call.view.streams:
            raise BadRequest("only a stream can be resumed: set `stream` to true", param="stream")
        kept = Kept(identity.tenant, background=False)
        aside = Aside(self._parts, api, body, kept, identity)
        kept.id = aside.id_hex
        self._kept.begin(kept, aside)
        await kept.begun()
        if kept.refusal is not None:
            self._kept.remove(kept)
            status, refused = kept.refusal
            return Response(refused, status, media_type="application/json")
        return _streamed(kept, -1)

    def _found(self, request: Request, id: str) -> Kept:
        return self._kept.find(id, cast(Identity, request.scope["identity"]).tenant)


def _streamed(kept: Kept, after: int) -> Response:
    return StreamingResponse(_events(kept, after), media_type="text/event-stream", headers=_STREAM)


async def _events(kept: Kept, after: int) -> AsyncIterator[bytes]:
    head = f"id: {kept.id}:".encode()
    async for number, event in kept.follow(after):
        yield b"%b%d\n%b" % (head, number, event)


def _as_it_is(kept: Kept) -> bytes:
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
