"""`INHOUSE_*` variables as settings: `INHOUSE_GATEWAY__PORT=9000`, `INHOUSE_MODELS__CHAT__SLOTS=2`.

An empty value counts as not set. A list is `[a, b]` or words with spaces between. A model, tenant or key is found by
its name in capitals with `_` for everything that is no letter or digit; a name that none has makes a new one, in small
letters.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

import yaml

from inhouse.config.catalog import ANY_NAME, Setting, find, named, settings
from inhouse.config.problems import Problem

PREFIX = "INHOUSE_"
RESERVED: dict[str, str] = {
    "INHOUSE_CONFIG": "the file to read, when `--config` does not name one",
    "INHOUSE_CACHE": "the folder of what `inhouse engine build` compiles, in place of `$XDG_CACHE_HOME/inhouse`",
    "INHOUSE_ENGINE_FOLDER": "the folder of a llama-server and its `build.json`: used in place of builds of one's own",
    "INHOUSE_API_KEY": "the key that `inhouse chat` and `inhouse models` present",
    "INHOUSE_BASE_URL": "the gateway that `inhouse chat` and `inhouse models` speak to",
}
"""Variables that are no settings of the stack."""

# Kubernetes puts these into every pod for a Service that is called inhouse or inhouse-…
_SERVICE_LINK = re.compile(
    r"INHOUSE_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_PORT = re.compile(r"INHOUSE_([A-Z0-9_]+_)?PORT")
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://")


def from_environment(
    environ: Mapping[str, str], names: Mapping[str, Iterable[str]], problems: list[Problem]
) -> Iterator[tuple[tuple[str, ...], Any, str]]:
    """The path, value and name of each variable that sets something; mistakes go to `problems`.

    `names`: the models, tenants and keys that the file has, by section.
    """
    known = {section: list(names.get(section, ())) for section in named()}
    for name in sorted(environ):
        value = environ[name]
        if not name.startswith(PREFIX) or not value or name in RESERVED or _is_service_link(name, value):
            continue
        found = _setting_of(name, known)
        if isinstance(found, Problem):
            problems.append(found)
            continue
        path, setting = found
        if path[0] in known and path[1] not in known[path[0]]:
            known[path[0]].append(path[1])
        try:
            yield path, _value(value, setting), name
        except ValueError as error:
            problems.append(Problem(f"not a list: {error}", name, f"expected form: {setting.form}"))


def variable(path: tuple[str, ...]) -> str:
    """The variable that sets `path`."""
    return PREFIX + "__".join(re.sub(r"[^A-Z0-9]", "_", part.upper()) for part in path)


def _is_service_link(name: str, value: str) -> bool:
    if _SERVICE_PORT.fullmatch(name):
        return _SERVICE_URL.match(value) is not None
    return _SERVICE_LINK.fullmatch(name) is not None


def _setting_of(name: str, known: dict[str, list[str]]) -> tuple[tuple[str, ...], Setting] | Problem:
    parts = tuple(name.removeprefix(PREFIX).lower().split("__"))
    if len(parts) >= 3 and parts[0] in known and parts[1]:
        same = [one for one in known[parts[0]] if variable((one,)) == variable((parts[1],))]
        if len(same) > 1:
            message = f"could mean the {parts[0]} {' and '.join(same)}"
            return Problem(message, name, "set this one in the file instead")
        parts = (parts[0], same[0] if same else parts[1], *parts[2:])
    setting = find(parts)
    if setting is not None and len(parts) == len(setting.path):
        return parts, setting
    candidates = [variable(path) for path in _paths(known)]
    near = _nearest(name, [*candidates, *RESERVED])
    hint = f"did you mean `{near}`?" if near else "`inhouse config schema` lists every setting"
    if parts[0] in {path[0] for path in _paths(known)} and len(parts) < 3:
        inside = [candidate for candidate in candidates if candidate.startswith(f"{name}__")]
        if inside:
            return Problem(
                f"`{name}` is a section",
                name,
                f"set one of its keys: {', '.join(inside[:3])}{', …' if len(inside) > 3 else ''}",
            )
    return Problem(f"no setting is called `{name}`", name, hint)


def _nearest(name: str, known: list[str]) -> str | None:
    # the prefix is common to all and would make everything look alike
    near = get_close_matches(
        name.removeprefix(PREFIX), [other.removeprefix(PREFIX) for other in known], n=1, cutoff=0.6
    )
    return PREFIX + near[0] if near else None


def _paths(known: dict[str, list[str]]) -> Iterator[tuple[str, ...]]:
    for setting in settings():
        if ANY_NAME in setting.path:
            for name in known[setting.path[0]] or ["NAME"]:
                yield tuple(name if part == ANY_NAME else part for part in setting.path)
        else:
            yield setting.path


def _value(text: str, setting: Setting) -> Any:
    if setting.kind == "number" and re.fullmatch(r"\s*[+-]?\d+\s*", text):
        return int(text)
    if setting.kind != "list":
        return text
    if not text.lstrip().startswith("["):
        return shlex.split(text)
    try:
        return yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506  every item as written, no objects made
    except yaml.YAMLError as error:
        raise ValueError(getattr(error, "problem", None) or "brackets do not match") from error
