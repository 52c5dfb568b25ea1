"""The effective stack as a file that would describe it again, each value with the place that it came from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from inhouse.config.catalog import ANY_NAME, Setting, find, settings
from inhouse.config.document import Place
from inhouse.config.fields import Section
from inhouse.config.read import Reading
from inhouse.config.stack import Stack


def render(reading: Reading) -> str:
    """YAML in canonical units; a comment per value: `file:line`, a variable, a flag or `default`."""
    rows: list[tuple[str, str]] = []
    open_sections: Place = ()
    for path, setting in _leaves(reading):
        for depth in range(len(path) - 1):
            if open_sections[: depth + 1] != path[: depth + 1]:
                rows.append((f"{'  ' * depth}{_scalar(path[depth])}:", ""))
                open_sections = path[: depth + 1]
        value = setting.render(_value(reading.stack, path))
        rows.append((f"{'  ' * (len(path) - 1)}{path[-1]}: {_scalar(value)}", reading.origins.get(path, "default")))
    width = max(len(text) for text, _ in rows if len(text) <= 48)
    return "".join(f"{text:<{width}}  # {origin}\n" if origin else f"{text}\n" for text, origin in rows)


def written(tree: dict[str, Any]) -> str:
    """A part of a stack, as `model_dump` gives it, as a file that describes it: in canonical units, without places."""
    return yaml.safe_dump(_in_units(tree, ()), sort_keys=False, allow_unicode=True, width=100)


def _in_units(value: Any, path: tuple[str | int, ...]) -> Any:
    if isinstance(value, dict):
        return {str(name): _in_units(inner, (*path, name)) for name, inner in value.items()}
    setting = find(path)
    return value if setting is None else setting.render(value)


def _leaves(reading: Reading) -> list[tuple[tuple[str, ...], Setting]]:
    """Limits and prices that are not set are left out: there are many of them."""
    ordered = sorted(settings(), key=lambda setting: ANY_NAME not in setting.path)  # those with names first
    return [
        (path, setting)
        for path, setting in _named(reading.stack, (), [(setting.path, setting) for setting in ordered])
        if path[-2:-1] not in (("limits",), ("price",)) or _value(reading.stack, path) is not None
    ]


def _named(
    stack: Stack, above: tuple[str, ...], inside: list[tuple[tuple[str, ...], Setting]]
) -> Iterator[tuple[tuple[str, ...], Setting]]:
    """The settings below `above` with the names that there are, all of one name together."""
    done = set()
    for path, setting in inside:
        if ANY_NAME not in path:
            yield (*above, *path), setting
            continue
        at = path.index(ANY_NAME)
        head = path[:at]
        if head in done:
            continue
        done.add(head)
        group = [(other[at + 1 :], one) for other, one in inside if other[: at + 1] == (*head, ANY_NAME)]
        for name in _value(stack, (*above, *head)):
            yield from _named(stack, (*above, *head, name), group)


def _value(section: Section, path: tuple[str, ...]) -> Any:
    value: Any = section
    for part in path:
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    return value


def _scalar(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=100_000, allow_unicode=True)
    return text.removesuffix("...\n").strip()
