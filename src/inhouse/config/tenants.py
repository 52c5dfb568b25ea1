"""The sections of the stack about who may use how much: limits, prices, tenants."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from inhouse.config.fields import Count, MaybeCount, ModelName, Quantity, Section, setting
from inhouse.config.money import MONEY_PATTERN, parse_money_or_none

TENANT_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
CURRENCY_PATTERN = r"^[A-Z]{3}$"
COUNT_MAX = 10**15


def _tenant_name(name: str) -> str:
    if not re.fullmatch(TENANT_NAME_PATTERN, name):
        raise ValueError("not a tenant's name")
    return name


def _currency(code: str) -> str:
    if not re.fullmatch(CURRENCY_PATTERN, code):
        raise ValueError("not a currency: three capital letters")
    return code


TenantName = Annotated[str, AfterValidator(_tenant_name)]
Currency = Annotated[str, AfterValidator(_currency), WithJsonSchema({"type": "string", "pattern": CURRENCY_PATTERN})]
MaybeMoney = Annotated[
    int | None,
    BeforeValidator(parse_money_or_none),
    Quantity("money"),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": MONEY_PATTERN}, {"type": "null"}]}
    ),
]


class LimitsSpec(Section):
    """How much may be used; what is left out is without limit."""

    requests_per_minute: MaybeCount = setting(
        None, "Requests let in within any 60 seconds.", unit="requests", ge=1, le=COUNT_MAX
    )
    tokens_per_minute: MaybeCount = setting(
        None, "Tokens of prompts and answers within any 60 seconds.", unit="tokens", ge=1, le=COUNT_MAX
    )
    tokens_per_day: MaybeCount = setting(
        None, "Tokens of prompts and answers in one day (UTC).", unit="tokens", ge=1, le=COUNT_MAX
    )
    tokens_per_month: MaybeCount = setting(
        None, "Tokens of prompts and answers in one month (UTC).", unit="tokens", ge=1, le=COUNT_MAX
    )
    money_per_day: MaybeMoney = setting(
        None, "Money in one day (UTC), by the prices of the models.", unit="currency", example=5
    )
    money_per_month: MaybeMoney = setting(
        None, "Money in one month (UTC), by the prices of the models.", unit="currency", example=99.5
    )
    concurrent_requests: MaybeCount = setting(
        None, "Requests that may run or wait at once.", unit="requests", ge=1, le=COUNT_MAX
    )


class PriceSpec(Section):
    """What a million tokens cost, in the stack's currency; nothing where it is left out."""

    input: MaybeMoney = setting(None, "Price of a million prompt tokens.", unit="currency", example=0.15)
    cached_input: MaybeMoney = setting(
        None,
        "Price of a million prompt tokens that came from the prefix cache; without it, that of `input`.",
        unit="currency",
        example=0.05,
    )
    output: MaybeMoney = setting(None, "Price of a million tokens of answers.", unit="currency", example=0.6)


class TenantSpec(Section):
    """One tenant: its share, what it may use and how much of it."""

    weight: Count = setting(
        1, "Its share when tenants wait: twice the weight, twice the tokens.", unit="shares", ge=1, le=1000
    )
    priority: Literal["interactive", "standard", "batch"] = setting(
        "standard", "The class of its requests; a higher one goes first."
    )
    models: list[ModelName] = setting([], "Models that it may use; without any, all of them.", example=["chat"])
    data_may_leave: bool = setting(False, "Whether its requests may go to models that are `external`.")
    limits: LimitsSpec = Field(default_factory=LimitsSpec, description="How much all of its keys may use together.")


class TenantDefaults(TenantSpec):
    """What holds for each tenant that `tenants` does not name."""
