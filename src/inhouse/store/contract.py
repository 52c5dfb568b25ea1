"""What every store of keys promises, whatever database is behind it.

Not here: how a key's text is made, or when a key is good enough (that is `tenancy/`). A store keeps records and says
when they changed. Every method may raise `StateError`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Protocol

from inhouse.store.ledger import Limits


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is remembered: never its text. Times are seconds since 1970-01-01 UTC."""

    id: str
    hash: bytes = field(repr=False)
    """SHA-256 of the secret part."""
    note: str
    tenant: str
    roles: frozenset[str]
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    models: tuple[str, ...] = ()
    """Models that it may use; empty is all of its tenant's."""
    limits: Limits = field(default_factory=Limits)
    rotated_at: float | None = None
    old_hash: bytes | None = field(default=None, repr=False)
    """SHA-256 of the secret before the last rotation, which opens until `old_until`."""
    old_until: float | None = None

    def live(self, now: float) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class KeyStore(Protocol):
    """Keys, safe to use from several processes and threads at once."""

    def add(self, key: Key) -> None:
        """Raises `ValueError` where a key of this id exists already."""

    def add_if_none_live(self, key: Key, *, now: float) -> bool:
        """Add it unless a live key exists; of any number of callers at once, one gets True."""

    def by_id(self, key_id: str) -> Key | None: ...

    def list(self) -> tuple[Key, ...]:
        """Every key ever made, revoked and expired ones too, the oldest first."""

    def revoke(self, key_id: str, *, at: float) -> Key | None:
        """The key as it is afterwards; an earlier revocation stands. None: there is no such key."""

    def change(self, key_id: str, work: Callable[[Key], Key]) -> Key | None:
        """Replaces the key by what `work` makes of it, in one step. None: there is no such key.

        What `work` raises is passed on, and nothing has changed. The id stays.
        """

    def version(self) -> Hashable:
        """Equal to the last answer while nobody, in any process, has changed a key. Cheap enough for every second."""

    def close(self) -> None: ...
