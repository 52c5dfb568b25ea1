"""OpenAI's Batch API: create, list, look at, cancel. The work itself: `batch_runner`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from inhouse.config import Stack
from inhouse.core import Identity
from inhouse.core_batch import BatchObject
from inhouse.errors import BadRequest, Conflict, NotFound
from inhouse.gateway.body import read_body
from inhouse.store.batches import Batches, BatchRecord, Caller
from inhouse.threads import in_thread
from inhouse.wire import batches as wire
from inhouse.wire.batches import BatchList
from inhouse.wire.lenient import leniently

_LISTED, _LISTED_MAX = 20, 100


class BatchDoor:
    """The handlers. Whoever comes here has proven an identity. `look` tells the runner that there is news."""

    def __init__(self, stack: Stack, batches: Batches, look: Callable[[], None]) -> None:
        self._stack, self._batches, self._look = stack, batches, look

    async def create(self, request: Request) -> Response:
        identity = _identity(request)
        body = await read_body(request, self._stack.gateway)
        asked, _ = leniently(wire.request, body, self._stack.requests)
        file = await in_thread(lambda: self._batches.file(identity.tenant, asked.input_file_id))
        if file is None:
            raise NotFound(f"there is no file '{asked.input_file_id[:100]}'; upload it with purpose `batch` first")
        if file.purpose != "batch":
            raise BadRequest("the file was uploaded for another purpose than `batch`", param="input_file_id")
        now = int(time.time())
        state = BatchObject(
            id=f"batch_{os.urandom(12).hex()}",
            endpoint=asked.endpoint,
            input_file_id=file.id,
            created_at=now,
            expires_at=now + max(1, int(self._stack.batches.window)),
            metadata=asked.metadata,
        )
        caller = Caller(
            identity.key_id, identity.tenant, tuple(sorted(identity.roles)), identity.models, identity.limits
        )
        await in_thread(lambda: self._batches.add(BatchRecord(identity.tenant, caller, state)))
        self._look()
        return _json(state)

    async def list(self, request: Request) -> Response:
        tenant, after = _identity(request).tenant, request.query_params.get("after")
        text = request.query_params.get("limit", str(_LISTED))
        if not text.isdecimal() or not 1 <= int(text) <= _LISTED_MAX:
            raise BadRequest(f"`limit` is a whole number from 1 to {_LISTED_MAX}", param="limit")
        limit = int(text)
        found = await in_thread(lambda: self._batches.list(tenant, after=after, limit=limit + 1))
        shown = found[:limit]
        first, last = (shown[0].id, shown[-1].id) if shown else (None, None)
        return _json(BatchList(data=shown, first_id=first, last_id=last, has_more=len(found) > limit))

    async def show(self, request: Request) -> Response:
        tenant, id = _identity(request).tenant, request.path_params["id"]
        state = await in_thread(lambda: self._batches.get(tenant, id))
        return _json(_there(state, id))

    async def cancel(self, request: Request) -> Response:
        tenant, id = _identity(request).tenant, request.path_params["id"]
        state = _there(await in_thread(lambda: self._batches.change(tenant, id, _cancelling)), id)
        if state.status != "cancelling":
            raise Conflict(f"the batch '{id[:100]}' is {state.status}: there is nothing to cancel")
        self._look()
        return _json(_there(await in_thread(lambda: self._batches.get(tenant, id)), id))


def _cancelling(state: BatchObject) -> BatchObject:
    if state.status in ("validating", "in_progress"):
        state.status, state.cancelling_at = "cancelling", int(time.time())
    return state


def _there(state: BatchObject | None, id: str) -> BatchObject:
    if state is None:
        raise NotFound(f"there is no batch '{id[:100]}'; GET /v1/batches lists those that exist")
    return state


def _identity(request: Request) -> Identity:
    return cast(Identity, request.scope["identity"])


def _json(body: object) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")
