"""What every section of the stack is made of: kinds of values, and the field with its sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from inhouse.config.units import (
    DURATION_PATTERN,
    PERCENT_PATTERN,
    SIZE_PATTERN,
    parse_duration,
    parse_percent,
    parse_size,
)

MODEL_NAME_PATTERN = r"^[A-Za-z0-9._:-][A-Za-z0-9._:/-]{0,127}$"


@dataclass(frozen=True, slots=True)
class Quantity:
    """Marks a field that people write with a unit."""

    kind: Literal["size", "duration", "money", "percent"]


def _whole(value: object) -> object:
    # pydantic would take true for 1 and 4.0 for 4
    if isinstance(value, bool | float):
        raise ValueError("not a whole number")
    return value


def _model_name(name: str) -> str:
    if not re.fullmatch(MODEL_NAME_PATTERN, name):
        raise ValueError("not a model name")
    return name


Count = Annotated[int, BeforeValidator(_whole)]
MaybeCount = Annotated[int | None, BeforeValidator(_whole)]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    Quantity("size"),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": SIZE_PATTERN}]}),
]
Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    Quantity("duration"),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": DURATION_PATTERN}]}),
]
MaybeSize = Annotated[
    int | None,
    BeforeValidator(lambda value: None if value is None else parse_size(value)),
    Quantity("size"),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": SIZE_PATTERN}, {"type": "null"}]}
    ),
]
MaybeDuration = Annotated[
    float | None,
    BeforeValidator(lambda value: None if value is None else parse_duration(value)),
    Quantity("duration"),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": DURATION_PATTERN}, {"type": "null"}]}
    ),
]
Percent = Annotated[
    float,
    BeforeValidator(parse_percent),
    Quantity("percent"),
    WithJsonSchema({"type": "string", "pattern": PERCENT_PATTERN}),
]
ModelName = Annotated[str, AfterValidator(_model_name)]
MaybeModelName = Annotated[str | None, AfterValidator(lambda name: None if name is None else _model_name(name))]


def setting(default: Any, sentence: str, *, unit: str = "", example: object = None, **limits: Any) -> Any:
    """A field: default (`...` when it must be given), sentence, unit, an example where the default shows no form."""
    extra: dict[str, Any] = {"x-unit": unit} if unit else {}
    if example is not None:
        extra["examples"] = [example]
    return Field(default, description=sentence, json_schema_extra=extra or None, **limits)


def choice_of(name: str, known: Iterable[str]) -> str:
    """The way out for a name that is not among those known: the nearest, or all of them."""
    names = list(known)
    near = get_close_matches(name.lower(), names, n=1)
    return f"did you mean `{near[0]}`?" if near else f"known are: {', '.join(names)}"


def contradiction(at: tuple[str | int, ...], message: str, hint: str) -> PydanticCustomError:
    """Two values that are fine alone and not together; `at` is the key to point at, from this section down."""
    return PydanticCustomError("contradiction", "{message}", {"message": message, "at": at, "hint": hint})


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
