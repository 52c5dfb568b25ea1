"""The desk where keys are listed, made, rotated and taken back: one for the commands and for the admin API.

Each act opens the store, does one thing and closes it: nothing is shared with the requests of a running gateway, which
notices the change within a second or two. Acts wait for the disk; in a gateway they run in a thread.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from inhouse.config import Stack, render_moment
from inhouse.config.money import render_money
from inhouse.errors import Conflict
from inhouse.store.contract import Key
from inhouse.store.stores import Stores
from inhouse.tenancy import keys
from inhouse.tenancy.declared import record
from inhouse.tenancy.key_acts import Tell, recorded
from inhouse.tenancy.keys import Minted, Rights
from inhouse.tenancy.limits import limits_of, tighter


@dataclass(frozen=True, slots=True)
class Listed:
    """A key with all that holds for it. `reference` says where a declared key's text is; None for one of the store."""

    key: Key
    reference: str | None = None

    def state(self, now: float) -> str:
        if self.key.revoked_at is not None:
            return "revoked"
        return "live" if self.key.live(now) else "expired"


class KeyDesk:
    """Keys of one stack. Every act may raise `StateError`.

    `by` is who does it, for the audit: a key's id, or `key_acts.command_line_user()`.
    """

    def __init__(self, stores: Stores, stack: Stack) -> None:
        self._stores = stores
        self._stack = stack

    def list(self) -> list[Listed]:
        """Declared keys in the order of the file, then those of the store, the oldest first."""
        declared = [Listed(record(name, spec), spec.reference) for name, spec in self._declared().items()]
        with closing(self._stores.keys()) as store:
            return declared + [self.listed(key) for key in store.list()]

    def create(self, *, note: str, lifetime_s: float | None, rights: Rights, now: float, by: str) -> Minted:
        """Raises `BadRequest`."""
        with self._recorded(by) as tell, closing(self._stores.keys()) as store:
            minted = keys.mint(store, note=note, lifetime_s=lifetime_s, rights=rights, now=now)
            tell("key.made", minted.record)
        return minted

    def rotate(self, key_or_id: str, *, grace_s: float, lifetime_s: float | None, now: float, by: str) -> Minted:
        """Raises `NotFound`, `Conflict`, `BadRequest`."""
        self._check_not_declared(key_or_id)
        with self._recorded(by) as tell, closing(self._stores.keys()) as store:
            minted = keys.rotate(store, key_or_id, grace_s=grace_s, lifetime_s=lifetime_s, now=now)
            tell("key.rotated", minted.record)
        return minted

    def revoke(self, key_or_id: str, *, now: float, by: str) -> Key:
        """Raises `NotFound`, `Conflict`."""
        self._check_not_declared(key_or_id)
        with self._recorded(by) as tell, closing(self._stores.keys()) as store:
            key = keys.revoke(store, key_or_id, now=now)
            if key.revoked_at == now:
                tell("key.revoked", key)
        return key

    def _recorded(self, by: str) -> AbstractContextManager[Tell]:
        return recorded(self._stores, self._stack.audit, by=by)

    @contextmanager
    def temporary(self, *, note: str, lifetime_s: float, rights: Rights, by: str) -> Iterator[str]:
        """A key's text for the time of the block. Should this process be killed in it, `lifetime_s` ends the key."""
        made = self.create(note=note, lifetime_s=lifetime_s, rights=rights, now=time.time(), by=by)
        try:
            yield made.key
        finally:
            self.revoke(made.record.id, now=time.time(), by=by)

    def listed(self, key: Key) -> Listed:
        """A key of the store, with what inhouse.yaml says of it."""
        return Listed(self._tightened(key))

    def _tightened(self, key: Key) -> Key:
        spec = self._stack.keys.get(key.id)
        if spec is None:
            return key
        both = [model for model in key.models or spec.models if not spec.models or model in spec.models]
        return replace(key, limits=tighter(key.limits, limits_of(spec.limits)), models=tuple(both))

    def _declared(self) -> dict[str, Any]:
        return {name: spec for name, spec in self._stack.keys.items() if spec.declared}

    def _check_not_declared(self, key_or_id: str) -> None:
        key_id = keys.id_in(key_or_id)
        spec = self._declared().get(key_id)
        if spec is not None:
            raise Conflict(
                f"the key '{key_id}' is declared in inhouse.yaml ({spec.reference}); change or remove `keys.{key_id}` "
                "there" + (", or the text in its file" if spec.from_file is not None else "")
            )


def shown(listed: Listed, now: float) -> dict[str, Any]:
    """A key for scripts and for the API: everything but its hash. Money is in amounts of the currency."""
    key = listed.key
    limits = {name: limit for name, limit in msgspec.structs.asdict(key.limits).items() if limit is not None}
    return {
        "id": key.id,
        "note": key.note,
        "tenant": key.tenant,
        "roles": sorted(key.roles),
        "models": list(key.models),
        "limits": {name: render_money(n) if name.startswith("money_") else n for name, n in limits.items()},
        "state": listed.state(now),
        "origin": "store" if listed.reference is None else "inhouse.yaml",
        "reference": listed.reference,
        "created_at": None if listed.reference is not None else _moment(key.created_at),
        "expires_at": _moment(key.expires_at),
        "revoked_at": _moment(key.revoked_at),
        "rotated_at": _moment(key.rotated_at),
        "old_accepted_until": _moment(key.old_until if key.old_until is not None and key.old_until > now else None),
    }


def _moment(at: float | None) -> str | None:
    return None if at is None else render_moment(at)
