"""A key as a row of a database, and back. The columns have the names of `Key`'s fields."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from inhouse.errors import StateError
from inhouse.store.contract import Key
from inhouse.store.ledger import Limits

NAMES = (
    "id",
    "hash",
    "note",
    "tenant",
    "roles",
    "created_at",
    "expires_at",
    "revoked_at",
    "models",
    "limits",
    "rotated_at",
    "old_hash",
    "old_until",
)
COLUMNS = ", ".join(NAMES)
_decode_limits = msgspec.json.Decoder(Limits).decode


def row_of(key: Key) -> tuple[Any, ...]:
    limits = {name: limit for name, limit in msgspec.structs.asdict(key.limits).items() if limit is not None}
    texts = {
        "roles": json.dumps(sorted(key.roles)),
        "models": json.dumps(key.models),
        "limits": json.dumps(limits),
    }
    return tuple(texts.get(name, getattr(key, name)) for name in NAMES)


def key_of(row: Sequence[Any], where: object) -> Key:
    """Raises `StateError` for a row that somebody damaged; `where` says in what."""
    record = dict(zip(NAMES, row, strict=True))
    try:
        record["hash"] = bytes(record["hash"])
        record["roles"] = frozenset(json.loads(record["roles"]))
        record["models"] = tuple(json.loads(record["models"]))
        record["limits"] = _decode_limits(record["limits"])
        record["old_hash"] = None if record["old_hash"] is None else bytes(record["old_hash"])
    except (TypeError, ValueError) as error:
        raise StateError(
            f"the key '{record['id']}' in {where} is damaged; revoke it with "
            f"`inhouse keys revoke {record['id']}`, or restore it from a backup"
        ) from error
    return Key(**record)
