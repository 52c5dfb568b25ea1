"""What is remembered of requests, for those who may see it: `/admin/requests/{id}`."""

from __future__ import annotations

import asyncio
import time
from typing import cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from inhouse.core import Identity
from inhouse.errors import NotFound
from inhouse.gateway.explain import story
from inhouse.runtime import Parts
from inhouse.telemetry.entry import Entry
from inhouse.tenancy.roles import allows
from inhouse.wire.records import REQUEST_ID_BYTES_MAX, StoryList


class Records:
    """The handlers. Whoever comes here has proven an identity, which is in the request's scope."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def explain(self, request: Request) -> Response:
        """Needs `requests.read_own`; who has no `requests.read` finds the requests of the own tenant only."""
        parts, identity = self._parts, cast(Identity, request.scope["identity"])
        request_id = request.path_params["id"]
        found = parts.recent.find(request_id)
        if not allows(identity, "requests.read"):
            found = tuple(entry for entry in found if entry.tenant == identity.tenant)
        if not found:
            raise NotFound(
                f"no request '{request_id[:REQUEST_ID_BYTES_MAX]}' is among the last {len(parts.recent):,} that this "
                "process remembers; raise `explain.requests_max` in inhouse.yaml to remember more"
            )
        epoch_s = time.time() - asyncio.get_running_loop().time()
        stories = [story(entry, epoch_s=epoch_s, priced=self._priced(entry)) for entry in found]
        return Response(msgspec.json.encode(StoryList(stories)), media_type="application/json")

    def _priced(self, entry: Entry) -> bool:
        spec = self._parts.stack.models.get(entry.model)
        return spec is not None and any(value is not None for value in (spec.price.input, spec.price.output))
