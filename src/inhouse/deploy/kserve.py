"""Engines by KServe: the same container with the same flags, inside the object that KServe makes pods of.

The gateway stays ours and in front: KServe makes no way in from outside, and one scaler at most works on a model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from inhouse.deploy import engines
from inhouse.deploy.launch import gpus_of, replica
from inhouse.deploy.site import ENGINE_PORT, Lane, Site
from inhouse.deploy.text import bare, why
from inhouse.errors import StackError

_CONTAINER = "kserve-container"
_STREAM_S_MAX = 600
"""As long as Knative lets a request take, where nobody changed it."""
FLAGS = ("init-containers", "persistent-volume-claim", "persistent-volume-write", "securitycontext")
"""Of Knative's `config-features`, all under `kubernetes.podspec-`; placement needs more."""
_PLACEMENT_FLAGS = ("nodeselector", "tolerations", "affinity", "topologyspreadconstraints", "priorityclassname")


def inference_services(site: Site) -> Iterator[Any]:
    """One for each model: KServe makes a Deployment of it."""
    for lane in site.reached:
        spec = lane.spec.deploy
        pod = _pod(site, lane, _CONTAINER)
        by_us = spec.scaling.by != "none"
        least, most = (max(1, spec.scaling.pods_min), spec.scaling.pods_max) if by_us else (spec.replicas,) * 2
        notes = {
            "serving.kserve.io/deploymentMode": "Standard",
            "serving.kserve.io/autoscalerClass": why(
                "external" if by_us else "none",
                "the scaler of this tree works on the Deployment" if by_us else "the number of pods is fixed",
            ),
        }
        more = {"minReplicas": least, "maxReplicas": most, "deploymentStrategy": engines.strategy(lane)}
        yield _inference_service(site, lane, notes, more | pod)
        yield from engines.claims_of_devices(site, lane)


def knative_services(site: Site) -> Iterator[Any]:
    """As `inference_services`, on Knative, which counts requests itself and scales by them."""
    for lane in site.reached:
        spec, each = lane.spec.deploy, slots(lane)
        least, most = _bounds(lane)
        notes = {
            "serving.kserve.io/deploymentMode": "Knative",
            "serving.knative.dev/progress-deadline": f"{int(engines.load_s(lane)) + 120}s",
            "autoscaling.knative.dev/metric": "concurrency",
            "autoscaling.knative.dev/target": why(str(each), "requests that one pod is for"),
            "autoscaling.knative.dev/min-scale": str(least),
            "autoscaling.knative.dev/max-scale": str(most),
        }
        if spec.scaling.by == "knative":
            notes["autoscaling.knative.dev/window"] = f"{min(3600, max(6, int(spec.scaling.settle)))}s"
        pod = _pod(site, lane, _CONTAINER)
        # what Knative's webhook refuses, because it sees to it itself
        del pod["terminationGracePeriodSeconds"]
        (container,) = pod["containers"]
        del container["lifecycle"]
        container["ports"] = [{"name": why("http1", "Knative knows no other name"), "containerPort": ENGINE_PORT}]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            bare_probe = bare(container[probe])
            if "httpGet" in bare_probe:
                bare_probe["httpGet"]["port"] = ENGINE_PORT
            container[probe] = bare_probe
        more = {
            "minReplicas": least,
            "maxReplicas": most,
            "containerConcurrency": why(each, "a pod is never given more requests than it has slots"),
            "timeout": why(
                min(_STREAM_S_MAX, int(lane.spec.total_timeout)), "Knative cuts a longer answer; its own limit is 600 s"
            ),
        }
        yield _inference_service(site, lane, notes, more | pod)


def llm_inference_services(site: Site) -> Iterator[Any]:
    """One for each model, with a fixed number of pods: its own scaling needs an autoscaler on its way out."""
    for lane in site.reached:
        pod = _pod(site, lane, "main")
        (container,) = pod["containers"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            plain = bare(container[probe])
            if "httpGet" in plain:
                plain["httpGet"]["scheme"] = "HTTP"
            container[probe] = plain
        meta = site.meta(lane.name, engines.COMPONENT, lane)
        yield why(
            {
                "apiVersion": "serving.kserve.io/v1alpha2",
                "kind": "LLMInferenceService",
                "metadata": meta,
                "spec": {
                    "model": {"uri": str(lane.spec.source), "name": lane.model},
                    "storageInitializer": why({"enabled": False}, "the init container fetches and checks the weights"),
                    "replicas": lane.spec.deploy.replicas,
                    "labels": site.labels(engines.COMPONENT, lane),
                    "template": pod,
                },
            },
            "No `router`: the way in is the gateway's, which asks for keys.",
        )
        yield from engines.claims_of_devices(site, lane)


def slots(lane: Lane) -> int:
    """Requests that one pod is for."""
    return lane.spec.deploy.scaling.requests_per_pod or replica(lane).slots


def slots_of_all(lane: Lane) -> int:
    """Requests at once that all pods of a model on Knative bear, which stand behind one address."""
    return replica(lane).slots * _bounds(lane)[1]


def flags(site: Site) -> list[str]:
    """What Knative must be told to allow."""
    found = [*FLAGS, *_PLACEMENT_FLAGS]
    return [f"kubernetes.podspec-{name}" for name in found] if site.reached else []


def check(site: Site) -> None:
    """Raises StackError for what KServe cannot do, or must not."""
    target = site.target
    for lane in site.workers:
        if lane.spec.deploy.scaling.by == "knative":
            where = f"models.{lane.model}.deploy"
            raise StackError(
                f"`{where}` scales workers by knative, which counts requests, and nobody sends them any",
                where=where,
                hint="take `by: keda`, which reads the backlog, or `none`",
            )
    for lane in site.reached:
        spec, where = lane.spec.deploy, f"models.{lane.model}.deploy"
        if (spec.scaling.by == "knative") != (target == "knative") and spec.scaling.by != "none":
            asked = "knative" if target == "knative" else "keda"
            raise StackError(
                f"`{where}.scaling.by` is {spec.scaling.by}, and the target is {target}",
                where=f"{where}.scaling.by",
                hint=f"take `by: {asked}` or `none`: two scalers would work against each other",
            )
        if target == "kubernetes":
            continue
        if site.sidecar or spec.nodes > 1:
            what = "a sidecar" if site.sidecar else "a copy over several nodes"
            raise StackError(
                f"{what} is not rendered for {target}",
                where="deploy.target",
                hint="leave `target` out: plain Kubernetes has it",
            )
        if engines.is_stateful(lane):
            raise StackError(
                f"`{where}`: several pods of KServe cannot each have a volume of their own",
                where=f"{where}.volume",
                hint="take `volume: shared` (one copy for all pods) or `empty` (fetched for each)",
            )
        if target == "knative":
            _check_knative(lane, where)
        elif site.llm and spec.scaling.by != "none":
            raise StackError(
                f"`{where}.scaling`: an LLMInferenceService has a fixed number of pods here",
                where=f"{where}.scaling.by",
                hint="say `replicas`, or take `deploy.kserve_kind: InferenceService`",
            )


def _check_knative(lane: Lane, where: str) -> None:
    spec = lane.spec.deploy
    if not _bounds(lane)[0]:
        raise StackError(
            f"`{where}`: the last pod on Knative would never go, as the gateway asks each engine for its health",
            where=f"{where}.scaling.pods_min",
            hint="take `pods_min: 1`; with `by: keda` on plain Kubernetes or kserve the last pod does go",
        )
    for key, value in (("device_class", spec.device_class), ("weights_image", spec.weights_image)):
        if value is not None and (key != "device_class" or gpus_of(lane)):
            raise StackError(
                f"`{where}.{key}`: Knative does not let pods have it",
                where=f"{where}.{key}",
                hint="leave it out, or take `target: kserve`",
            )


def _bounds(lane: Lane) -> tuple[int, int]:
    """The fewest pods and the most."""
    spec = lane.spec.deploy
    if spec.scaling.by == "none":
        return spec.replicas, max(1, spec.replicas)
    return spec.scaling.pods_min, spec.scaling.pods_max


def _pod(site: Site, lane: Lane, container: str) -> dict[str, Any]:
    """The pod of plain Kubernetes, with the name that KServe looks for."""
    pod = dict(engines.template(site, lane)["spec"])
    (made,) = pod["containers"]
    pod["containers"] = [{**made, "name": container}]
    return pod


def _inference_service(site: Site, lane: Lane, notes: dict[str, Any], predictor: dict[str, Any]) -> dict[str, Any]:
    meta = site.meta(lane.name, engines.COMPONENT, lane)
    inside = why("cluster-local", "no way in past the gateway, which asks for keys")
    meta["labels"] = {**meta["labels"], "networking.kserve.io/visibility": inside}
    made = engines.template(site, lane)["metadata"]
    # on Knative a proxy is between, and nobody outside reaches the engine's own port
    notes_of_pods = {} if site.target == "knative" else {"annotations": made["annotations"]}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": meta | {"annotations": notes},
        "spec": {"predictor": {"labels": made["labels"], **notes_of_pods, **predictor}},
    }
