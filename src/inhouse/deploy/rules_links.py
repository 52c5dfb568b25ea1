"""Rules about what belongs together: selectors and labels, ports, references, budgets, scalers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from inhouse.deploy.inventory import PROXY_PORTS, Inventory, Pod, named, selects, walk
from inhouse.engines.table import ENGINES

_WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job")
_ENGINES = frozenset({"engine", "kserve-container", "main"})
_GATEWAY_PATHS = frozenset({"/health", "/health/live", "/health/ready"})


def selectors_match(all_: Inventory) -> Iterator[str]:
    for one in all_.of("Deployment", "StatefulSet", "DaemonSet"):
        selector, labels = one["spec"].get("selector", {}), one["spec"]["template"]["metadata"].get("labels", {})
        if not selects(selector, labels):
            yield f"{named(one)}: its selector does not take its own pods"
    for one in all_.of("Service"):
        selector = one["spec"].get("selector")
        if selector and not all_.chosen(selector):
            yield f"{named(one)}: no pod has the labels of its selector"
    for one in all_.of("PodDisruptionBudget", "PodMonitor"):
        elsewhere = "namespaceSelector" in one["spec"]
        if not elsewhere and not all_.chosen(one["spec"].get("selector")):
            yield f"{named(one)}: no pod has the labels of its selector"
    for one in all_.of("ServiceMonitor"):
        services = [service["metadata"].get("labels", {}) for service in all_.of("Service")]
        if not any(selects(one["spec"]["selector"], labels) for labels in services):
            yield f"{named(one)}: no Service has the labels of its selector"
    for one in all_.of("NetworkPolicy"):
        chosen = one["spec"].get("podSelector", {})
        if not all_.chosen(chosen) and "cnpg.io/cluster" not in chosen.get("matchLabels", {}):
            yield f"{named(one)}: no pod has the labels of its selector"


def ports_match(all_: Inventory) -> Iterator[str]:
    for one in all_.of("Service"):
        pods = all_.chosen(one["spec"].get("selector")) if one["spec"].get("selector") else []
        for port in one["spec"].get("ports", []):
            target = port.get("targetPort", port["port"])
            if pods and not any(_opens(pod, target) for pod in pods):
                yield f"{named(one)}: its pods open no port {target!r}"
    for pod in all_.pods:
        for container in pod.containers:
            for path, probe in walk(container):
                if path and path[-1] in ("httpGet", "tcpSocket") and not _probed(pod, container, probe["port"]):
                    yield f"{pod.where}: {container['name']} has a probe on {probe['port']!r}, a port it does not open"
    for one in all_.of("NetworkPolicy"):
        chosen = all_.chosen(one["spec"].get("podSelector"))
        for rule in one["spec"].get("ingress", []):
            for port in rule.get("ports", []):
                if chosen and not any(_opens(pod, port["port"]) for pod in chosen):
                    yield f"{named(one)}: its pods open no port {port['port']!r}"
    for one in all_.of("HTTPRoute", "Ingress"):
        for path, value in walk(one["spec"]):
            if path and path[-1] == "backendRefs":
                for backend in value:
                    if backend.get("kind", "Service") == "Service":
                        yield from _served(all_, one, backend["name"], backend.get("port"))
            if path[-2:] == ("backend", "service"):
                port = value["port"]
                yield from _served(all_, one, value["name"], port.get("number", port.get("name")))


def references_exist(all_: Inventory) -> Iterator[str]:
    for pod in all_.pods:
        claims = {claim["metadata"]["name"] for claim in pod.owner["spec"].get("volumeClaimTemplates", [])}
        volumes = {volume["name"] for volume in pod.spec.get("volumes", [])} | claims
        for container in pod.containers:
            for mount in container.get("volumeMounts", []):
                if mount["name"] not in volumes:
                    yield f"{pod.where}: {container['name']} mounts {mount['name']!r}, which is no volume of the pod"
        for kind, name in _named_by(pod.spec):
            if not all_.has(kind, name):
                yield f"{pod.where}: there is no {kind} {name}"
    for one in all_.of("RoleBinding", "ClusterRoleBinding"):
        role = one["roleRef"]
        if not all_.has(role["kind"], role["name"]):
            yield f"{named(one)}: there is no {role['kind']} {role['name']}"
        for subject in one.get("subjects", []):
            if subject["kind"] == "ServiceAccount" and not all_.has("ServiceAccount", subject["name"]):
                yield f"{named(one)}: there is no ServiceAccount {subject['name']}"
    for one in all_.of("ScaledObject", "HorizontalPodAutoscaler"):
        target = one["spec"]["scaleTargetRef"]
        if not all_.has(target.get("kind", "Deployment"), target["name"]):
            yield f"{named(one)}: there is no {target.get('kind', 'Deployment')} {target['name']}"
    for one in all_.of("ScaledObject"):
        for trigger in one["spec"]["triggers"]:
            ref = trigger.get("authenticationRef")
            if ref and not all_.has(ref.get("kind", "TriggerAuthentication"), ref["name"]):
                yield f"{named(one)}: there is no TriggerAuthentication {ref['name']}"
    for one in all_.of("HTTPRoute"):
        for parent in one["spec"].get("parentRefs", []):
            if not all_.has(parent.get("kind", "Gateway"), parent["name"]):
                yield f"{named(one)}: there is no Gateway {parent['name']}"
    for one in all_.of("ExternalSecret"):
        ref = one["spec"]["secretStoreRef"]
        if not all_.has(ref.get("kind", "SecretStore"), ref["name"]):
            yield f"{named(one)}: there is no {ref.get('kind', 'SecretStore')} {ref['name']}"
    for one in all_.of("Certificate"):
        ref = one["spec"]["issuerRef"]
        if not all_.has(ref.get("kind", "Issuer"), ref["name"]):
            yield f"{named(one)}: there is no {ref.get('kind', 'Issuer')} {ref['name']}"


def budgets_leave_room(all_: Inventory) -> Iterator[str]:
    for one in all_.of("PodDisruptionBudget"):
        spec = one["spec"]
        for pod in all_.chosen(spec.get("selector")):
            copies = _least(all_, pod)
            if copies < 2:
                yield f"{named(one)}: {pod.where} has {copies} pod: a budget only keeps its node from being emptied"
            elif spec.get("minAvailable", 0) == "100%" or _number(spec.get("minAvailable", 0)) >= copies:
                yield f"{named(one)}: at least {spec['minAvailable']} of {copies} pods: none may ever leave its node"
            elif spec.get("maxUnavailable", 1) in (0, "0%"):
                yield f"{named(one)}: no pod may ever leave its node"


def one_scaler_each(all_: Inventory) -> Iterator[str]:
    targets = Counter(
        (ref.get("kind", "Deployment"), ref["name"])
        for one in all_.of("ScaledObject", "HorizontalPodAutoscaler")
        for ref in [one["spec"]["scaleTargetRef"]]
    )
    for (kind, name), count in targets.items():
        if count > 1:
            yield f"{kind} {name} has {count} scalers, which would work against each other"


def probes_are_served(all_: Inventory) -> Iterator[str]:
    healths = frozenset(engine.health.decode() for engine in ENGINES.values())
    served_by = {"gateway": _GATEWAY_PATHS, "worker": _GATEWAY_PATHS, **dict.fromkeys(_ENGINES, healths)}
    for pod in all_.pods:
        for container in pod.containers:
            served = served_by.get(container["name"])
            for path, probe in walk(container):
                if path and path[-1] == "httpGet" and served is not None and probe["path"] not in served:
                    yield f"{pod.where}: {container['name']} does not serve {probe['path']}, asked for by its {path[0]}"


def names_are_single(all_: Inventory) -> Iterator[str]:
    seen = Counter((one.get("kind"), one["metadata"].get("namespace"), one["metadata"]["name"]) for one in all_.objects)
    for (kind, _, name), count in seen.items():
        if count > 1:
            yield f"{kind} {name} is there {count} times"


def _named_by(spec: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(kind, name) of all that a pod cannot start without."""
    if "serviceAccountName" in spec:
        yield "ServiceAccount", spec["serviceAccountName"]
    for claim in spec.get("resourceClaims", []):
        if "resourceClaimTemplateName" in claim:
            yield "ResourceClaimTemplate", claim["resourceClaimTemplateName"]
    for volume in spec.get("volumes", []):
        if "configMap" in volume and not volume["configMap"].get("optional"):
            yield "ConfigMap", volume["configMap"]["name"]
        if "secret" in volume and not volume["secret"].get("optional"):
            yield "Secret", volume["secret"]["secretName"]
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
    kinds = {
        "secretKeyRef": "Secret",
        "configMapKeyRef": "ConfigMap",
        "secretRef": "Secret",
        "configMapRef": "ConfigMap",
    }
    for path, value in walk(spec):
        if path and path[-1] in kinds and not value.get("optional"):
            yield kinds[path[-1]], value["name"]


def _served(all_: Inventory, one: dict[str, Any], name: str, port: int | str | None) -> Iterator[str]:
    service = next((service for service in all_.of("Service") if service["metadata"]["name"] == name), None)
    if service is None:
        if not all_.has("Service", name):
            yield f"{named(one)}: there is no Service {name}"
    elif port not in {value for each in service["spec"]["ports"] for value in (each["port"], each.get("name"))}:
        yield f"{named(one)}: Service {name} has no port {port}"


def _opens(pod: Pod, port: int | str) -> bool:
    proxied = pod.owner.get("kind") == "InferenceService" and port in PROXY_PORTS
    return proxied or any(_container_opens(container, port) for container in pod.containers)


def _probed(pod: Pod, container: dict[str, Any], port: int | str) -> bool:
    """A name is that of a port of the container itself, a number may be of any in the pod: they share its address."""
    return _container_opens(container, port) or (isinstance(port, int) and _opens(pod, port))


def _container_opens(container: dict[str, Any], port: int | str) -> bool:
    return any(port in (each.get("name"), each["containerPort"]) for each in container.get("ports", []))


def _least(all_: Inventory, pod: Pod) -> int:
    """The fewest copies of a pod that there are, a scaler's word before the workload's own."""
    for one in all_.of("ScaledObject", "HorizontalPodAutoscaler"):
        name = pod.owner["metadata"]["name"]
        if one["spec"]["scaleTargetRef"]["name"] in (name, f"{name}-predictor"):
            return int(one["spec"].get("minReplicas", one["spec"].get("minReplicaCount", 1)))
    spec = pod.owner["spec"]
    return int(spec.get("replicas", spec.get("predictor", {}).get("minReplicas", 1)))


def _number(value: int | str) -> int:
    return value if isinstance(value, int) else 0
