"""Reading a stack: file, then environment, then flags; the later wins. Remembers where each value came from.

A flag is named by its path with dots (`gateway.port`, `models.*.slots` for every model, `models` to replace them all).
All mistakes are told together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from inhouse.config.catalog import ANY_NAME, named, sections, settings
from inhouse.config.document import Document, Place, read_document
from inhouse.config.environment import from_environment
from inhouse.config.explain import dotted, explain, path_of
from inhouse.config.problems import NO_LINE, Problem, stack_error
from inhouse.config.stack import Stack
from inhouse.errors import StackError

FILE = "inhouse.yaml"

FLAGS: dict[str, str] = {
    "models": "MODEL",
    "models.*.slots": "--slots",
    "models.*.context": "--context",
    "models.*.threads": "--threads",
    "models.*.engine_binary": "--engine-binary",
    "gateway.host": "--host",
    "gateway.port": "--port",
    "queue.url": "--queue",
    "deploy.target": "--target",
    "auth.enabled": "--no-auth",
    "log.level": "--log-level",
    "state_dir": "--state-dir",
}
"""How the command line spells a path; any other path is named as it is."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A stack, the file it was read from (None without one), and by path the place of each value that was given."""

    stack: Stack
    file: Path | None
    origins: dict[Place, str]


def load(path: Path | None, *, environ: Mapping[str, str], flags: Mapping[str, object]) -> Stack:
    """The stack that file, environment and flags describe.

    The file is `path`, else `$INHOUSE_CONFIG`, else `./inhouse.yaml` where there is one. A flag of None is not given.

    Raises:
        StackError: with where, hint and, where there are several mistakes, all of them (`StackProblems`).
    """
    return read(path, environ=environ, flags=flags).stack


def read(path: Path | None, *, environ: Mapping[str, str], flags: Mapping[str, object]) -> Reading:
    """As `load`, and says where each value came from."""
    file, named_by = _choose_file(path, environ)
    document = read_document(file, named_by=named_by) if file else Document(FILE)
    layers = _Layers(document, file.parent if file else Path())
    for place, value, name in from_environment(environ, layers.names(), layers.problems):
        layers.put(place, value, name, base=Path())
    layers.default_model()
    for place, value, name in _from_flags(flags):
        layers.put_everywhere(place, value, name)
    stack = layers.validate()
    return Reading(stack, file, layers.origins)


def _choose_file(path: Path | None, environ: Mapping[str, str]) -> tuple[Path | None, str | None]:
    if path is not None:
        return path.expanduser(), "--config"
    if named := environ.get("INHOUSE_CONFIG"):
        return Path(named).expanduser(), "INHOUSE_CONFIG"
    return (Path(FILE), None) if Path(FILE).exists() else (None, None)


def _from_flags(flags: Mapping[str, object]) -> Iterator[tuple[tuple[str, ...], object, str]]:
    for name in sorted(flags, key=lambda name: (name != "models", name)):  # a replaced model takes the other flags
        value = flags[name]
        if value is None:
            continue
        if isinstance(value, Mapping) and name in ("gateway", "auth", "log"):
            for key, inner in value.items():
                yield (name, str(key)), inner, FLAGS.get(f"{name}.{key}", f"{name}.{key}")
            continue
        yield _split(name), value, FLAGS.get(name, name)


def _split(name: str) -> tuple[str, ...]:
    head, _, rest = name.partition(".")
    if head == "models" and rest:
        model, _, key = rest.rpartition(".")  # a model's name may have dots of its own
        return ("models", model, key)
    return (head, *rest.split(".")) if rest else (head,)


class _Layers:
    """The merged tree and the origin of each value."""

    def __init__(self, document: Document, base: Path) -> None:
        self.tree: dict[str, Any] = document.data
        self.label = document.label
        self.lines = document.lines
        self.problems = list(document.problems)
        self.origins: dict[Place, str] = {place: f"{document.label}:{line}" for place, line in document.lines.items()}
        for section in (path[0] for path in sections() if path):
            if section in self.tree and self.tree[section] is None:  # a heading with nothing below
                del self.tree[section]
        self._anchor_file(base)

    def names(self) -> dict[str, list[str]]:
        """The models, tenants and keys that the file has."""
        found = {section: list(part) for section in named() if isinstance(part := self.tree.get(section), dict)}
        return found | {"models": found.get("models") or ["demo"]}

    def put(self, place: tuple[str, ...], value: object, name: str, *, base: Path) -> None:
        """Sets one value; paths are relative to `base`. The text `name` is told when it is wrong."""
        node = self.tree
        for depth, part in enumerate(place[:-1], start=1):
            inner = node.setdefault(part, {})
            if not isinstance(inner, dict):
                return  # the file has something else there, which is told when the tree is validated
            self.origins.setdefault(place[:depth], name)
            node = inner
        for known in [known for known in self.origins if known[: len(place)] == place]:
            del self.origins[known]
            self.lines.pop(known, None)
        node[place[-1]] = _anchored(place, value, base)
        self.origins[place] = name

    def put_everywhere(self, place: tuple[str, ...], value: object, name: str) -> None:
        """As `put`, for every model where the path has a `*`; `models` alone replaces them all."""
        models = self.tree.get("models")
        if place[:2] == ("models", ANY_NAME):
            for model in models if isinstance(models, dict) else ():
                self.put(("models", model, *place[2:]), value, name, base=Path())
            return
        if place == ("models",) and isinstance(value, Mapping):
            self.put(place, {}, name, base=Path())
            for model, spec in value.items():
                for key, inner in dict(spec).items():
                    self.put(("models", str(model), str(key)), inner, name, base=Path())
            return
        self.put(place, value, name, base=Path())

    def default_model(self) -> None:
        """A stack without models has the demo; a model called demo needs no source."""
        if not self.tree.get("models"):
            self.tree["models"] = {"demo": {}}
        demo = self.tree["models"].get("demo", 0) if isinstance(self.tree["models"], dict) else 0
        if demo is None or (isinstance(demo, dict) and not (demo.get("endpoints") or demo.get("queued"))):
            self.tree["models"]["demo"] = {"source": "demo"} | (demo or {})

    def validate(self) -> Stack:
        """The stack; raises all mistakes together."""
        stack = None
        try:
            stack = Stack.model_validate(self.tree)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                message, hint = explain(detail)
                known = self._known(path_of(detail))
                replaced = self.origins.get(("models",)) == FLAGS["models"]
                if replaced and detail["type"] == "contradiction" and known[:1] != ("models",):
                    hint = "MODEL takes the place of the models in the file; leave it out, or name another --config"
                where = self.origins.get(known)
                if where in FLAGS.values():  # one flag may have set many models: told once, by its own name
                    message = message.replace(f"`{dotted(known)}`", f"`{where}`")
                self.problems.append(Problem(message, where, hint, order=self.lines.get(known, NO_LINE)))
        if stack is None or self.problems:
            raise stack_error(self.problems)
        return stack

    def _known(self, path: Place) -> Place:
        """The longest part of `path` that was written somewhere."""
        return next((path[:end] for end in range(len(path), 0, -1) if path[:end] in self.origins), ())

    def _anchor_file(self, base: Path) -> None:
        for setting in settings():
            for holder in self._holders(setting.path[:-1]):
                if setting.path[-1] in holder:
                    holder[setting.path[-1]] = _anchored(setting.path, holder[setting.path[-1]], base)

    def _holders(self, path: tuple[str, ...]) -> list[dict[str, Any]]:
        found: list[Any] = [self.tree]
        for part in path:
            found = [
                inner
                for node in found
                if isinstance(node, dict)
                for inner in (node.values() if part == ANY_NAME else [node.get(part)])
            ]
        return [node for node in found if isinstance(node, dict)]


def _anchored(place: tuple[str, ...], value: object, base: Path) -> object:
    """A relative path made absolute; anything else as it is."""
    key = place[-1]
    if not isinstance(value, str | Path) or not str(value):
        return value
    text = str(value)
    if key == "source":
        is_path = "://" not in text and (text[:1] in (".", "~") or text.endswith(".gguf"))
        return _absolute(text, base) if is_path else text
    if key == "engine_binary":
        return _absolute(text, base) if "/" in text else text  # a bare name is looked up on PATH
    if key in (
        "tls_cert",
        "tls_key",
        "state_dir",
        "folder",
        "ca_file",
        "cert_file",
        "key_file",
        "from_file",
        "token_file",
        "catalogue",
    ):
        return _absolute(text, base)
    return value


def _absolute(text: str, base: Path) -> str:
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:
        raise StackError(f"`{text}` starts with a home folder that is not known") from error
    return str((base.absolute() / path).resolve()) if not path.is_absolute() else str(path)
