"""Where values stand in the objects of a tree: pure changes of copies, which leave a mark in each place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from inhouse.deploy.helm import knobs
from inhouse.deploy.helm.knobs import Knob, Knobs, Path
from inhouse.deploy.helm.marks import Marks
from inhouse.deploy.inventory import templates
from inhouse.deploy.launch import weights_path
from inhouse.deploy.site import MODELS_FOLDER, Lane, Site
from inhouse.deploy.text import Why, bare

_ENGINES = frozenset({"engine", "kserve-container", "main"})
_WORKLOADS = frozenset({"Deployment", "StatefulSet", "LeaderWorkerSet", "LLMInferenceService"})


@dataclass(frozen=True)
class Board:
    """What is being marked: the site with marks for its names, the marks, the values."""

    site: Site
    marks: Marks
    knobs: Knobs

    def value(self, knob: Knob) -> str:
        return self.marks.of(self.knobs.add(knob))

    def optional(self, knob: Knob) -> str:
        return self.marks.optional(self.knobs.add(knob))

    def of(self, one: dict[str, Any]) -> Path:
        """Under which values an object's own are."""
        labels = bare(one["metadata"].get("labels", {}))
        label = labels.get("inhouse.dev/model")
        if label is not None:
            return ("models", label)
        component = labels.get("app.kubernetes.io/component", "gateway")
        if component in ("redis", "postgres"):
            return ("stores", component)
        return ("gateway",) if component in ("network", "test") else (component,)

    def lane(self, path: Path) -> Lane | None:
        """The model whose values are there; of a sidecar, the one that there is."""
        if self.site.sidecar:
            return self.site.lanes[0]
        name = f"{self.site.name}-{path[-1]}"
        return next((lane for lane in self.site.lanes if path[0] == "models" and lane.name == name), None)

    def model(self, lane: Lane) -> Path:
        return ("models", lane.name.removeprefix(f"{self.site.name}-"))


Place = Callable[[Board, dict[str, Any]], None]


def copied(value: Any) -> Any:
    """A copy in which no part is there twice; reasons are kept."""
    if isinstance(value, Why):
        return Why(copied(value.value), value.sentence)
    if isinstance(value, dict):
        return {key: copied(inner) for key, inner in value.items()}
    return [copied(inner) for inner in value] if isinstance(value, list | tuple) else value


def inside(value: Any, *path: str | int) -> Any:
    """What is there, without a reason around it; None where nothing is."""
    for key in path:
        value = value.value if isinstance(value, Why) else value
        found = isinstance(key, int) and key < len(value) if isinstance(value, list) else key in (value or {})
        if not found:
            return None
        value = value[key]
    return value.value if isinstance(value, Why) else value


def mappings(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping inside, itself first, without reasons around it."""
    value = inside(value)
    if isinstance(value, dict):
        yield value
    for inner in list(value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()):
        yield from mappings(inner)


def put(where: dict[str, Any], key: str, mark: str) -> None:
    """The mark in a value's place; a reason stays with it."""
    there = where.get(key)
    where[key] = Why(mark, there.sentence) if isinstance(there, Why) else mark


def images(board: Board, one: dict[str, Any]) -> None:
    """Each image as repository, tag and digest. What fetches weights runs the gateway's."""
    for pod in pods(one):
        for container in [*inside_list(pod, "initContainers"), *inside_list(pod, "containers")]:
            path, lane = board.of(one), board.lane(board.of(one))
            default = image(bare(container["image"]))
            if default == image(board.site.image("gateway")):
                path = ("gateway",)
            elif container["name"] in _ENGINES and lane is not None:
                path = board.model(lane)
            knob = Knob((*path, "image"), default, "The image; a digest holds it for ever.", knobs.IMAGE)
            put(container, "image", board.marks.of(f'include "inhouse.image" {board.knobs.add(knob)}'))
        for volume in inside_list(pod, "volumes"):
            reference, lane = inside(volume, "image", "reference"), board.lane(board.of(one))
            if reference is not None and lane is not None:
                path = (*board.model(lane), "weightsImage")
                knob = Knob(path, image(reference), "The image that holds the weights.", knobs.IMAGE)
                action = f'include "inhouse.image" {board.knobs.add(knob)}'
                put(inside(volume, "image"), "reference", board.marks.of(action))


def resources(board: Board, one: dict[str, Any]) -> None:
    """Of each container but those that come before the engine."""
    for pod in pods(one):
        for container in [*engines_of(pod), *inside_list(pod, "containers")]:
            path, lane = board.of(one), board.lane(board.of(one))
            if container["name"] in _ENGINES and lane is not None:
                path = board.model(lane)
            elif container["name"] == "worker":
                path = (*path, "worker")
            knob = Knob((*path, "resources"), inside(container, "resources"), "What a pod asks for and is held to.",
                        knobs.RESOURCES)  # fmt: skip
            put(container, "resources", board.value(knob))


def placement(board: Board, one: dict[str, Any]) -> None:
    """Which nodes pods may run on."""
    rows: tuple[tuple[str, Any, str, knobs.Schema], ...] = (
        ("nodeSelector", {}, "Labels that a node must have; null takes one out again.", knobs.LABELS),
        ("tolerations", [], "Taints that are no obstacle.", knobs.TOLERATIONS),
        ("priorityClassName", "", "A PriorityClass that exists.", knobs.text(knobs.NAME, empty=True)),
    )
    for pod in pods(one):
        for key, empty, sentence, schema in rows:
            default = bare(pod.get(key, empty))
            pod[key] = board.optional(Knob((*board.of(one), key), default, sentence, schema))


def pull_secrets(board: Board, one: dict[str, Any]) -> None:
    """What the registry of the images asks for."""
    schema = {"type": "array", "items": {"type": "object", "required": ["name"], "additionalProperties": False,
              "properties": {"name": {"type": "string", "pattern": knobs.NAME}}}}  # fmt: skip
    for pod in pods(one):
        sentence = "Secrets for the registry of the images, as in [{name: registry}]."
        pod["imagePullSecrets"] = board.optional(Knob(("imagePullSecrets",), [], sentence, schema))


def replicas(board: Board, one: dict[str, Any]) -> None:
    """How many pods; where a scaler says, nothing."""
    if one["kind"] not in _WORKLOADS or board.of(one)[0] == "stores":
        return
    spec = inside(one, "spec")
    default = bare(spec.get("replicas"))
    sentence = "Pods." if default is not None else "Pods, once autoscaling is off; null: the scaler says."
    trial = 1 if default is not None and default > 1 else None
    if inside(spec, "strategy", "type") == "Recreate":
        sentence += " One pod at a time can hold the volume."
    schema = knobs.count(0, most(one), null=True)
    mark = board.marks.nullable(board.knobs.add(Knob((*board.of(one), "replicas"), default, sentence, schema, trial)))
    one["spec"] = {"replicas": mark} | {key: spec[key] for key in spec if key != "replicas"}


def most(one: dict[str, Any]) -> int:
    """How many pods there can be: one, where it alone can hold the volume."""
    return 1 if inside(one, "spec", "strategy", "type") == "Recreate" else 1000


def claims(board: Board, one: dict[str, Any]) -> None:
    """Size and class of each volume that is claimed."""
    path, spec, lane = board.of(one), inside(one, "spec"), board.lane(board.of(one))
    if one["kind"] == "PersistentVolumeClaim":
        state = one["metadata"]["name"] == f"{board.site.name}-state"
        if state or lane is None:
            _claim(board, spec, _size(("gateway",), spec, "Size of the volume with keys, use and the audit."))
        else:
            _claim(board, spec, _size(board.model(lane), spec, "Size of the volume with the weights."))
    for claim in inside(spec, "volumeClaimTemplates") or []:
        inner = inside(claim, "spec")
        _claim(board, inner, _size(path, inner, "Size of each pod's volume; fixed once it is installed."))
    if one["kind"] == "Cluster":
        storage = inside(spec, "storage")
        knob = Knob((*path, "volumeSize"), bare(storage["size"]), "Size of each copy's volume.", knobs.SIZE)
        put(storage, "size", board.value(knob))
        _storage_class(board, storage, "storageClass")
        instances = Knob((*path, "instances"), spec["instances"], "Copies of the database.", knobs.count(1, 9))
        put(spec, "instances", board.value(instances))
    for pod in pods(one):
        for volume in inside_list(pod, "volumes"):
            scratch = inside(volume, "emptyDir")
            if volume["name"] == "models" and scratch is not None and lane is not None:
                sentence = "What the weights may take of the node's disk."
                knob = Knob((*board.model(lane), "volumeSize"), bare(scratch["sizeLimit"]), sentence, knobs.SIZE)
                put(scratch, "sizeLimit", board.value(knob))


def sources(board: Board, one: dict[str, Any]) -> None:
    """Where the weights come from: fetched by one container, opened by name by the other."""
    lane = board.lane(board.of(one))
    if lane is None or lane.spec.deploy.weights_image:
        return
    source, file = str(lane.spec.source), weights_path(str(lane.spec.source))
    named = file != MODELS_FOLDER
    pattern = r"^[A-Za-z0-9+]+://[A-Za-z0-9._/:@+=-]+" + (r"\.gguf(@[A-Za-z0-9._/:+-]+)?$" if named else "$")
    hint = "as hf://, s3://, oci:// or https://" + (", down to the .gguf file" if named else "")
    path = (*board.model(lane), "source")
    knob = Knob(path, source, "Where the weights come from; of the same kind as now.", knobs.text(pattern, hint=hint))
    pinned = Knob((*path[:-1], "sha256"), lane.spec.sha256, "What they must hash to.", knobs.text(r"^[0-9a-f]{64}$"))
    if one["kind"] == "LLMInferenceService":
        put(inside(one, "spec", "model"), "uri", board.value(knob))
    for pod in pods(one):
        for container in inside_list(pod, "initContainers"):
            if container["name"] == "weights":
                args = inside(container, "args")
                changed = {source: knob} | ({str(lane.spec.sha256): pinned} if lane.spec.sha256 else {})
                container["args"] = [board.value(changed[word]) if word in changed else word for word in args]
        for container in [*engines_of(pod), *inside_list(pod, "containers")]:
            if named and container["name"] in _ENGINES:
                name = board.marks.of(f'{board.knobs.add(knob)} | splitList "@" | first | base')
                for key in ("command", "args"):
                    words = inside(container, key)
                    if words is not None:
                        container[key] = [word.replace(file, f"{MODELS_FOLDER}/{name}") for word in words]


def pods(one: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The pods' specs in an object, to be changed."""
    for template in templates(one):
        yield inside(template, "spec")


def engines_of(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """Engines that are there for another container, whose end they outlive."""
    return [one for one in inside_list(pod, "initContainers") if one["name"] in _ENGINES]


def inside_list(pod: dict[str, Any], key: str) -> list[dict[str, Any]]:
    return [inside(one) for one in inside(pod, key) or []]


def image(text: str) -> dict[str, str]:
    """An image's name, taken apart."""
    name, _, digest = text.partition("@")
    head, slash, last = name.rpartition("/")
    last, _, tag = last.partition(":")
    return {"repository": f"{head}{slash}{last}", "tag": tag, "digest": digest}


def _claim(board: Board, spec: dict[str, Any], size: Knob) -> None:
    put(inside(spec, "resources", "requests"), "storage", board.value(size))
    _storage_class(board, spec, "storageClassName")


def _size(path: Path, spec: dict[str, Any], sentence: str) -> Knob:
    default = bare(inside(spec, "resources", "requests")["storage"])
    return Knob((*path, "volumeSize"), default, sentence, knobs.SIZE)


def _storage_class(board: Board, spec: dict[str, Any], key: str) -> None:
    default = board.site.stack.deploy.storage_class or ""
    sentence = "StorageClass of all volumes; empty: the cluster's default. Fixed once they are there."
    spec[key] = board.optional(Knob(("storageClass",), default, sentence, knobs.text(knobs.NAME, empty=True)))
