"""The effective stack as a file that would describe it again, each value with the place that it came from."""

from __future__ import annotations

from typing import Any

import yaml

from inhouse.config.catalog import ANY_MODEL, Setting, settings
from inhouse.config.document import Place
from inhouse.config.read import Reading
from inhouse.config.stack import Section


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


def _leaves(reading: Reading) -> list[tuple[tuple[str, ...], Setting]]:
    per_model = [setting for setting in settings() if ANY_MODEL in setting.path]
    leaves = [
        (tuple(model if part == ANY_MODEL else part for part in setting.path), setting)
        for model in reading.stack.models
        for setting in per_model
    ]
    return leaves + [(setting.path, setting) for setting in settings() if ANY_MODEL not in setting.path]


def _value(section: Section, path: tuple[str, ...]) -> Any:
    value: Any = section
    for part in path:
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    return value


def _scalar(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=100_000, allow_unicode=True)
    return text.removesuffix("...\n").strip()
