"""What is done to keys, recorded in the audit, by whichever process does it.

An act that cannot be recorded is not done: the audit is tried before. Not here: the acts themselves (`desk`, `keys`).
"""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import msgspec

from inhouse.config import AuditSpec
from inhouse.store.contract import Key
from inhouse.store.stores import Stores
from inhouse.telemetry.record import ActName, Record


class Tell(Protocol):
    def __call__(self, name: ActName, key: Key) -> None:
        """It is done. Raises StateError where it cannot be recorded after all."""


@contextmanager
def recorded(stores: Stores, spec: AuditSpec, *, by: str) -> Iterator[Tell]:
    """For the block that does the act and then tells of it. Raises StateError where nothing could be recorded."""
    if not spec.enabled:
        yield lambda name, key: None
        return
    files = stores.audit_sink(spec)
    try:
        files.append([])

        def tell(name: ActName, key: Key) -> None:
            files.append([msgspec.json.encode(record_of(name, key, by=by, now_s=time.time()))])

        yield tell
    finally:
        files.close()


def record_of(name: ActName, key: Key, *, by: str, now_s: float) -> Record:
    """Names the key by its id; its note, which people write, is left out."""
    facts: dict[str, int | float | str] = {"roles": ",".join(sorted(key.roles))} if key.roles else {}
    if key.expires_at is not None:
        facts["expires"] = round(key.expires_at, 3)
    return Record(time=round(now_s, 3), kind="act", act=name, by=by, tenant=key.tenant, target=key.id, facts=facts)


def command_line_user() -> str:
    """Who uses the command line, as the system knows them: `cli:` and a name or number."""
    uid = os.geteuid()
    try:
        return f"cli:{pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"cli:{uid}"
