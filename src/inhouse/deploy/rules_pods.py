"""Rules about single pods and values: rights, resources, ends, rollouts, and what schemas leave open."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from inhouse.config.units import parse_duration
from inhouse.deploy.inventory import Inventory, Pod, named, walk

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?")
_QUANTITY = re.compile(r"\d+(\.\d+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")
_CHOICES = {
    "imagePullPolicy": {"Always", "IfNotPresent", "Never"},
    "pullPolicy": {"Always", "IfNotPresent", "Never"},
    "whenUnsatisfiable": {"DoNotSchedule", "ScheduleAnyway"},
    "concurrencyPolicy": {"Allow", "Forbid", "Replace"},
    "podManagementPolicy": {"OrderedReady", "Parallel"},
    "protocol": {"TCP", "UDP", "SCTP", "HTTP", "HTTPS", "TLS"},
    "effect": {"NoSchedule", "PreferNoSchedule", "NoExecute"},
    "fsGroupChangePolicy": {"OnRootMismatch", "Always"},
    "medium": {"", "Memory", "HugePages"},
}
_CHOICES_OF_LISTS = {
    "accessModes": {"ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"},
    "policyTypes": {"Ingress", "Egress"},
}
_PORTS = frozenset({"containerPort", "port", "targetPort", "hostPort"})
_ALLOWED_VOLUMES = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)
_SERVICE_KINDS = frozenset({"Service", "Namespace"})


def pods_are_restricted(all_: Inventory) -> Iterator[str]:
    for pod in all_.pods:
        context = pod.spec.get("securityContext", {})
        if context.get("runAsNonRoot") is not True:
            yield f"{pod.where}: runAsNonRoot is not set"
        if context.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"{pod.where}: no seccomp profile"
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.spec.get(key):
                yield f"{pod.where}: {key} is set"
        for volume in pod.spec.get("volumes", []):
            if not set(volume) - {"name"} <= _ALLOWED_VOLUMES:
                yield f"{pod.where}: volume {volume['name']} is of a kind that is not allowed"
        for container in pod.containers:
            own, where = container.get("securityContext", {}), f"{pod.where}: {container['name']}"
            if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
                yield f"{where} may get more rights"
            if "ALL" not in own.get("capabilities", {}).get("drop", []):
                yield f"{where} keeps capabilities"
            if own.get("readOnlyRootFilesystem") is not True:
                yield f"{where} may write to its image"
            if own.get("runAsUser") == 0 or (context.get("runAsUser") == 0 and "runAsUser" not in own):
                yield f"{where} runs as root"


def tokens_stay_out(all_: Inventory) -> Iterator[str]:
    bound = {subject["name"] for one in all_.of("RoleBinding", "ClusterRoleBinding") for subject in one["subjects"]}
    for pod in all_.pods:
        mounted = pod.spec.get("automountServiceAccountToken", True)
        if mounted and pod.spec.get("serviceAccountName") not in bound:
            yield f"{pod.where}: has a token of the cluster that it needs for nothing"


def resources_are_set(all_: Inventory) -> Iterator[str]:
    for pod in all_.pods:
        for container in pod.containers:
            where, resources = f"{pod.where}: {container['name']}", container.get("resources", {})
            asked, held = resources.get("requests", {}), resources.get("limits", {})
            if "cpu" not in asked or "memory" not in asked or "memory" not in held:
                yield f"{where} lacks requests of CPU and memory, or a limit of memory"
            for resource in {*asked, *held}:
                if "/" in resource and asked.get(resource) != held.get(resource):
                    yield f"{where} asks for {asked.get(resource)} {resource} and is limited to {held.get(resource)}"


def ends_are_long_enough(all_: Inventory) -> Iterator[str]:
    for pod in all_.pods:
        grace = pod.spec.get("terminationGracePeriodSeconds", 30)
        for container in pod.containers:
            wait = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            if wait >= grace:
                yield f"{pod.where}: {container['name']} waits {wait} s before it ends, and is killed after {grace} s"
        for name, drain_s in _drains(all_, pod):
            if drain_s >= grace:
                yield f"{pod.where}: {name} has {drain_s:g} s for what it does, and is killed after {grace} s"


def _drains(all_: Inventory, pod: Pod) -> Iterator[tuple[str, float]]:
    """The pod's containers that run inhouse with a file of the tree, and how long it says that they finish."""
    files = {name: text for one in all_.of("ConfigMap") for name, text in one.get("data", {}).items()}
    for container in pod.containers:
        args = [str(word) for word in container.get("args", ())]
        if "--config" in args[:-1]:
            told = files.get(args[args.index("--config") + 1].rpartition("/")[2])
            drain = (yaml.safe_load(told) or {}).get("gateway", {}).get("drain") if told else None
            if drain is not None:
                yield container["name"], parse_duration(drain)


def images_are_pinned(all_: Inventory) -> Iterator[str]:
    for pod in all_.pods:
        for container in pod.containers:
            image = container.get("image", "")
            tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
            if "@sha256:" not in image and tag in ("", "latest"):
                yield f"{pod.where}: {container['name']} runs {image or 'no image'}, which is another one tomorrow"


def rollouts_can_move(all_: Inventory) -> Iterator[str]:
    for one in all_.of("Deployment"):
        rolling = one["spec"].get("strategy", {}).get("rollingUpdate", {})
        if rolling and rolling.get("maxUnavailable") in (0, "0%") and rolling.get("maxSurge") in (0, "0%"):
            yield f"{named(one)}: neither one more pod nor one less: it can never change"
        mounted = [v["persistentVolumeClaim"]["claimName"] for v in _volumes(one) if "persistentVolumeClaim" in v]
        for claim in all_.of("PersistentVolumeClaim"):
            if claim["metadata"]["name"] in mounted and claim["spec"]["accessModes"] == ["ReadWriteOnce"]:
                if one["spec"].get("replicas", 1) > 1:
                    yield f"{named(one)}: its pods cannot all hold the volume {claim['metadata']['name']}"
                elif one["spec"].get("strategy", {}).get("type") != "Recreate":
                    yield f"{named(one)}: its next pod waits for a volume that this one holds; use Recreate"


def values_are_known(all_: Inventory) -> Iterator[str]:
    for one in all_.objects:
        yield from _meta(one)
        for path, value in walk(one):
            key = path[-1] if path else ""
            where = f"{named(one)}: {'.'.join(path)}"
            if key in _CHOICES and isinstance(value, str) and value not in _CHOICES[key]:
                yield f"{where} is {value!r}, which is none of {', '.join(sorted(_CHOICES[key]))}"
            if key in _CHOICES_OF_LISTS and isinstance(value, list) and not set(value) <= _CHOICES_OF_LISTS[key]:
                yield f"{where} is {value}, which are not all of {', '.join(sorted(_CHOICES_OF_LISTS[key]))}"
            if key in _PORTS and isinstance(value, int) and not 1 <= value <= 65535:
                yield f"{where} is {value}, which is no port"
            if key == "containerPort" and _port_name(one, path) is False:
                yield f"{where}: the port's name is not one of at most 15 small letters, digits and -"
            if path[-3:-1] in (("resources", "requests"), ("resources", "limits")) and not _QUANTITY.fullmatch(
                str(value)
            ):
                yield f"{where} is {value!r}, which is no quantity"


def namespaces_agree(all_: Inventory) -> Iterator[str]:
    spaces = {one["metadata"]["name"] for one in all_.of("Namespace")}
    for one in all_.objects:
        space = one["metadata"].get("namespace")
        if (
            space is not None
            and spaces
            and space not in spaces
            and one.get("kind") not in ("Application", "AppProject")
        ):
            yield f"{named(one)}: is in namespace {space}, which is not made here"


def _meta(one: dict[str, Any]) -> Iterator[str]:
    meta = one.get("metadata", {})
    name = str(meta.get("name", ""))
    form = _LABEL if one.get("kind") in _SERVICE_KINDS else _SUBDOMAIN
    if not form.fullmatch(name):
        yield f"{named(one)}: {name!r} is no name of Kubernetes"
    for path, value in walk(one):
        if path and path[-1] in ("labels", "matchLabels") and isinstance(value, dict):
            for label, text in value.items():
                if not isinstance(text, str) or not _LABEL_VALUE.fullmatch(text):
                    yield f"{named(one)}: label {label} is {text!r}, which is no value of a label"
        texts = path and path[-1] in ("annotations", "nodeSelector") and isinstance(value, dict)
        if texts and not all(isinstance(text, str) for text in value.values()):
            yield f"{named(one)}: {'.'.join(path)} has a value that is no text"


def _port_name(one: dict[str, Any], path: tuple[str, ...]) -> bool | None:
    value: Any = one
    for key in path[:-1]:
        value = value[int(key)] if isinstance(value, list) else value[key]
    name = value.get("name")
    return None if name is None else bool(_PORT_NAME.fullmatch(name))


def _volumes(one: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = one["spec"]["template"]["spec"].get("volumes", [])
    return found
