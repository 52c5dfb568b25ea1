"""What people change: values with a default, a sentence and a schema. From them values.yaml and values.schema.json."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from inhouse.deploy.text import bare, render, why

Schema = dict[str, Any]
Path = tuple[str, ...]

QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
NAME = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
TEXT = r'^[^"\\{}\s]{1,512}$'
"""What may stand inside a text of the objects without being quoted."""

SIZE: Schema = {"type": "string", "pattern": QUANTITY, "description": "such as 500m, 512Mi or 20Gi"}
SWITCH: Schema = {"type": "boolean"}
_ORDER = (
    "secretName",
    "imagePullSecrets",
    "storageClass",
    "gateway",
    "models",
    "stores",
    "traffic",
    "externalSecrets",
    "networkPolicies",
    "disruptionBudgets",
    "monitors",
    "config",
)
_INSIDE = (
    "enabled",
    "source",
    "sha256",
    "image",
    "weightsImage",
    "replicas",
    "instances",
    "autoscaling",
    "minReplicas",
    "maxReplicas",
    "resources",
    "volumeSize",
    "nodeSelector",
    "tolerations",
    "priorityClassName",
)
_SECTIONS = {
    "gateway": "The pods that clients speak to.",
    "models": "The engines, by model. What is connected (context, slots, engine) stays in inhouse.yaml.",
    "traffic": "The way in.",
    "stores": "Redis and PostgreSQL that are made beside the gateways.",
    "externalSecrets": "The vault that the Secret is read from.",
    "monitors": "For the Prometheus operator.",
}


def count(least: int = 0, most: int = 1000, *, null: bool = False) -> Schema:
    return {"type": ["integer", "null"] if null else "integer", "minimum": least, "maximum": most}


def text(pattern: str = TEXT, *, empty: bool = False, hint: str = "") -> Schema:
    pattern = f"^$|{pattern}" if empty else pattern
    return {"type": "string", "pattern": pattern} | ({"description": hint} if hint else {})


_QUANTITIES: Schema = {
    "type": "object",
    "additionalProperties": {"anyOf": [{"type": "string", "pattern": QUANTITY}, {"type": "number", "minimum": 0}]},
}
RESOURCES: Schema = {
    "type": "object",
    "properties": {"requests": _QUANTITIES, "limits": _QUANTITIES, "claims": {"type": "array"}},
    "additionalProperties": False,
}
IMAGE: Schema = {
    "type": "object",
    "required": ["repository"],
    "properties": {
        "repository": {"type": "string", "pattern": r"^[a-z0-9][A-Za-z0-9._/:-]{0,254}$"},
        "tag": {"type": "string", "pattern": r"^$|^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$"},
        "digest": {"type": "string", "pattern": r"^$|^sha256:[0-9a-f]{64}$"},
    },
    "additionalProperties": False,
}
LABELS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
TOLERATIONS: Schema = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "key": {"type": "string"},
            "operator": {"enum": ["Exists", "Equal"]},
            "value": {"type": "string"},
            "effect": {"enum": ["", "NoSchedule", "PreferNoSchedule", "NoExecute"]},
            "tolerationSeconds": {"type": "integer"},
        },
        "additionalProperties": False,
    },
}


@dataclass(frozen=True, slots=True)
class Knob:
    """One value that people change."""

    path: Path
    default: Any
    sentence: str
    schema: Schema
    trial: Any = None
    """What it is where one pod of each is enough; None: as ever."""


@dataclass
class Knobs:
    """The values of one chart."""

    _known: dict[Path, Knob] = field(default_factory=dict)

    def add(self, knob: Knob) -> str:
        """The expression that gives it; a value that is added again is the same one."""
        self._known.setdefault(knob.path, knob)
        return expression(knob.path)

    def __iter__(self) -> Any:
        return iter(self._known.values())

    def values(self) -> str:
        """values.yaml."""
        told = sorted(self, key=lambda knob: [_place_inside(key) for key in knob.path[1:]])
        tree = _nested({knob.path: why(knob.default, knob.sentence) for knob in told})
        return render([_sections(_ordered(tree))])

    def trial(self) -> str:
        """Values of a trial: what differs."""
        return render([_ordered(_nested({knob.path: knob.trial for knob in self if knob.trial is not None}))])

    def schema(self, comment: str) -> str:
        """values.schema.json."""
        tree = _objects(_nested({knob.path: knob for knob in self}))
        tree["properties"] |= {"global": {"type": "object"}}  # of a chart above this one
        head = {"$comment": comment, "$schema": "http://json-schema.org/draft-07/schema#", "title": "values"}
        return json.dumps(head | tree, indent=2) + "\n"


def expression(path: Path) -> str:
    """How a template names a value."""
    if all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key) for key in path):
        return f".Values.{'.'.join(path)}"
    return f"(index .Values {' '.join(json.dumps(key) for key in path)})"


def _nested(leaves: dict[Path, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        inside = tree
        for key in path[:-1]:
            inside = inside.setdefault(key, {})
        inside[path[-1]] = leaf
    return tree


def _ordered(tree: dict[str, Any]) -> dict[str, Any]:
    return {key: tree[key] for key in sorted(tree, key=_place)}


def _place(key: str) -> int:
    if key in _ORDER:
        return _ORDER.index(key)
    return _ORDER.index("stores")  # what a later artefact brings


def _place_inside(key: str) -> int:
    return _INSIDE.index(key) if key in _INSIDE else len(_INSIDE)


def _sections(tree: dict[str, Any]) -> dict[str, Any]:
    return {key: why(inner, _SECTIONS[key]) if key in _SECTIONS else inner for key, inner in tree.items()}


def _objects(tree: dict[str, Any]) -> Schema:
    made = {
        key: inner.schema | {"description": _told(inner), "default": bare(inner.default)}
        if isinstance(inner, Knob)
        else _objects(inner)
        for key, inner in tree.items()
    }
    needed = [key for key, inner in tree.items() if not isinstance(inner, Knob) or not _may_be_null(inner)]
    return {"type": "object", "properties": made, "required": needed, "additionalProperties": False}


def _may_be_null(knob: Knob) -> bool:
    return "null" in knob.schema.get("type", ())


def _told(knob: Knob) -> str:
    hint = knob.schema.get("description")
    return f"{knob.sentence} ({hint})" if hint else knob.sentence
