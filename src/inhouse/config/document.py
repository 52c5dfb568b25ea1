"""A YAML file as plain data, with the line of every key. Duplicate keys, unknown tags and growing aliases are mistakes.

Not here: what the keys mean. A tree is dicts, lists and scalars; a place is the tuple of keys and indices to a value.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from inhouse.config.problems import Problem
from inhouse.errors import StackError

Place = tuple[str | int, ...]

VALUES_MAX = 100_000
"""Values in one file, aliases expanded: a few nested aliases could otherwise fill the memory."""
DEPTH_MAX = 32

_MERGE = "tag:yaml.org,2002:merge"


@dataclass(slots=True)
class Document:
    """What a file says: data, line (from 1) by path, and the mistakes that did not stop the reading."""

    label: str
    data: dict[str, Any] = field(default_factory=dict)
    lines: dict[Place, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def read_document(path: Path, *, named_by: str | None) -> Document:
    """Reads and parses `path`. `named_by` is the flag or variable that named it, for the message when it is not there.

    Raises:
        StackError: when it cannot be read, or is not YAML.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StackError(f"`{path}` is not UTF-8 text (byte {error.start})", where=str(path)) from error
    except FileNotFoundError as error:
        raise StackError(
            f"there is no file `{path}`",
            where=named_by,
            hint="name a file that exists, or leave it out for the demo model",
        ) from error
    except OSError as error:
        raise StackError(f"`{path}` cannot be read: {error.strerror}", where=named_by or str(path)) from error
    return parse_document(text, label=str(path))


def parse_document(text: str, *, label: str) -> Document:
    """Parses YAML; an empty file is an empty mapping.

    Raises:
        StackError: when it is not one YAML document with a mapping on top.
    """
    document = Document(label)
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            return document
        if not isinstance(root, yaml.MappingNode):
            raise StackError(
                "the file is not a mapping of keys to values",
                where=f"{label}:{root.start_mark.line + 1}",
                hint="expected form: `models:`, `gateway:` … each with its keys indented below",
            )
        document.data = _Reader(document, loader).mapping(root, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise StackError(
            f"not valid YAML: {error.problem or error.context} (column {column})",
            where=f"{label}:{line}",
            hint=_context(error),
        ) from error
    except yaml.YAMLError as error:  # a character that YAML forbids: no mark, but a position
        line = text.count("\n", 0, getattr(error, "position", 0)) + 1
        raise StackError(f"not valid YAML: {getattr(error, 'reason', error)}", where=f"{label}:{line}") from error
    except RecursionError as error:
        raise StackError(f"nested more than {DEPTH_MAX} levels deep", where=label) from error
    return document


def _context(error: yaml.MarkedYAMLError) -> str | None:
    if not error.context or not error.context_mark:
        return None
    return f"{error.context} that began on line {error.context_mark.line + 1}"


class _Reader:
    """Nodes to plain values, noting lines."""

    def __init__(self, document: Document, loader: yaml.SafeLoader) -> None:
        self.document = document
        self.loader = loader
        self.values = 0

    def value(self, node: yaml.Node, path: Place) -> Any:
        self.values += 1
        if self.values > VALUES_MAX or len(path) > DEPTH_MAX:
            limit = f"{DEPTH_MAX} levels" if len(path) > DEPTH_MAX else f"{VALUES_MAX} values"
            raise StackError(f"more than {limit} once its aliases are expanded", where=self.where(node))
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.item(child, (*path, index)) for index, child in enumerate(node.value)]
        return self.loader.construct_object(node)

    def item(self, node: yaml.Node, path: Place) -> Any:
        self.document.lines[path] = node.start_mark.line + 1
        return self.value(node, path)

    def mapping(self, node: yaml.MappingNode, path: Place) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                for key, value in self.merge(value_node, path).items():
                    merged.setdefault(key, value)
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise StackError("a key is a single word, not a list or a mapping", where=self.where(key_node))
            key = key_node.value  # as written: a model may well be called 3.1
            line = key_node.start_mark.line + 1
            if key in own:
                first = self.document.lines[(*path, key)]
                self.problem(f"`{key}` is given twice; the first is on line {first}", key_node, "keep one of the two")
                continue
            self.document.lines[(*path, key)] = line
            own[key] = self.value(value_node, (*path, key))
        return merged | own

    def merge(self, node: yaml.Node, path: Place) -> dict[str, Any]:
        if isinstance(node, yaml.MappingNode):
            known = dict(self.document.lines)
            found = self.value(node, path)
            self.document.lines.update(known)  # a key that is also given directly keeps its own line
            return dict(found)
        if isinstance(node, yaml.SequenceNode):
            found = {}
            for child in node.value:
                found = self.merge(child, path) | found
            return found
        raise StackError("`<<` takes an alias of a mapping, or a list of them", where=self.where(node))

    def where(self, node: yaml.Node) -> str:
        return f"{self.document.label}:{node.start_mark.line + 1}"

    def problem(self, message: str, node: yaml.Node, hint: str) -> None:
        line = node.start_mark.line + 1
        self.document.problems.append(Problem(message, self.where(node), hint, order=line))
