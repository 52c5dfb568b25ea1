"""The gateway's pods, and what stands around them: config, services, rights, budget."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from inhouse.config.deploy import PlacementSpec
from inhouse.deploy import certificates, inside, pods, scraping, state
from inhouse.deploy.site import CONFIG_FOLDER, HEALTH_PORT, HTTP_PORT, STATE_FOLDER, Site, shared
from inhouse.deploy.text import why

COMPONENT = "gateway"


def config(site: Site) -> Iterator[Any]:
    """`inhouse.yaml` as the gateway reads it."""
    yield {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": site.meta(f"{site.name}-config", COMPONENT),
        "data": {"inhouse.yaml": inside.text(site)},
    }


def rights(site: Site) -> Iterator[Any]:
    """A name for the gateway, which may watch the addresses of engines and nothing else."""
    watches = watching(site)
    yield {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": site.meta(f"{site.name}-gateway", COMPONENT),
        "automountServiceAccountToken": False,
    }
    if not watches:
        return
    name = f"{site.name}-endpoints"
    yield why(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": site.meta(name, COMPONENT),
            "rules": [{"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}],
        },
        "The gateway sends to the pods of engines, whose addresses are in EndpointSlices; it may read nothing else.",
    )
    yield {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": site.meta(name, COMPONENT),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [
            {"kind": "ServiceAccount", "name": f"{site.name}-gateway", "namespace": site.namespace},
        ],
    }


def watching(site: Site) -> bool:
    """Whether the gateway asks the cluster where engines are."""
    specs = site.stack.models.values()
    named = any(place.startswith("k8s") for spec in specs for place in spec.endpoints)
    looks = site.stack.deploy.discovery == "k8s" and site.target != "knative"
    return named or (not site.sidecar and bool(site.reached) and looks)


def services(site: Site) -> Iterator[Any]:
    """One address for clients, and one that names every pod."""
    ports = [{"name": "http", "port": 80, "targetPort": "http", "appProtocol": "http"}]
    selector = site.labels(COMPONENT)
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": site.meta(site.name, COMPONENT),
        "spec": {"selector": selector, "ports": ports} | _affinity(site),
    }
    yield why(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": site.meta(f"{site.name}-pods", COMPONENT),
            "spec": {
                "clusterIP": "None",
                "selector": selector,
                "ports": [{"name": "http", "port": HTTP_PORT, "targetPort": "http", "appProtocol": "http"}],
            },
        },
        "Headless: every pod by itself, for whoever reads the metrics of each.",
    )


def _affinity(site: Site) -> dict[str, Any]:
    if not site.stack.deploy.traffic.session_affinity or site.gateways < 2:
        return {}
    return {"sessionAffinity": why("ClientIP", "a client stays with one gateway; no function needs it")}


def budget(site: Site) -> Iterator[Any]:
    """Nodes are emptied one gateway at a time."""
    if site.gateways < 2:
        return
    yield {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": site.meta(site.name, COMPONENT),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": site.labels(COMPONENT)}},
    }


def deployment(site: Site) -> Iterator[Any]:
    """The pods. Where the engine is a sidecar they are `engines.one_pod`."""
    if not site.sidecar:
        alone = not shared(site)
        yield workload(site, containers=[container(site)], volumes=volumes(site), init=[], recreate=alone)


def workload(
    site: Site,
    *,
    containers: list[Any],
    volumes: list[Any],
    init: list[Any],
    recreate: bool = False,
    beside: PlacementSpec | None = None,
) -> dict[str, Any]:
    """`beside`: where the engine in the same pod may run, which the pod is held to as well."""
    spec = site.stack.deploy.gateway
    where = spec.placement if beside is None else pods.both(spec.placement, beside)
    labels = site.labels(COMPONENT)
    rolling = {
        "type": "RollingUpdate",
        "rollingUpdate": {
            "maxUnavailable": why(0, "a pod leaves only when its successor answers"),
            "maxSurge": 1,
        },
    }
    alone = why({"type": "Recreate"}, "one pod at a time can hold the volume")
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": site.meta(site.name, COMPONENT),
        "spec": {
            **({} if spec.replicas_max else {"replicas": site.gateways}),
            "strategy": alone if recreate else rolling,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {
                        "inhouse.dev/config": why(
                            inside.digest(inside.text(site)), "changes with the ConfigMap: new config, new pods"
                        ),
                        **scraping.of_gateway(site),
                    },
                },
                "spec": {
                    "serviceAccountName": f"{site.name}-gateway",
                    "automountServiceAccountToken": watching(site),
                    "enableServiceLinks": False,
                    "securityContext": pods.pod_security(),
                    **pods.placement(where),
                    "topologySpreadConstraints": pods.spread(labels),
                    **pods.grace(site.drain_s),
                    **({"initContainers": init} if init else {}),
                    "containers": containers,
                    "volumes": volumes,
                },
            },
        },
    }


def container(site: Site) -> dict[str, Any]:
    """The gateway itself."""
    spec = site.stack.deploy.gateway
    return {
        "name": "gateway",
        "image": site.image("gateway"),
        "args": ["serve", "--config", f"{CONFIG_FOLDER}/inhouse.yaml"],
        "env": variables(site),
        "ports": [
            {"name": "http", "containerPort": HTTP_PORT},
            {"name": "health", "containerPort": HEALTH_PORT},
        ],
        "startupProbe": pods.startup_probe("/health/live", "health", within_s=60),
        "readinessProbe": why(
            pods.http_probe("/health/ready", "http", every_s=5, failures=2), "ready: it can admit a request"
        ),
        "livenessProbe": why(
            pods.http_probe("/health/live", "health", every_s=10, failures=6, timeout_s=5),
            "on a thread of its own: a busy gateway is not a dead one",
        ),
        "lifecycle": pods.leave(),
        "resources": {
            "requests": {"cpu": spec.cpu, "memory": pods.quantity(spec.memory)},
            "limits": why({"memory": pods.quantity(spec.memory)}, "no limit of CPU: it would only add latency"),
        },
        "securityContext": pods.container_security(),
        "volumeMounts": [
            {"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True},
            *([certificates.mount()] if _shows_certificate(site) else []),
            {"name": "state", "mountPath": STATE_FOLDER},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - of the pod's own
        ],
    }


def variables(site: Site) -> list[Any]:
    made = state.password(site)
    found = [secret(site, name) for name in site.secrets if made is None or name != made["name"]]
    return found if made is None else [*found, made]


def secret(site: Site, name: str) -> dict[str, Any]:
    """A variable out of the Secret; a missing one keeps the pod from starting, and says so."""
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": site.secret, "key": name}}}


def volumes(site: Site) -> list[Any]:
    return [
        {"name": "config", "configMap": {"name": f"{site.name}-config"}},
        *([certificates.volume(certificates.of_gateway(site))] if _shows_certificate(site) else []),
        _state(site),
        {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
    ]


def _shows_certificate(site: Site) -> bool:
    return site.certified and bool(site.reached)


def _state(site: Site) -> dict[str, Any]:
    if shared(site):
        buffers = why({"sizeLimit": "1Gi"}, "buffers only: what must last is in the stores of the stack")
        return {"name": "state", "emptyDir": buffers}
    claim = why({"claimName": f"{site.name}-state"}, "keys, use and the audit")
    return {"name": "state", "persistentVolumeClaim": claim}
