"""Every setting of a stack as a row: path, kind, unit, default, limits, sentence.

Read off the types in `stack.py`, so that messages, environment, JSON Schema, reference page and `config show` can only
say what is true.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from inhouse.config.fields import Quantity, Section
from inhouse.config.money import render_money
from inhouse.config.sources import SOURCE_FORMS
from inhouse.config.stack import Stack
from inhouse.config.units import render_duration, render_percent, render_size

Kind = Literal["text", "number", "switch", "choice", "size", "duration", "money", "percent", "path", "list"]

ANY_NAME = "*"
"""Stands for the name of a model, a tenant or a key in a setting's path."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. Bounds are inclusive, the lower one unless `above_low`. `default` is None where `required`."""

    path: tuple[str, ...]
    kind: Kind
    sentence: str
    unit: str
    default: Any
    required: bool
    low: float | None
    above_low: bool
    high: float | None
    choices: tuple[str, ...]
    example: Any

    @property
    def dotted(self) -> str:
        return ".".join("NAME" if part == ANY_NAME else part for part in self.path)

    def render(self, value: Any) -> Any:
        """A value as one would write it in the file: `8 MiB` for bytes, text for paths."""
        if value is None:
            return None
        if self.kind == "size":
            return render_size(value)
        if self.kind == "duration":
            return render_duration(value)
        if self.kind == "money":
            return render_money(value)
        if self.kind == "percent":
            return render_percent(value)
        return str(value) if isinstance(value, Path) else value

    @property
    def form(self) -> str:
        """What may be written, in words: `a size such as 8 MiB, 1 KiB or more`."""
        words = {
            "text": "text",
            "number": "a whole number",
            "switch": "true or false",
            "choice": "one of " + ", ".join(self.choices) if len(self.choices) > 1 else "".join(self.choices),
            "size": "a size such as 8 MiB",
            "duration": "a duration such as 30 s, 500 ms or 2 min",
            "money": "an amount such as 0.15",
            "percent": "a part such as 10%",
            "path": "a path",
            "list": "a list such as [a, b]",
        }[self.kind]
        if self.path[-1] == "source":
            words = SOURCE_FORMS
        low = None if self.low is None else self._bound(self.low)
        if low is not None and self.high is not None:
            return f"{words} from {low} to {self._bound(self.high)}"
        if low is not None:
            return f"{words}, more than {low}" if self.above_low else f"{words}, {low} or more"
        return words

    def _bound(self, bound: float) -> str:
        return str(self.render(bound)) if self.kind in ("size", "duration", "money", "percent") else f"{bound:d}"


@cache
def settings() -> tuple[Setting, ...]:
    """All settings, in the order of the types."""
    return tuple(_walk(Stack, ()))


@cache
def sections() -> dict[tuple[str, ...], type[Section]]:
    """The sections by path, the top `()` and each model `("models", "*")` among them."""
    return dict(_sections(Stack, ()))


@cache
def named() -> tuple[str, ...]:
    """The keys at the top under which each entry has a name of its own."""
    return tuple(path[0] for path in sections() if path[1:] == (ANY_NAME,))


def generic(path: tuple[str | int, ...]) -> tuple[str, ...]:
    """The path with the name of a model, tenant or key left open, and that of a pool inside a model."""
    found: tuple[str, ...] = ()
    for part in path:
        found = (*found, ANY_NAME if (*found, ANY_NAME) in sections() else str(part))
    return found


def find(path: tuple[str | int, ...]) -> Setting | None:
    """The setting that holds `path`; None for a section or a key that does not exist."""
    looked_for = generic(path)
    return next((setting for setting in settings() if looked_for[: len(setting.path)] == setting.path), None)


def _sections(section: type[Section], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], type[Section]]]:
    yield path, section
    for name, info in section.model_fields.items():
        inner = _section_of(info)
        if inner is not None:
            yield from _sections(inner, _below(path, name, info))


def _walk(section: type[Section], prefix: tuple[str, ...]) -> Iterator[Setting]:
    for name, info in section.model_fields.items():
        inner = _section_of(info)
        if inner is not None:
            yield from _walk(inner, _below(prefix, name, info))
        else:
            yield _setting((*prefix, name), info)


def _below(path: tuple[str, ...], name: str, info: FieldInfo) -> tuple[str, ...]:
    return (*path, name, ANY_NAME) if get_origin(info.annotation) is dict else (*path, name)


def _section_of(info: FieldInfo) -> type[Section] | None:
    annotation: Any = info.annotation
    if get_origin(annotation) is dict:
        annotation = get_args(annotation)[1]
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None


def _setting(path: tuple[str, ...], info: FieldInfo) -> Setting:
    extra: dict[str, Any] = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    limits = [bound for bound in info.metadata if isinstance(bound, Ge | Gt | Le)]
    low: Any = next(
        (bound.gt if isinstance(bound, Gt) else bound.ge for bound in limits if not isinstance(bound, Le)), None
    )
    high: Any = next((bound.le for bound in limits if isinstance(bound, Le)), None)
    annotation = _without_none(info.annotation)
    required = info.default is PydanticUndefined
    return Setting(
        path=path,
        kind=_kind(annotation, info),
        sentence=info.description or "",
        unit=str(extra.get("x-unit", "")),
        default=None if required else info.default,
        required=required,
        low=low,
        above_low=any(isinstance(bound, Gt) for bound in limits),
        high=high,
        choices=tuple(get_args(annotation)) if get_origin(annotation) is Literal else (),
        example=next(iter(extra.get("examples", [])), None),
    )


def _kind(annotation: Any, info: FieldInfo) -> Kind:
    for mark in info.metadata:
        if isinstance(mark, Quantity):
            return mark.kind
    if get_origin(annotation) is Literal:
        return "choice"
    if get_origin(annotation) is list:
        return "list"
    kinds: dict[Any, Kind] = {bool: "switch", int: "number", Path: "path", str: "text"}
    return kinds[annotation]


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, types.UnionType):
        (annotation,) = (arg for arg in get_args(annotation) if arg is not type(None))
    return annotation
