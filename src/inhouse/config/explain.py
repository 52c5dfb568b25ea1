"""From a validation error to what a person is told: the key, its value, the expected form, the nearest known key."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from pydantic_core import ErrorDetails

from inhouse.config.catalog import Setting, find, generic, sections, settings

Path = tuple[str | int, ...]

_NAMES = {
    "models": ("a model", "1 to 128 of letters, digits and . _ : / - and no / in front, such as gemma-3-1b"),
    "routes": ("a route", "a model's name as clients send it, such as chat"),
    "tenants": ("a tenant", "1 to 64 of letters, digits and . _ - and a letter or digit in front, such as acme"),
    "keys": ("a key", "a name of 1 to 128 letters, digits and . _ : @ -, or a key's id from `inhouse keys list`"),
}


_FORMS: dict[Path, str] = {
    ("models",): "a name for each model, with its keys below: {chat: {source: demo}}",
    ("routes",): "a name for each route, with its keys below: {chat: {fallback: [small]}}",
    ("tenants",): "a name for each tenant, with its keys below: {acme: {weight: 2}}",
    ("keys",): "the name or id of each key, with its keys below: {ci: {from_env: CI_KEY}}",
}


_MAY_BE_SECRET = {"keys": ("hash", "from_env"), "models": ("api_key",)}
"""Settings into which somebody might paste a key; what stands there is not repeated."""


def path_of(error: ErrorDetails) -> Path:
    """Where the mistake is, from the top of the stack."""
    path = tuple(part for part in error["loc"] if part != "[key]")
    return (*path, *error.get("ctx", {}).get("at", ()))


def explain(error: ErrorDetails) -> tuple[str, str | None]:
    """Message and hint for one error of pydantic's."""
    path = path_of(error)
    if error["type"] == "contradiction":
        return error["msg"], error["ctx"]["hint"]
    if error["type"] == "extra_forbidden":
        return _unknown(path)
    if error["type"] == "missing":
        return _missing(path)
    if error["loc"][-1:] == ("[key]",):
        what, form = _NAMES[str(path[0])]
        return f"{path[-1]!r} cannot name {what}", f"expected form: {form}"
    setting = find(path)
    if setting is None:
        return f"`{dotted(path)}` is not a mapping", f"expected form: {_section_form(path)}"
    value = "wrong" if setting.path[-1] in _MAY_BE_SECRET.get(setting.path[0], ()) else shown(error["input"])
    return f"`{dotted(path)}` is {value}: {_reason(error, setting)}", _expected(setting)


def dotted(path: Path) -> str:
    """`models.chat.engine_args[0]`"""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def shown(value: Any) -> str:
    """A value as it stands in a file, shortened."""
    text = (
        {True: "true", False: "false", None: "empty"}[value]
        if value is None or isinstance(value, bool)
        else repr(value)
    )
    return text if len(text) <= 80 else text[:77] + "…"


def _unknown(path: Path) -> tuple[str, str]:
    key, section = str(path[-1]), path[:-1]
    known = list(sections()[generic(section)].model_fields)
    place = f" in `{dotted(section)}`" if section else ""
    message = f"unknown key `{key}`{place}"
    near = get_close_matches(key.lower().replace("-", "_"), known, n=1, cutoff=0.6)
    if near:
        setting = find((*section, near[0]))
        return message, f"did you mean `{near[0]}`?" + (f" expected form: {setting.form}" if setting else "")
    elsewhere = [setting for setting in settings() if setting.path[-1] == key]
    if elsewhere:
        return message, f"`{key}` belongs to `{elsewhere[0].dotted.rpartition('.')[0] or 'the top'}`"
    return message, f"known keys: {', '.join(known)}"


def _missing(path: Path) -> tuple[str, str | None]:
    setting = find(path)
    return f"`{dotted(path[:-1])}` lacks `{path[-1]}`", _expected(setting) if setting else None


def _reason(error: ErrorDetails, setting: Setting) -> str:
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    if error["type"] in ("greater_than", "greater_than_equal"):
        return "too small"
    if error["type"] == "too_short":
        return "empty" if not error["input"] else "too short"
    if error["type"] == "too_long":
        return "too long"
    if error["type"] in ("less_than", "less_than_equal"):
        return "too large"
    return {
        "number": "not a whole number",
        "switch": "neither true nor false",
        "choice": "not one of the choices",
        "list": "not a list" if len(error["loc"]) == len(setting.path) else "not text (put it in quotes)",
        "text": "not text" if error["type"] == "string_type" else "too short",
        "path": "not a path",
    }.get(setting.kind, error["msg"])


def _expected(setting: Setting) -> str:
    given = "" if setting.required or setting.default in (None, []) else f" (default {setting.render(setting.default)})"
    if setting.kind == "switch":
        given = f" (default {str(setting.default).lower()})"
    if setting.kind == "choice" and len(setting.choices) > 1:
        return f"expected {setting.form}{given}"
    return f"expected form: {setting.form}{given}"


def _section_form(path: Path) -> str:
    if path in _FORMS:
        return _FORMS[path]
    section = sections().get(generic(path))
    keys = list(section.model_fields) if section else []
    return f"keys and values, such as {{{keys[0]}: …}}; known keys: {', '.join(keys)}" if keys else "keys and values"
