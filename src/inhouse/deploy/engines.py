"""The engine's pods of each model: weights fetched first, then the engine with the flags that it has on one machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from inhouse.deploy import certificates, gateway, pods, scraping
from inhouse.deploy.launch import Launch, cpus_of, engine_of, gpus_of, launch
from inhouse.deploy.site import ENGINE_PORT, MODELS_FOLDER, OPEN_PORT, Lane, Site
from inhouse.deploy.text import bare, why

COMPONENT = "engine"


def component_of(lane: Lane) -> str:
    """Who its pods are to the network: engines, or workers with an engine inside."""
    return "worker" if lane.queued else COMPONENT


_GPU = {
    "nvidia": "nvidia.com/gpu",
    "amd": "amd.com/gpu",
    "intel-i915": "gpu.intel.com/i915",
    "intel-xe": "gpu.intel.com/xe",
}


def volumes(site: Site) -> Iterator[Any]:
    """Where weights lie, for each model whose pods share a volume or have one."""
    for lane in site.lanes:
        if _claimed(lane):
            shared = lane.spec.deploy.volume == "shared"
            claim = _claim(site, lane, "ReadWriteMany" if shared else "ReadWriteOnce")
            sentence = "All pods read the same copy; the first one fetches it, the others wait for its lock."
            yield why(claim, sentence) if shared else claim


def workloads(site: Site) -> Iterator[Any]:
    """One for each model; for a sidecar the one pod of gateway and engine."""
    for lane in site.reached:
        if site.sidecar:
            yield one_pod(site, lane)
        elif lane.spec.deploy.nodes > 1:
            yield _several_nodes(site, lane)
        else:
            yield workload(site, lane)
            yield from claims_of_devices(site, lane)


def services(site: Site) -> Iterator[Any]:
    """Headless: the gateway chooses the pod, no Service does it a second time."""
    for lane in site.reached:
        if site.sidecar:
            continue
        yield {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": site.meta(site.service(lane), COMPONENT, lane),
            "spec": {
                "clusterIP": why("None", "requests go to pods by the gateway's choice"),
                "selector": selector(site, lane),
                "ports": [_port(site)],
            },
        }


def _port(site: Site) -> dict[str, Any]:
    if site.certified:
        return {"name": "http", "port": ENGINE_PORT, "targetPort": ENGINE_PORT, "appProtocol": "https"}
    return {"name": "http", "port": ENGINE_PORT, "targetPort": "http", "appProtocol": "http"}


def budgets(site: Site) -> Iterator[Any]:
    """Nodes are emptied one engine at a time."""
    for lane in site.reached:
        scaling = lane.spec.deploy.scaling
        least = lane.spec.deploy.replicas if scaling.by == "none" else scaling.pods_min
        if least > 1 and not lane.spec.deploy.spot and not site.sidecar:
            yield {
                "apiVersion": "policy/v1",
                "kind": "PodDisruptionBudget",
                "metadata": site.meta(lane.name, COMPONENT, lane),
                "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector(site, lane)}},
            }


def one_pod(site: Site, lane: Lane) -> dict[str, Any]:
    """Gateway and engine together: they speak over the pod's own loopback."""
    engine = beside(_container(site, lane, launch(site, lane)), "it ends after the gateway has finished its streams")
    return gateway.workload(
        site,
        containers=[gateway.container(site)],
        volumes=[*gateway.volumes(site), *_volumes(site, lane)],
        init=[*fetching(site, lane), engine],
        recreate=True,
        beside=lane.spec.deploy.placement,
    )


def beside(engine: dict[str, Any], sentence: str) -> dict[str, Any]:
    """An engine that another container of the pod stands in front of: a sidecar, for that is what ends last.

    It listens on the pod's loopback, where only a command in the container can probe it: the other one's readiness
    speaks for both.
    """
    made = {key: value for key, value in engine.items() if key not in _SEEN_FROM_OUTSIDE or "exec" in bare(value)}
    return {"name": made.pop("name"), "image": made.pop("image"), "restartPolicy": why("Always", sentence), **made}


_SEEN_FROM_OUTSIDE = ("startupProbe", "readinessProbe", "livenessProbe", "ports", "lifecycle")


def workload(site: Site, lane: Lane) -> dict[str, Any]:
    """A Deployment, or a StatefulSet where each pod has a volume of its own."""
    spec = lane.spec.deploy
    labels = site.labels(component_of(lane), lane)
    stateful = is_stateful(lane)
    own_volume = stateful and spec.volume == "pvc" and not spec.weights_image
    more: dict[str, Any] = {}
    if stateful:
        more = {"serviceName": lane.name, "podManagementPolicy": "Parallel"}
    else:
        more["progressDeadlineSeconds"] = int(load_s(lane)) + 120
        more["strategy"] = strategy(lane)
    if own_volume:
        claim = _claim(site, lane, "ReadWriteOnce")
        more["volumeClaimTemplates"] = [
            {"metadata": {"name": "models", "labels": labels}, "spec": claim["spec"]},
        ]
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet" if stateful else "Deployment",
        "metadata": site.meta(lane.name, component_of(lane), lane),
        "spec": {
            **_replicas(lane),
            **more,
            "selector": {"matchLabels": labels},
            "template": template(site, lane),
        },
    }


def strategy(lane: Lane) -> Any:
    """How a Deployment's pods give way to the next version."""
    # the volume of one node holds one pod: a second one beside it could wait for ever
    if _claimed(lane) and lane.spec.deploy.volume == "pvc":
        return why({"type": "Recreate"}, "the volume belongs to one node, and one pod at a time")
    surge = 0 if gpus_of(lane) else 1  # so could one for a GPU that no second pod will find free
    return {
        "type": "RollingUpdate",
        "rollingUpdate": {
            "maxUnavailable": why(1, "a GPU is free only when a pod has left it") if not surge else 0,
            "maxSurge": surge,
        },
    }


def _replicas(lane: Lane) -> dict[str, int]:
    """Left out where a scaler says: else every apply would set it back."""
    return {} if lane.spec.deploy.scaling.by != "none" else {"replicas": lane.spec.deploy.replicas}


def _several_nodes(site: Site, lane: Lane) -> Any:
    spec = lane.spec.deploy
    return why(
        {
            "apiVersion": "leaderworkerset.x-k8s.io/v1",
            "kind": "LeaderWorkerSet",
            "metadata": site.meta(lane.name, COMPONENT, lane),
            "spec": {
                **_replicas(lane),
                "leaderWorkerTemplate": {
                    "size": spec.nodes,
                    "restartPolicy": why("RecreateGroupOnPodRestart", "one lost node is the loss of the group"),
                    "leaderTemplate": template(site, lane, role="leader"),
                    "workerTemplate": template(site, lane, role="worker"),
                },
            },
        },
        "One copy of the model spans several nodes; the leader answers, the workers follow it.",
    )


def target(site: Site, lane: Lane) -> dict[str, str]:
    """What a scaler scales."""
    if site.target == "kserve" and not lane.queued:
        return {"apiVersion": "apps/v1", "kind": "Deployment", "name": f"{lane.name}-predictor"}
    if lane.spec.deploy.nodes > 1:
        return {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "name": lane.name}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet" if is_stateful(lane) else "Deployment", "name": lane.name}


def selector(site: Site, lane: Lane) -> dict[str, str]:
    """Of several nodes only the leader answers requests."""
    return site.labels(component_of(lane), lane) | (
        {"inhouse.dev/role": "leader"} if lane.spec.deploy.nodes > 1 else {}
    )


def template(site: Site, lane: Lane, *, role: str = "") -> dict[str, Any]:
    """The pod, with its labels and notes."""
    spec = lane.spec.deploy
    labels = site.labels(component_of(lane), lane) | ({"inhouse.dev/role": role} if role else {})
    start = launch(site, lane, role=role)
    pod: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pods.pod_security(user=start.user),
        **pods.placement(spec.placement, spot=spec.spot),
        "topologySpreadConstraints": pods.spread(site.labels(component_of(lane), lane)),
        **pods.grace(lane.spec.total_timeout if not spec.spot else min(lane.spec.total_timeout, 90)),
    }
    if spec.device_class and gpus_of(lane):
        pod["resourceClaims"] = [{"name": "gpus", "resourceClaimTemplateName": f"{lane.name}-gpus"}]
    pod |= {
        "initContainers": [
            *fetching(site, lane),
            *([certificates.door(site, lane)] if _has_door(site, lane, start) else []),
        ],
        "containers": [_container(site, lane, start)],
        "volumes": _volumes(site, lane),
    }
    if _has_door(site, lane, start):
        pod["volumes"] = [*pod["volumes"], certificates.volume(certificates.of_engine(lane))]
    if not pod["initContainers"]:
        del pod["initContainers"]
    notes = {"inhouse.dev/model": lane.model, **scraping.of_engine(site, engine_of(lane).metrics)}
    return {"metadata": {"labels": labels, "annotations": notes}, "spec": pod}


def _has_door(site: Site, lane: Lane, start: Launch) -> bool:
    """A follower on another node answers nobody, and an engine with a worker only that."""
    return site.certified and start.ready is not None and not lane.queued


def _container(site: Site, lane: Lane, start: Launch) -> dict[str, Any]:
    probes: dict[str, Any] = {}
    if start.ready is not None:
        port = OPEN_PORT if site.certified else "http"
        probes = {
            "startupProbe": pods.startup_probe(start.ready, port, within_s=load_s(lane), command=start.started),
            "readinessProbe": pods.http_probe(start.ready, port, every_s=5, failures=2, timeout_s=5),
            "livenessProbe": why(
                pods.http_probe(start.ready, port, every_s=15, failures=8, timeout_s=10),
                "patient: an engine in a long prefill answers late",
            ),
        }
    mounts = [{"name": "models", "mountPath": MODELS_FOLDER, "readOnly": True}]
    mounts += [{"name": "tmp", "mountPath": "/tmp"}, {"name": "cache", "mountPath": start.home}]  # noqa: S108
    if lane.spec.deploy.shared_memory:
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})  # noqa: S108
    found: dict[str, Any] = {"name": "engine", "image": start.image}
    if start.command:
        found["command"] = list(start.command)
    found |= {
        "args": list(start.args),
        "env": list(start.env),
        "ports": [{"name": "http", "containerPort": ENGINE_PORT}],
        **probes,
        "lifecycle": pods.leave(),
        "resources": _resources(lane),
        "securityContext": pods.container_security(),
        "volumeMounts": mounts,
    }
    if site.certified:
        del found["ports"]
    return found


def _resources(lane: Lane) -> dict[str, Any]:
    spec = lane.spec.deploy
    memory = pods.quantity(spec.memory)
    cpu, gpus = spec.cpu or str(cpus_of(lane)), gpus_of(lane)
    asked: dict[str, Any] = {"cpu": cpu, "memory": memory}
    held: dict[str, Any] = {"memory": memory}
    found: dict[str, Any] = {"requests": asked, "limits": held}
    if gpus and spec.device_class:
        found["claims"] = [{"name": "gpus"}]
    elif gpus:
        resource = f"nvidia.com/mig-{spec.mig_profile}" if spec.mig_profile else _GPU[spec.gpu_vendor]
        asked[resource] = gpus
        held[resource] = why(gpus, "whole devices: a limit equals what is asked for")
    return found


def fetching(site: Site, lane: Lane) -> list[Any]:
    """Fetches the weights before the engine starts: whole, checked, once for all that share the volume."""
    if lane.spec.deploy.weights_image:
        return []
    return [
        {
            "name": "weights",
            "image": site.image("gateway"),
            "args": ["pull", str(lane.spec.source), "--to", MODELS_FOLDER, *_which(lane)],
            "env": [
                {
                    "name": name,
                    "valueFrom": {
                        "secretKeyRef": why(
                            {"name": site.secret, "key": name, "optional": True}, "only gated or private places ask"
                        )
                    },
                }
                for name in _credentials(str(lane.spec.source))
            ]
            + [{"name": "HOME", "value": "/tmp"}],  # noqa: S108
            "resources": {"requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"memory": "512Mi"}},
            "securityContext": pods.container_security(),
            "volumeMounts": [
                {"name": "models", "mountPath": MODELS_FOLDER},
                {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
            ],
        }
    ]


def _which(lane: Lane) -> list[str]:
    """Which of the files that lie there."""
    flags = [] if "gguf" in engine_of(lane).formats[:1] else ["--safetensors"]
    return flags + (["--sha256", lane.spec.sha256] if lane.spec.sha256 else [])


def _credentials(source: str) -> tuple[str, ...]:
    if source.startswith("s3://"):
        return ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    return ("HF_TOKEN",) if source.startswith("hf://") else ()


def _volumes(site: Site, lane: Lane) -> list[Any]:
    spec = lane.spec.deploy
    found: list[Any] = []
    if spec.weights_image:
        image = {"reference": spec.weights_image, "pullPolicy": "IfNotPresent"}
        found.append({"name": "models", "image": why(image, "weights come as an image, kept by the node")})
    elif _claimed(lane):
        found.append({"name": "models", "persistentVolumeClaim": {"claimName": f"{lane.name}-models"}})
    elif spec.volume == "empty" or not is_stateful(lane):
        found.append({"name": "models", "emptyDir": {"sizeLimit": pods.quantity(spec.volume_size)}})
    if not site.sidecar:
        found.append({"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}})
    found.append({"name": "cache", "emptyDir": {"sizeLimit": "8Gi"}})
    if spec.shared_memory:
        memory = {"medium": "Memory", "sizeLimit": pods.quantity(spec.shared_memory)}
        found.append({"name": "shm", "emptyDir": why(memory, "tensor parallel talks through shared memory")})
    return found


def _claimed(lane: Lane) -> bool:
    """Whether a claim of its own, outside the workload, holds the weights."""
    spec = lane.spec.deploy
    if spec.weights_image or spec.volume == "empty":
        return False
    return spec.volume == "shared" or not is_stateful(lane)


def is_stateful(lane: Lane) -> bool:
    """Whether each pod has a volume of its own."""
    spec = lane.spec.deploy
    most = spec.replicas if spec.scaling.by == "none" else spec.scaling.pods_max
    several = most > 1 and spec.volume == "pvc" and not spec.weights_image
    return spec.workload == "statefulset" or (spec.workload == "auto" and several)


def _claim(site: Site, lane: Lane, mode: str) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "accessModes": [mode],
        "resources": {"requests": {"storage": pods.quantity(lane.spec.deploy.volume_size)}},
    }
    if site.stack.deploy.storage_class:
        spec["storageClassName"] = site.stack.deploy.storage_class
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": site.meta(f"{lane.name}-models", component_of(lane), lane),
        "spec": spec,
    }


def claims_of_devices(site: Site, lane: Lane) -> Iterator[Any]:
    """What a model's pods get GPUs by, where that is dynamic resource allocation."""
    spec = lane.spec.deploy
    if spec.device_class and gpus_of(lane):
        request = {"name": "gpus", "exactly": {"deviceClassName": spec.device_class, "count": gpus_of(lane)}}
        yield why(
            {
                "apiVersion": "resource.k8s.io/v1",
                "kind": "ResourceClaimTemplate",
                "metadata": site.meta(f"{lane.name}-gpus", component_of(lane), lane),
                "spec": {"spec": {"devices": {"requests": [request]}}},
            },
            "GPUs by dynamic resource allocation: each pod gets a claim of its own.",
        )


def load_s(lane: Lane) -> float:
    """Longest time to fetch and load."""
    return lane.spec.deploy.load_time or lane.spec.start_timeout
