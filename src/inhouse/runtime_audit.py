"""The audit of one process, from its first act to its last: `runtime` wires it in, here it is put together."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator

from inhouse import __version__
from inhouse.config import Stack
from inhouse.store.stores import Stores
from inhouse.telemetry.audit import Audit
from inhouse.telemetry.log import Log


@contextlib.contextmanager
def auditing(stack: Stack, stores: Stores, log: Log) -> Iterator[Audit]:
    """Records the start, and at the end of the block the end; then all is written. Raises StateError at the start."""
    spec = stack.audit

    def tell(reason: str) -> None:
        if reason:
            log.event("error", "audit cannot be written", reason=reason, on_failure=spec.on_failure)
        else:
            log.event("info", "audit is written again")

    with contextlib.ExitStack() as exits:
        files = None
        if spec.enabled:
            files = stores.audit_sink(spec)
            exits.callback(files.close)
            files.append([])  # what cannot be written from the beginning is a mistake to be told at once
        refuse = spec.on_failure == "refuse"
        audit = Audit(files, pending_max=spec.pending_max, refuse=refuse, tell=tell, clock=time.monotonic)
        exits.callback(audit.close)
        audit.act("gateway.started", facts={"version": __version__, "models": len(stack.models)})
        audit.act("stack.loaded", digest=digest_of(stack))
        exits.callback(audit.act, "gateway.stopped")
        yield audit


def digest_of(stack: Stack) -> str:
    """SHA-256, in hex, of all settings in force: the same for the same settings, wherever they came from."""
    return hashlib.sha256(stack.model_dump_json().encode()).hexdigest()
