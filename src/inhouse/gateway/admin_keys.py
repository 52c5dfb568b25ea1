"""The admin API of keys, use and tenants: `/admin/keys`, `/admin/usage`, `/admin/tenants`.

Each act works on the state folder with connections of its own, in a thread: a disk that is slow or a report over a year
never holds up a request. A key that is changed here holds at once in this process and within 2 s in every other one.

Who has only `usage.read_own` sees one tenant: the one that the credentials prove. No parameter widens that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any, TypeVar, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from inhouse.core import Identity
from inhouse.errors import BadRequest, StateError, StateUnavailable
from inhouse.gateway.body import read_body
from inhouse.parts import Parts
from inhouse.store.ledger import Ledger, UsageRow
from inhouse.store.moment import now
from inhouse.tenancy import standing, usage, wanted
from inhouse.tenancy.desk import KeyDesk, shown
from inhouse.tenancy.keys import Minted
from inhouse.tenancy.roles import allows, require
from inhouse.wire import admin

_T = TypeVar("_T")

ROWS_MAX = 50_000
_RETRY_S = 5.0


class AdminKeys:
    """The handlers. Whoever comes here has proven an identity, which is in the request's scope."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._desk = KeyDesk(parts.stores, parts.stack)

    async def list(self, request: Request) -> Response:
        """Needs `keys.read`."""
        given = _query(request, "tenant", "all")
        everything = given.get("all", "false")
        if everything not in ("true", "false"):
            raise BadRequest("`all` is true or false", param="all")
        now_s = time.time()
        found = await self._act(self._desk.list)
        chosen = [
            shown(listed, now_s)
            for listed in found
            if (everything == "true" or listed.key.live(now_s)) and given.get("tenant") in (None, listed.key.tenant)
        ]
        return _json({"keys": chosen})

    async def create(self, request: Request) -> Response:
        """Needs `keys.manage`."""
        asked = admin.parse_key(await read_body(request, self._parts.stack.gateway) or b"{}")
        now_s = time.time()
        lifetime_s = None if asked.expires is None else wanted.lifetime_s(asked.expires, now=now_s)
        rights = wanted.rights(
            tenant=asked.tenant,
            roles=asked.roles,
            models=asked.models,
            limits=asked.limits,
            known_models=self._parts.stack.models,
        )
        by = _identity(request).key_id
        minted = await self._change(
            lambda: self._desk.create(note=asked.note, lifetime_s=lifetime_s, rights=rights, now=now_s, by=by)
        )
        return self._changed(request, "key made", minted, now_s)

    async def rotate(self, request: Request) -> Response:
        """Needs `keys.manage`."""
        asked = admin.parse_rotate(await read_body(request, self._parts.stack.gateway) or b"{}")
        now_s = time.time()
        lifetime_s = None if asked.expires is None else wanted.lifetime_s(asked.expires, now=now_s)
        grace_s = wanted.grace_s(asked.grace)
        key_id, by = request.path_params["id"], _identity(request).key_id
        minted = await self._change(
            lambda: self._desk.rotate(key_id, grace_s=grace_s, lifetime_s=lifetime_s, now=now_s, by=by)
        )
        return self._changed(request, "key rotated", minted, now_s)

    async def revoke(self, request: Request) -> Response:
        """Needs `keys.manage`."""
        key_id, now_s, by = request.path_params["id"], time.time(), _identity(request).key_id
        key = await self._change(lambda: self._desk.revoke(key_id, now=now_s, by=by))
        self._tell(request, "key revoked", key.id)
        return _json(shown(self._desk.listed(key), now_s))

    async def usage(self, request: Request) -> Response:
        """Needs `usage.read_own`; who has no `usage.read` sees the own tenant only."""
        given = _query(request, "since", "until", "tenant", "key", "model", "by")
        identity = _identity(request)
        tenant = given.get("tenant")
        if not allows(identity, "usage.read"):
            if tenant not in (None, identity.tenant):
                require(identity, "usage.read")
            tenant = identity.tenant
        by = usage.dimensions(name for name in given.get("by", "").split(",") if name)
        asked = usage.wanted(
            since=given.get("since", "7 d"),
            until=given.get("until"),
            tenant=tenant,
            key=given.get("key"),
            model=given.get("model"),
            now_s=time.time(),
        )
        rows: list[UsageRow] = await self._at_ledger(lambda ledger: usage.added_up(ledger.usage(asked), by))
        if len(rows) > ROWS_MAX:
            raise BadRequest(f"these are more than {ROWS_MAX} rows; ask for fewer days, or add them up with `by`")
        return _json({"currency": self._parts.stack.currency, "usage": [usage.shown(row, by) for row in rows]})

    async def tenants(self, request: Request) -> Response:
        """Needs `usage.read_own`; who has no `keys.read` sees the own tenant only."""
        _query(request)
        identity, stack = _identity(request), self._parts.stack
        only = None if allows(identity, "keys.read") else identity.tenant
        rows = await self._at_ledger(lambda ledger: standing.standings(stack, ledger, now(), only=only))
        return _json({"currency": stack.currency, "tenants": [standing.shown(row) for row in rows]})

    async def _at_ledger(self, work: Callable[[Ledger], _T]) -> _T:
        def look() -> _T:
            with closing(self._parts.stores.ledger()) as ledger:
                return work(ledger)

        return await self._act(look)

    async def _change(self, work: Callable[[], _T]) -> _T:
        """The same, for what changes a key: it is known here when the answer goes out."""

        def change() -> _T:
            done = work()
            self._parts.catch_up()
            return done

        return await self._act(change)

    async def _act(self, work: Callable[[], _T]) -> _T:
        """In a thread. What the state folder refuses is told in the log, and without its path to the client."""
        try:
            return await asyncio.to_thread(work)
        except StateError as error:
            self._parts.alarm.state(error.message)
            raise StateUnavailable(
                "the gateway cannot read or write its state now, nothing was changed; its log says why",
                retry_after_s=_RETRY_S,
            ) from error

    def _changed(self, request: Request, event: str, minted: Minted, now_s: float) -> Response:
        self._tell(request, event, minted.record.id)
        return _json({**shown(self._desk.listed(minted.record), now_s), "key": minted.key})

    def _tell(self, request: Request, event: str, key_id: str) -> None:
        self._parts.refresh_keys()
        by = _identity(request)
        self._parts.log.event("info", event, key_id=key_id, by=by.key_id, request_id=request.scope["request_id"])


def _identity(request: Request) -> Identity:
    return cast(Identity, request.scope["identity"])


def _query(request: Request, *names: str) -> dict[str, str]:
    """What stands in the query, once each. Raises `BadRequest` for what is not among `names`."""
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in names:
            known = f"; those that exist: {', '.join(names)}" if names else ""
            raise BadRequest(f"unknown query parameter '{name[:64]}'{known}", param=name[:64])
        if name in found:
            raise BadRequest(f"`{name}` is given twice; give it once", param=name)
        found[name] = value
    return found


def _json(document: dict[str, Any]) -> Response:
    headers = {"cache-control": "no-store"}  # a new key stands in some of them
    return Response(msgspec.json.encode(document), headers=headers, media_type="application/json")
