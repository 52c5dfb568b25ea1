"""Shapes of the admin API: keys, use and tenants. Times are ISO 8601 in UTC, money is in the stack's currency."""

from __future__ import annotations

from msgspec import Struct, field

from inhouse.wire.decode import RequestDecoder


class KeyRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """A key that is wanted. Its rights are within those of its tenant."""

    note: str = ""
    tenant: str = "default"
    roles: list[str] = field(default_factory=list)
    """Without any, developer."""
    models: list[str] = field(default_factory=list)
    """Models that it may use; without any, all of its tenant's."""
    limits: dict[str, int | float | str] = field(default_factory=dict)
    """By the names of `inhouse.yaml`, such as `tokens_per_day`."""
    expires: str | None = None
    """How long it lives (`30 d`), or until when (`2027-01-31`)."""


class RotateRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """How long the old text is accepted beside the new one, and perhaps a new lifetime from now."""

    grace: str = "15 min"
    expires: str | None = None


class KeyCard(Struct, kw_only=True):
    """A key, without its text or its hash. Models and limits are those in force, inhouse.yaml included."""

    id: str
    note: str
    tenant: str
    roles: list[str]
    models: list[str]
    limits: dict[str, int | float]
    state: str
    """live, revoked or expired."""
    origin: str
    """store or inhouse.yaml."""
    reference: str | None
    """Where the text of a declared key is."""
    created_at: str | None
    expires_at: str | None
    revoked_at: str | None
    rotated_at: str | None
    old_accepted_until: str | None


class NewKey(KeyCard, kw_only=True):
    """A key with its text, which is shown this once."""

    key: str


class KeyList(Struct):
    keys: list[KeyCard]


class UsageLine(Struct, kw_only=True, omit_defaults=True):
    """Sums of use. Of day, tenant, key and model there are those by which it was asked for."""

    day: str | None = None
    tenant: str | None = None
    key: str | None = None
    model: str | None = None
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    money: int | float


class UsageReport(Struct):
    currency: str
    usage: list[UsageLine]


class Standing(Struct):
    """A limit and how much of it is used; `held` is what requests in flight may use beyond."""

    limit: int | float
    used: int | float
    held: int | float


class Sums(Struct):
    requests: int
    tokens: int
    money: int | float


class TenantCard(Struct, kw_only=True):
    """A tenant: what it may use, where it stands, and what it used today and this month (UTC)."""

    tenant: str
    named: bool
    """Whether inhouse.yaml names it; else the `tenant_defaults` hold."""
    weight: int
    priority: str
    models: list[str]
    limits: dict[str, Standing]
    today: Sums
    month: Sums


class TenantList(Struct):
    currency: str
    tenants: list[TenantCard]


parse_key = RequestDecoder(KeyRequest)
parse_rotate = RequestDecoder(RotateRequest)
