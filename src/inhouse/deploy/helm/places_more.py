"""Where values stand in what surrounds the pods: scalers, the way in, monitors, secrets; and what a switch rules."""

from __future__ import annotations

from typing import Any

from inhouse.deploy import engines
from inhouse.deploy.helm import knobs
from inhouse.deploy.helm.knobs import Knob, Path
from inhouse.deploy.helm.places import Board, inside, mappings, put
from inhouse.deploy.text import bare

_SCALERS = frozenset({"ScaledObject", "HorizontalPodAutoscaler"})
_TRAFFIC = frozenset({"Gateway", "HTTPRoute", "Ingress", "Certificate"})
_SECRETS = frozenset({"SecretStore", "ExternalSecret"})
_MIN_SCALE, _MAX_SCALE = "autoscaling.knative.dev/min-scale", "autoscaling.knative.dev/max-scale"


def labels(board: Board, one: dict[str, Any]) -> None:
    """Who manages an object, and what chart it is of: on the object, never in a selector or on a pod."""
    there = inside(one, "metadata", "labels")
    there["app.kubernetes.io/managed-by"] = board.marks.of(".Release.Service")
    there["helm.sh/chart"] = board.marks.of('include "inhouse.chart" .')


def kept(board: Board, one: dict[str, Any]) -> None:
    """What `helm uninstall` leaves: keys, use and the audit."""
    state = one["kind"] == "PersistentVolumeClaim" and one["metadata"]["name"] == f"{board.site.name}-state"
    if state or one["kind"] == "Cluster":
        notes = one["metadata"].setdefault("annotations", {})
        notes["helm.sh/resource-policy"] = "keep"


def config(board: Board, one: dict[str, Any]) -> None:
    """The files of gateway and workers, and on the pods that read one its hash."""
    if one["kind"] == "ConfigMap" and one["metadata"]["name"] == f"{board.site.name}-config":
        one["data"]["inhouse.yaml"] = _text(board, ("config",), _OF_GATEWAY, one["data"]["inhouse.yaml"])
    if one["kind"] == "ConfigMap" and one["metadata"]["name"] == f"{board.site.name}-workers":
        of_pool = {f"{lane.name}.yaml": (*board.model(lane), "config") for lane in board.site.lanes}
        for key, told in one["data"].items():
            one["data"][key] = _text(board, of_pool[key], _OF_WORKER, told)
    notes = inside(one, "spec", "template", "metadata", "annotations") or {}
    if "inhouse.dev/config" in notes:
        lane = None if board.site.sidecar else board.lane(board.of(one))
        path = ("config",) if lane is None else (*board.model(lane), "config")
        put(notes, "inhouse.dev/config", board.marks.of(f"{_filled(path)} | sha256sum | trunc 16"))


def _text(board: Board, path: Path, sentence: str, told: str) -> str:
    """A file as a value, with words in place of the release's name and namespace."""
    default = board.marks.plain(told, WORDS)
    board.knobs.add(Knob(path, default, sentence, {"type": "string", "minLength": 1}))
    return board.marks.of(_filled(path))


def _filled(path: Path) -> str:
    return f'include "inhouse.config" (dict "text" {knobs.expression(path)} "release" $.Release)'


RELEASE, NAMESPACE = ".Release.Name", ".Release.Namespace"
WORDS = {RELEASE: "$(RELEASE_NAME)", NAMESPACE: "$(RELEASE_NAMESPACE)"}
"""What stands for them where a text is a value, which no template runs in."""
_OF_GATEWAY = (
    "inhouse.yaml as the gateway reads it; pods start anew when it changes. $(RELEASE_NAME) and "
    "$(RELEASE_NAMESPACE) stand for the release's own. What engines must know too (context, slots, models) is "
    "changed in the stack, and rendered."
)
_OF_WORKER = "inhouse.yaml as its workers read it."


def secret(board: Board, one: dict[str, Any]) -> None:
    """The name of the Secret, wherever it is made or read."""
    sentence = "The Secret with keys and passwords; empty: the release's name and -secrets."
    knob = Knob(("secretName",), "", sentence, knobs.text(knobs.NAME, empty=True))
    board.knobs.add(knob)
    name = board.marks.of('include "inhouse.secretName" .')
    if one["kind"] == "ExternalSecret":
        put(one["metadata"], "name", name)
        put(inside(one, "spec", "target"), "name", name)
    for part in mappings(one):
        ref = inside(part, "secretKeyRef")
        if ref is not None and ref["name"] == board.site.secret:
            put(ref, "name", name)


def scalers(board: Board, one: dict[str, Any]) -> None:
    """The bounds between which pods come and go."""
    if one["kind"] in _SCALERS:
        (least, most), spec = _bounds(board, one), inside(one, "spec")
        lane = board.lane(board.of(one))
        low, high = ("minReplicaCount", "maxReplicaCount") if one["kind"] == "ScaledObject" else _OF_HPA
        lowest = 0 if one["kind"] == "ScaledObject" else 1
        put(spec, low, board.value(_bound(least, bare(spec[low]), "Pods that stay.", lowest)))
        alone = lane is not None and lane.spec.deploy.volume == "pvc" and not engines.is_stateful(lane)
        alone = alone and lane is not None and not lane.spec.deploy.weights_image
        put(spec, high, board.value(_bound(most, bare(spec[high]), "Pods at most.", 1, alone=alone)))
    if one["kind"] == "InferenceService":
        _of_kserve(board, one)


_OF_HPA = ("minReplicas", "maxReplicas")


def _of_kserve(board: Board, one: dict[str, Any]) -> None:
    """KServe wants at least one pod, and on Knative has the bounds as text too."""
    least, most = _bounds(board, one)
    predictor, notes = inside(one, "spec", "predictor"), inside(one, "metadata", "annotations")
    lane = board.lane(board.of(one))
    scaled = lane is not None and lane.spec.deploy.scaling.by in ("keda", "hpa")
    low, high = bare(predictor["minReplicas"]), bare(predictor["maxReplicas"])
    if scaled and lane is not None:
        low = lane.spec.deploy.scaling.pods_min
    of_least = board.knobs.add(_bound(least, low, "Pods that stay.", 0, trial=1 if low > 1 else None))
    of_most = board.knobs.add(_bound(most, high, "Pods at most.", 1))
    put(predictor, "minReplicas", board.marks.of(f"max 1 (int {of_least})" if scaled else of_least))
    put(predictor, "maxReplicas", board.marks.of(of_most))
    if _MIN_SCALE in notes:
        put(notes, _MIN_SCALE, board.marks.of(f"{of_least} | toString"))
        put(notes, _MAX_SCALE, board.marks.of(f"{of_most} | toString"))


def _bounds(board: Board, one: dict[str, Any]) -> tuple[Path, Path]:
    path = (*board.of(one), "autoscaling")
    return (*path, "minReplicas"), (*path, "maxReplicas")


def _bound(
    path: Path, default: int, sentence: str, least: int, *, trial: int | None = None, alone: bool = False
) -> Knob:
    sentence += " One pod can hold the volume." if alone else ""
    return Knob(path, default, sentence, knobs.count(least, 1 if alone else 1000), trial)


def traffic(board: Board, one: dict[str, Any]) -> None:
    """What no name of the stack gives by itself: the class of an Ingress, the share of a canary."""
    spec = board.site.stack.deploy.traffic
    if one["kind"] == "Ingress":
        knob = Knob(("traffic", "ingressClass"), spec.ingress_class, "The IngressClass.", knobs.text(knobs.NAME))
        put(inside(one, "spec"), "ingressClassName", board.value(knob))
    if one["kind"] == "HTTPRoute" and spec.canary_service is not None:
        schema = knobs.count(0, 100)
        sentence = "Percent of the requests that go to the other installation."
        share = board.knobs.add(Knob(("traffic", "canaryPercent"), spec.canary_percent, sentence, schema))
        ours, other = (inside(backend) for backend in inside(one, "spec", "rules", 0, "backendRefs"))
        put(ours, "weight", board.marks.of(f"sub 100 (int {share})"))
        put(other, "weight", board.marks.of(share))


def monitors(board: Board, one: dict[str, Any]) -> None:
    if one["kind"] == "PodMonitor":
        (endpoint,) = inside(one, "spec", "podMetricsEndpoints")
        schema = knobs.text(r"^[0-9]+(ms|s|m|h)$", hint="such as 15s")
        knob = Knob(("monitors", "interval"), bare(endpoint["interval"]), "Pause between two readings.", schema)
        put(endpoint, "interval", board.value(knob))


def refresh(board: Board, one: dict[str, Any]) -> None:
    if one["kind"] == "ExternalSecret":
        schema = knobs.text(r"^[0-9]+(s|m|h)$", hint="such as 3600s")
        spec = inside(one, "spec")
        sentence = "How often the vault is read again."
        knob = Knob(("externalSecrets", "refreshInterval"), bare(spec["refreshInterval"]), sentence, schema)
        put(spec, "refreshInterval", board.value(knob))


def switch(board: Board, one: dict[str, Any]) -> str | None:
    """The expression that says whether an object is there; None where it always is."""
    path, sentence, trial = None, "", None
    if one["kind"] in _SCALERS:
        path = (*board.of(one), "autoscaling", "enabled")
        sentence, trial = "Whether the scaler is there; without it, the number of pods is fixed.", False
    elif one["kind"] in _TRAFFIC and one["metadata"]["name"] == board.site.name:
        path, sentence = ("traffic", "enabled"), "Whether there is a way in from outside."
    elif one["kind"] in _SECRETS:
        path, sentence = ("externalSecrets", "enabled"), "Whether the vault is read; else you make the Secret."
    elif one["kind"] == "NetworkPolicy":
        path, sentence = ("networkPolicies", "enabled"), "Whether all traffic is closed but what the parts need."
    elif one["kind"] == "PodDisruptionBudget":
        path, sentence, trial = ("disruptionBudgets", "enabled"), "Whether nodes are emptied one pod at a time.", False
    elif one["kind"] == "PodMonitor":
        path, sentence = ("monitors", "enabled"), "Whether the Prometheus operator is told what to read."
    return None if path is None else board.knobs.add(Knob(path, True, sentence, knobs.SWITCH, trial))
