"""What somebody wants of a key, checked as a whole before one is made: the same rules for the command and the API.

Not here: how a key is made (`keys`) and what its limits do (`limits`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches

from inhouse.config import LimitsSpec, parse_moment
from inhouse.config.fields import MODEL_NAME_PATTERN
from inhouse.config.money import parse_money
from inhouse.config.tenants import COUNT_MAX, TENANT_NAME_PATTERN
from inhouse.config.units import parse_duration
from inhouse.errors import BadRequest
from inhouse.store.ledger import Limits
from inhouse.tenancy import roles as role_table
from inhouse.tenancy.keys import Rights

MODELS_MAX = 1000


def rights(
    *,
    tenant: str,
    roles: Iterable[str],
    models: Collection[str],
    limits: Mapping[str, object],
    known_models: Collection[str] | None,
) -> Rights:
    """Raises `BadRequest`, whose `param` is the argument that cannot be. `known_models` of None: any name will do."""
    if not re.fullmatch(TENANT_NAME_PATTERN, tenant):
        raise BadRequest(
            "a tenant's name is 1 to 64 letters, digits and . _ - and begins with a letter or digit", param="tenant"
        )
    return Rights(tenant, role_table.checked(roles), _models(models, known_models), _limits(limits))


def lifetime_s(text: str, *, now: float) -> float:
    """Seconds of `30 d` or until `2027-01-31`. Raises `BadRequest`."""
    try:
        seconds = parse_duration(text)
    except ValueError as as_duration:
        try:
            seconds = parse_moment(text) - now
        except ValueError:
            raise BadRequest(
                f"{text[:64]!r} is no lifetime: {as_duration}; such as '30 d', '12 h' or '2027-01-31'", param="expires"
            ) from None
    if seconds <= 0:
        raise BadRequest(f"{text[:64]!r} is no lifetime: a key has to live for some time", param="expires")
    return seconds


def grace_s(text: str) -> float:
    """Seconds of `1 h`. Raises `BadRequest`."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise BadRequest(f"{text[:64]!r} is no time: {error}; such as '1 h' or '0 s'", param="grace") from None


def _models(models: Collection[str], known: Collection[str] | None) -> tuple[str, ...]:
    if len(models) > MODELS_MAX:
        raise BadRequest(f"a key can name {MODELS_MAX} models; with none it may use all", param="models")
    for model in models:
        if not re.fullmatch(MODEL_NAME_PATTERN, model):
            raise BadRequest(f"{model[:64]!r} cannot name a model", param="models")
        if known is not None and model not in known:
            near = get_close_matches(model, known, n=1)
            way_out = f"did you mean '{near[0]}'?" if near else f"its models: {', '.join(known)}"
            raise BadRequest(f"'{model}' is no model of this stack; {way_out}", param="models")
    return tuple(dict.fromkeys(models))


def _limits(given: Mapping[str, object]) -> Limits:
    found: dict[str, int] = {}
    for name, value in given.items():
        if name not in LimitsSpec.model_fields:
            near = get_close_matches(name.replace("-", "_"), LimitsSpec.model_fields, n=1)
            way_out = f"did you mean '{near[0]}'?" if near else f"the limits are {', '.join(LimitsSpec.model_fields)}"
            raise BadRequest(f"there is no limit '{name[:64]}'; {way_out}", param="limits")
        try:
            found[name] = parse_money(value) if name.startswith("money_") else _count(value)
        except ValueError as error:
            raise BadRequest(f"the limit '{name}' cannot be {str(value)[:64]!r}: {error}", param="limits") from None
    return Limits(**found)


def _count(value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"\d{1,16}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= COUNT_MAX:
        raise ValueError(f"not a whole number from 1 to {COUNT_MAX}")
    return value
