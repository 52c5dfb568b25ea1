"""What every pod has: nobody with rights inside, a place to run, probes, an end that lets streams finish."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inhouse.config.deploy import PlacementSpec
from inhouse.deploy.site import USER
from inhouse.deploy.text import why
from inhouse.errors import StackError

KIB_PER = 1024


def quantity(size_bytes: int) -> str:
    """Bytes as Kubernetes writes them, exactly."""
    for unit in ("", "Ki", "Mi", "Gi", "Ti"):
        if size_bytes % KIB_PER or unit == "Ti":
            return f"{size_bytes}{unit}"
        size_bytes //= KIB_PER
    raise AssertionError("not reached")


def pod_security(*, user: int = USER) -> dict[str, Any]:
    """The pod's half of the profile `restricted`."""
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> dict[str, Any]:
    """The container's half of the profile `restricted`."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def both(one: PlacementSpec, other: PlacementSpec) -> PlacementSpec:
    """Where a pod may run that must be where both may; the first one's word on priority counts. Raises StackError."""
    regions = [region for region in one.regions if region in other.regions]
    if one.regions and other.regions and not regions:
        raise StackError(
            "gateway and engine share a pod, and no region that both may be in",
            where="deploy.gateway.placement.regions",
            hint="name the regions once, in the model's `deploy.placement`",
        )
    return PlacementSpec(
        node_selector=list(dict.fromkeys([*one.node_selector, *other.node_selector])),
        tolerations=list(dict.fromkeys([*one.tolerations, *other.tolerations])),
        regions=regions or [*one.regions, *other.regions],
        priority_class=one.priority_class or other.priority_class,
    )


def placement(spec: PlacementSpec, *, spot: bool = False) -> dict[str, Any]:
    """Node selector, tolerations, affinity and priority: only those that are set."""
    found: dict[str, Any] = {}
    if spec.node_selector:
        found["nodeSelector"] = dict(pair.split("=", 1) for pair in spec.node_selector)
    tolerations = [_toleration(text) for text in spec.tolerations]
    if spot:
        tolerations += [
            {"key": key, "operator": "Exists", "effect": "NoSchedule"} for key, _ in _SPOT if key not in _UNTAINTED
        ]
    if tolerations:
        found["tolerations"] = tolerations
    affinity: dict[str, Any] = {}
    if spec.regions:
        affinity["requiredDuringSchedulingIgnoredDuringExecution"] = why(
            {"nodeSelectorTerms": [{"matchExpressions": [_in("topology.kubernetes.io/region", spec.regions)]}]},
            "data stays in these regions",
        )
    if spot:
        affinity["preferredDuringSchedulingIgnoredDuringExecution"] = [
            {"weight": 100, "preference": {"matchExpressions": [_in(key, [value])]}} for key, value in _SPOT
        ]
    if affinity:
        found["affinity"] = {"nodeAffinity": affinity}
    if spec.priority_class:
        found["priorityClassName"] = spec.priority_class
    return found


_SPOT = (
    ("karpenter.sh/capacity-type", "spot"),
    ("eks.amazonaws.com/capacityType", "SPOT"),
    ("cloud.google.com/gke-spot", "true"),
    ("kubernetes.azure.com/scalesetpriority", "spot"),
    ("oci.oraclecloud.com/oke-is-preemptible", "true"),
)
"""How clouds mark nodes that may vanish."""
_UNTAINTED = frozenset({"eks.amazonaws.com/capacityType"})


def _in(key: str, values: list[str]) -> dict[str, Any]:
    return {"key": key, "operator": "In", "values": list(values)}


def _toleration(text: str) -> dict[str, Any]:
    """`key`, `key:Effect`, `key=value` or `key=value:Effect`."""
    what, _, effect = text.partition(":")
    key, equals, value = what.partition("=")
    found: dict[str, Any] = {"key": key, "operator": "Equal" if equals else "Exists"}
    if equals:
        found["value"] = value
    return found | ({"effect": effect} if effect else {})


def spread(labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """Over zones first, then over nodes; a cluster that has one of each is no obstacle."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": dict(labels)},
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]


def http_probe(path: str, port: str | int, *, every_s: int, failures: int, timeout_s: int = 2) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": port},
        "periodSeconds": every_s,
        "timeoutSeconds": timeout_s,
        "failureThreshold": failures,
    }


def startup_probe(path: str, port: str | int, *, within_s: float, command: tuple[str, ...] | None = None) -> Any:
    """Fails only after `within_s` seconds. A command tells it in place of the path, where the path says too little."""
    every_s = 5
    probe = http_probe(path, port, every_s=every_s, failures=max(1, -(-int(within_s) // every_s)), timeout_s=5)
    if command is not None:
        del probe["httpGet"]
        probe = {"exec": {"command": list(command)}, **probe}
    return why(probe, f"until it is up, for {int(within_s)} s at most, the other probes rest")


def grace(longest_s: float) -> dict[str, Any]:
    """The end of a pod: first it is taken off all lists, then it finishes what runs, for `longest_s` seconds."""
    return {
        "terminationGracePeriodSeconds": why(
            int(longest_s) + 2 * LEAVE_S, "longer than the longest answer: a stream is finished, not cut"
        )
    }


LEAVE_S = 10


def leave() -> dict[str, Any]:
    """Waits before SIGTERM until everybody has heard that the pod leaves."""
    return {"preStop": {"sleep": {"seconds": LEAVE_S}}}
