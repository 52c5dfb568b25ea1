"""The form in which a request that is over is kept for `inhouse explain`."""

from __future__ import annotations

import msgspec

from inhouse.core import Usage
from inhouse.telemetry.entry import Entry, FactName
from inhouse.telemetry.story import Step


class Kept(msgspec.Struct, array_like=True):
    """What an explanation is made of, in the order in which `recent.kept_of` writes it; `id` stays the first."""

    id: str
    api: str
    model: str
    tenant: str
    key_id: str
    status: int
    code: str
    failed: bool
    place: int
    arrived_s: float
    waited_s: float
    first_token_s: float | None
    ended_s: float
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    money: int
    facts: dict[FactName, int | float | str] | None
    steps: list[Step]


decode = msgspec.msgpack.Decoder(Kept).decode
encode = msgspec.msgpack.Encoder().encode


def entry_of(data: bytes) -> Entry:
    """As it was, but for what no explanation tells."""
    kept = decode(data)
    entry = Entry(kept.id, kept.api, kept.arrived_s)
    entry.model, entry.tenant, entry.key_id = kept.model, kept.tenant, kept.key_id
    entry.status, entry.code, entry.failed, entry.place = kept.status, kept.code, kept.failed, kept.place
    entry.waited_s, entry.first_token_s, entry.ended_s = kept.waited_s, kept.first_token_s, kept.ended_s
    entry.usage = Usage(kept.prompt_tokens, kept.completion_tokens, kept.cached_tokens)
    entry.money, entry.facts, entry.steps = kept.money, kept.facts, kept.steps
    return entry
