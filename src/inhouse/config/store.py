"""The section of the stack about where state is: by itself in the state folder, or shared by many gateways."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from inhouse.config.fields import Count, Duration, Section, contradiction, setting
from inhouse.config.fleet import SecretReference
from inhouse.config.redis import RedisPlace

_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:/[^\0]+")


def _url(text: str | None, schemes: tuple[str, ...]) -> str | None:
    if text is None or _REFERENCE.fullmatch(text):
        return text
    form = f"not an address such as {schemes[0]}://10.0.0.5/0, or a reference to one that has a password: env: or file:"
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError(form) from None
    if parts.scheme not in schemes or parts.password is not None or not parts.netloc:
        raise ValueError(form)  # the value is not shown: it may hold a password
    return text


PostgresUrlText = Annotated[str | None, AfterValidator(lambda text: _url(text, ("postgresql", "postgres")))]


class RedisSpec(RedisPlace):
    """Redis or Valkey, for what many gateways must agree on at once: limits, and answers that are kept."""

    timeout: Duration = setting(
        0.5, "How long it may take to connect and to answer before it counts as away.", unit="seconds", gt=0, le=10
    )
    prefix: str = setting("inhouse", "First part of all its keys.", pattern=r"^[A-Za-z0-9._-]{1,32}$")

    @property
    def is_set(self) -> bool:
        return self.url is not None


class PostgresSpec(Section):
    """PostgreSQL, for what must last: keys, use, the audit, routes as they were set by hand."""

    url: PostgresUrlText = setting(
        None, "Where it is; with a password in it, a reference: `env:` or `file:`.", example="env:POSTGRES_URL"
    )
    password: SecretReference = setting(
        None, "Where the password is, if the URL has none.", example="file:/run/secrets/postgres"
    )
    ca_file: Path | None = setting(
        None, "Authorities that vouch for it: TLS becomes a must, with its name checked.", example="./ca.pem"
    )
    timeout: Duration = setting(
        3.0, "How long it may take to answer before it counts as away.", unit="seconds", gt=0, le=60
    )

    @property
    def is_set(self) -> bool:
        return self.url is not None


class AwaySpec(Section):
    """What becomes of requests while Redis or PostgreSQL is away."""

    quotas: Literal["fail_closed", "fail_open"] = setting(
        "fail_closed",
        "A request that has limits: told 503, or let in without a look at them, its use counted all the same.",
    )
    known_keys: Duration = setting(
        3600.0, "How long keys that were known are still accepted; others are told 503 at once.", unit="seconds"
    )
    usage_rows_max: Count = setting(
        100_000, "Sums of use kept in memory until they can be written; beyond it, keys are summed up as one.",
        unit="rows", ge=1000, le=10_000_000,
    )  # fmt: skip


class StoreSpec(Section):
    """Where state is; without anything here, in the state folder, for the gateways of one machine."""

    redis: RedisSpec = Field(default_factory=RedisSpec, description="Redis or Valkey, shared by all gateways.")
    postgres: PostgresSpec = Field(default_factory=PostgresSpec, description="PostgreSQL, shared by all gateways.")
    lease: Duration = setting(
        10.0,
        "How long a gateway that is silent keeps its parts of limits; then they are charged, and its places are free.",
        unit="seconds", ge=1, le=600,
    )  # fmt: skip
    away: AwaySpec = Field(default_factory=AwaySpec, description="What happens while one of them is away.")

    @model_validator(mode="after")
    def _places_are_whole(self) -> Self:
        for name, place in (("redis", self.redis), ("postgres", self.postgres)):
            given = {"password": place.password, "ca_file": place.ca_file}
            lonely = next((key for key, value in given.items() if value is not None), None)
            if lonely is not None and not place.is_set:
                raise contradiction(
                    (name, lonely),
                    f"`store.{name}` lacks `url`",
                    "expected form: redis://10.0.0.5:6379/0 or postgresql://10.0.0.5/inhouse, or env: and a variable",
                )
        return self
