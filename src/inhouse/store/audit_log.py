"""The audit as somebody reads it, wherever it lies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from inhouse.store import audit_read
from inhouse.store.audit_chain import Head
from inhouse.store.audit_read import Verdict


class AuditLog(Protocol):
    """Every method may raise StateError."""

    def newest(self, *, before: int | None = None) -> Iterator[bytes]: ...

    def oldest(self) -> Iterator[bytes]: ...

    def verify(self, *, noted: Head | None = None) -> Verdict: ...

    def close(self) -> None: ...


class AuditSink(Protocol):
    """Where records are written, all of a call or none. Every method may raise StateError."""

    def append(self, bodies: Sequence[bytes]) -> Head: ...

    def close(self) -> None: ...


class AuditOfFolder:
    """An `AuditLog`: the files of a state folder (`audit_read`)."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir

    def newest(self, *, before: int | None = None) -> Iterator[bytes]:
        return audit_read.newest(self._state_dir, before=before)

    def oldest(self) -> Iterator[bytes]:
        return audit_read.oldest(self._state_dir)

    def verify(self, *, noted: Head | None = None) -> Verdict:
        return audit_read.verify(self._state_dir, noted=noted)

    def close(self) -> None:
        """Nothing stays open."""
