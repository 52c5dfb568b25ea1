"""Workers of queued models: pods that take jobs from Redis, an engine and `inhouse worker` beside it.

Nobody connects to them, so they have no Service and no budget, and may stand on nodes that vanish: what a worker cannot
finish others go on with. The engine is a sidecar, so that it outlives its worker, which hands back what it has.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from inhouse.deploy import engines, gateway, inside, pods
from inhouse.deploy.site import CONFIG_FOLDER, HEALTH_PORT, Lane, Site
from inhouse.deploy.text import why

COMPONENT = "worker"


def config(site: Site) -> Iterator[Any]:
    """`inhouse.yaml` of each pool, by the name of its pods."""
    if site.workers:
        yield {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": site.meta(_config(site), COMPONENT),
            "data": {f"{lane.name}.yaml": inside.text_of_worker(site, lane) for lane in site.workers},
        }


def workloads(site: Site) -> Iterator[Any]:
    """A Deployment for each pool, or a StatefulSet where each pod has a volume of its own."""
    for lane in site.workers:
        made = engines.workload(site, lane)
        made["spec"]["template"] = _template(site, lane)
        if lane.pool:
            yield why(
                made, f"Workers of {lane.model!r} in the pool {lane.pool!r}: each takes jobs as it has free slots."
            )
        else:
            yield made
        yield from engines.claims_of_devices(site, lane)


def services(site: Site) -> Iterator[Any]:
    """Only where a StatefulSet asks for one."""
    for lane in site.workers:
        if engines.is_stateful(lane):
            yield {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": site.meta(lane.name, COMPONENT, lane),
                "spec": {
                    "clusterIP": why("None", "names for pods; nobody connects to them"),
                    "selector": engines.selector(site, lane),
                    "ports": [{"name": "health", "port": HEALTH_PORT, "targetPort": "health"}],
                },
            }


def _template(site: Site, lane: Lane) -> dict[str, Any]:
    """The pod of an engine, with the worker as what runs in it."""
    made = engines.template(site, lane)
    pod = made["spec"]
    (engine,) = pod["containers"]
    sidecar = engines.beside(engine, "it ends after the worker has handed back its jobs")
    pod["initContainers"] = [*pod.get("initContainers", []), sidecar]
    pod["containers"] = [_worker(site, lane)]
    pod["volumes"] = [{"name": "config", "configMap": {"name": _config(site)}}, *pod["volumes"]]
    if lane.drain_s is not None:
        pod["terminationGracePeriodSeconds"] = why(
            int(lane.drain_s) + pods.LEAVE_S,
            "it hands back what it cannot finish; a node that vanishes gives 30 s or more",
        )
    notes = {key: value for key, value in made["metadata"]["annotations"].items() if not key.startswith("prometheus")}
    changes = why(inside.digest(inside.text_of_worker(site, lane)), "changes with the file: new config, new pods")
    made["metadata"]["annotations"] = {**notes, "inhouse.dev/config": changes, **_scraped(site)}
    return made


def _scraped(site: Site) -> dict[str, str]:
    if site.stack.deploy.observe.metrics != "annotations":
        return {}
    notes = {"scrape": "true", "port": str(HEALTH_PORT), "path": "/metrics"}
    return {f"prometheus.io/{key}": value for key, value in notes.items()}


def _worker(site: Site, lane: Lane) -> dict[str, Any]:
    file = f"{CONFIG_FOLDER}/{lane.name}.yaml"
    return {
        "name": "worker",
        "image": site.image("gateway"),
        "args": ["worker", "--config", file, "--health-host", "0.0.0.0", "--health-port", str(HEALTH_PORT)],  # noqa: S104
        "env": [gateway.secret(site, name) for name in _secrets(site, lane)],
        "ports": [{"name": "health", "containerPort": HEALTH_PORT}],
        "startupProbe": pods.startup_probe("/health/live", "health", within_s=60),
        "readinessProbe": why(
            pods.http_probe("/health/ready", "health", every_s=10, failures=3), "ready: it takes jobs"
        ),
        "livenessProbe": pods.http_probe("/health/live", "health", every_s=10, failures=6, timeout_s=5),
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": pods.container_security(),
        "volumeMounts": [
            {"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - of the pod's own
        ],
    }


def _secrets(site: Site, lane: Lane) -> list[str]:
    """The variables that the worker's file names."""
    told = inside.text_of_worker(site, lane)
    return [name for name in site.secrets if f"env:{name}" in told]


def _config(site: Site) -> str:
    return f"{site.name}-workers"
