"""What is remembered of requests, for those who may see it: `/admin/requests/{id}` and `/admin/audit`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from inhouse.core import Identity
from inhouse.errors import BadRequest, NotFound, StateError, StateUnavailable
from inhouse.gateway.explain import story
from inhouse.parts import Parts, book_all
from inhouse.telemetry.audit_page import Page, Wanted, is_status, page
from inhouse.telemetry.entry import Entry
from inhouse.tenancy.roles import allows
from inhouse.wire.records import AUDIT_QUERY, REQUEST_ID_BYTES_MAX, StoryList, moment


class Records:
    """The handlers. Whoever comes here has proven an identity, which is in the request's scope."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def explain(self, request: Request) -> Response:
        """Needs `requests.read_own`; who has no `requests.read` finds the requests of the own tenant only."""
        parts, identity = self._parts, cast(Identity, request.scope["identity"])
        request_id = request.path_params["id"]
        book_all(parts)
        found = parts.recent.find(request_id)
        if not allows(identity, "requests.read"):
            found = tuple(entry for entry in found if entry.tenant == identity.tenant)
        if not found:
            raise NotFound(
                f"no request '{request_id[:REQUEST_ID_BYTES_MAX]}' is among the last {len(parts.recent):,} that this "
                "process remembers; `inhouse audit list --request` may know it; `explain.requests_max` is the limit"
            )
        epoch_s = time.time() - asyncio.get_running_loop().time()
        stories = [story(entry, epoch_s=epoch_s, priced=self._priced(entry)) for entry in found]
        return Response(msgspec.json.encode(StoryList(stories)), media_type="application/json")

    async def audit(self, request: Request) -> Response:
        """Needs `audit.read`. That somebody read is a record of its own."""
        asked = _Asked.of(request.query_params.multi_items())
        found = await asyncio.to_thread(self._page, asked)
        identity = cast(Identity, request.scope["identity"])
        facts: dict[str, int | float | str] = {"records": len(found.lines)}
        self._parts.audit.act("audit.read", by=identity.key_id, tenant=identity.tenant, facts=facts)
        body = msgspec.json.encode({"data": [msgspec.Raw(line) for line in found.lines], "before": found.before})
        return Response(body, media_type="application/json")

    def _page(self, asked: _Asked) -> Page:
        try:
            with closing(self._parts.stores.audit_log()) as log:
                return page(log.newest(before=asked.before), asked.wanted, limit=asked.limit)
        except StateError as error:
            self._parts.log.event("error", "audit cannot be read", reason=error.message)
            raise StateUnavailable(
                "the audit cannot be read; the log of this server says why", retry_after_s=5.0
            ) from error

    def _priced(self, entry: Entry) -> bool:
        spec = self._parts.stack.models.get(entry.model)
        return spec is not None and any(value is not None for value in (spec.price.input, spec.price.output))


_LIMIT, _LIMIT_MAX = 100, 1000
_TEXTS = ("tenant", "key", "model", "request")


@dataclass(frozen=True, slots=True)
class _Asked:
    wanted: Wanted
    limit: int
    before: int | None

    @classmethod
    def of(cls, query: Iterable[tuple[str, str]]) -> _Asked:
        """Raises BadRequest for a parameter that does not exist, is there twice or has no such value."""
        given: dict[str, str] = {}
        for name, value in query:
            if name not in AUDIT_QUERY:
                raise BadRequest(
                    f"the audit has no parameter '{name[:64]}'; it has: {', '.join(AUDIT_QUERY)}", param=name[:64]
                )
            if name in given:
                raise BadRequest(f"`{name}` is given twice", param=name)
            given[name] = value
        status, kind = given.get("status"), given.get("kind")
        if status is not None and not is_status(status):
            raise BadRequest("`status` is three digits such as 429, or a class such as 5xx", param="status")
        if kind not in (None, "request", "act"):
            raise BadRequest("`kind` is `request` or `act`", param="kind")
        texts = {name: given.get(name) for name in _TEXTS}
        wanted = Wanted(_moment(given, "since"), _moment(given, "until"), status=status, kind=kind, **texts)
        before = _number(given, "before", 1, 10**15) if "before" in given else None
        limit = _number(given, "limit", 1, _LIMIT_MAX) if "limit" in given else _LIMIT
        return cls(wanted, limit, before)


def _moment(given: dict[str, str], name: str) -> float | None:
    try:
        return moment(given[name]) if name in given else None
    except (ValueError, OverflowError):
        raise BadRequest(
            f"`{name}` is a number of seconds since 1970, or such as 2026-11-25T10:00:00Z", param=name
        ) from None


def _number(given: dict[str, str], name: str, low: int, high: int) -> int:
    text = given[name]
    if not (text.isascii() and text.isdigit() and low <= int(text[:20]) <= high):
        raise BadRequest(f"`{name}` is a whole number from {low} to {high}", param=name)
    return int(text)
