"""The objects of a tree as a linter looks at them: by kind, the pods among them, what is used by what. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

Object = dict[str, Any]
_TEMPLATES = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}


PROXY_PORTS = (8012, 8112, 8022, 9090, 9091)
"""Of the proxy that Knative puts into each pod: requests, its end, figures for its autoscaler."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A template of pods, and the object that has it."""

    owner: Object
    labels: dict[str, str]
    spec: Object

    @property
    def containers(self) -> list[Object]:
        return [*self.spec.get("initContainers", []), *self.spec.get("containers", [])]

    @property
    def where(self) -> str:
        return named(self.owner)


@dataclass(frozen=True)
class Inventory:
    objects: list[Object]
    outside: frozenset[tuple[str, str]] = field(default_factory=frozenset)
    """(kind, name) of what is expected to be in the cluster already."""

    def of(self, *kinds: str) -> Iterator[Object]:
        return (one for one in self.objects if one.get("kind") in kinds)

    def has(self, kind: str, name: str) -> bool:
        return (kind, name) in self.names or (kind, name) in self.outside

    @cached_property
    def names(self) -> frozenset[tuple[str, str]]:
        """(kind, name) of all that is there; also what another object makes."""
        found = {(one.get("kind", ""), one["metadata"]["name"]) for one in self.objects}
        for one in self.of("ExternalSecret"):
            found.add(("Secret", one["spec"].get("target", {}).get("name", one["metadata"]["name"])))
        for one in self.of("Certificate"):
            found.add(("Secret", one["spec"]["secretName"]))
        for one in self.of("InferenceService"):
            found.add(("Deployment", f"{one['metadata']['name']}-predictor"))
        return frozenset(found)

    @cached_property
    def pods(self) -> tuple[Pod, ...]:
        found = []
        for one in self.objects:
            for template in templates(one):
                labels = template.get("metadata", {}).get("labels", {})
                found.append(Pod(one, labels, template.get("spec", {})))
        return tuple(found)

    def chosen(self, selector: Mapping[str, Any] | None) -> list[Pod]:
        """The pods that a selector of labels takes; an empty one takes all."""
        return [pod for pod in self.pods if selects(selector or {}, pod.labels)]


def templates(one: Object) -> Iterator[Object]:
    """The templates of pods in an object."""
    kind = one.get("kind", "")
    if kind == "Pod":
        yield one
    elif kind == "LeaderWorkerSet":
        inside = one["spec"]["leaderWorkerTemplate"]
        yield from (inside[name] for name in ("leaderTemplate", "workerTemplate") if name in inside)
    elif kind == "InferenceService":
        predictor = one["spec"]["predictor"]
        yield {"metadata": {"labels": predictor.get("labels", {})}, "spec": predictor}
    elif kind == "LLMInferenceService":
        yield {"metadata": {"labels": one["spec"].get("labels", {})}, "spec": one["spec"]["template"]}
    elif kind in _TEMPLATES:
        for key in _TEMPLATES[kind]:
            one = one.get(key, {})
        yield one


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """A plain map of labels, or a LabelSelector."""
    if "matchLabels" not in selector and "matchExpressions" not in selector:
        return all(labels.get(key) == value for key, value in selector.items())
    for asked in selector.get("matchExpressions", []):
        value, values = labels.get(asked["key"]), asked.get("values", [])
        holds = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not holds.get(asked["operator"], False):
            return False
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def named(one: Object) -> str:
    """How a message names an object."""
    return f"{one.get('kind', 'object')} {one.get('metadata', {}).get('name', 'without a name')}"


def walk(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value inside, with its path; the value itself first."""
    yield path, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from walk(inner, (*path, str(key)))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from walk(inner, (*path, str(index)))
