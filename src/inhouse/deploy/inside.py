"""`inhouse.yaml` as the gateway in the cluster reads it: the same stack, but engines are pods and the door is open."""

from __future__ import annotations

import hashlib
from typing import Any

from inhouse.config.show import written
from inhouse.deploy import certificates, kserve, state
from inhouse.deploy.launch import engine_of, replica
from inhouse.deploy.site import HEALTH_PORT, HTTP_PORT, STATE_FOLDER, Lane, Site

_HERE_ONLY = frozenset(
    {
        "source",
        "replicas",
        "threads",
        "batch",
        "engine_binary",
        "engine_build",
        "engine_args",
        "gpus",
        "gpu_memory",
        "quantization",
    }
) | {"deploy"}
"""What a model's section says about engines that are started by the gateway's own process."""
_OF_THE_DOOR = frozenset({"limits", "price", "cache", "routing", "external", "failover"})
"""What it says about requests before they are in the queue."""


def text(site: Site) -> str:
    told = site.stack.model_dump(exclude_unset=True)
    told.pop("deploy", None)
    told.get("weights", {}).pop("catalogue", None)  # names are resolved, and the file is not in the pods
    told.setdefault("gateway", {})
    told["gateway"] |= {"host": "0.0.0.0", "port": HTTP_PORT, "health_port": HEALTH_PORT}  # noqa: S104
    told["gateway"]["drain"] = site.drain_s
    told["state_dir"] = STATE_FOLDER
    stores = state.settings(site)
    if stores:
        told["store"] = stores
    told.setdefault("log", {}).setdefault("format", "json")
    models = told.setdefault("models", {name: {} for name in site.stack.models})
    for name in models:
        models[name] = {key: value for key, value in models[name].items() if key not in _HERE_ONLY}
    for lane in site.workers:
        models[lane.model] |= {"engine": engine_of(lane).name, "slots": replica(lane).slots}
        _held(lane, models[lane.model], site)
    for lane in site.reached:
        model = models[lane.model]
        model["endpoints"] = [site.endpoint(lane)]
        model["engine"] = engine_of(lane).name
        model |= certificates.settings(site)
        model["slots"] = replica(lane).slots  # as the pods have, whatever the gateway's own machine is
        if site.target == "knative":
            model["slots"] = kserve.slots_of_all(lane)
        _held(lane, model, site)
    return written(told)


def _held(lane: Lane, model: dict[str, Any], site: Site) -> None:
    """Of a model whose last pod may go: a request waits until one is back."""
    scalings = [one.spec.deploy.scaling for one in site.lanes if one.model == lane.model]
    none = all(one.by == "keda" and not one.pods_min for one in scalings)
    if none and "load_wait" not in lane.spec.model_fields_set:
        model["load_wait"] = lane.spec.deploy.load_time or lane.spec.start_timeout


def text_of_worker(site: Site, lane: Lane) -> str:
    """As the worker beside an engine reads it: the one model, its engine on the pod's loopback, and the queue."""
    told = site.stack.model_dump(exclude_unset=True)
    kept = {key: value for key, value in told["models"][lane.model].items() if key not in _HERE_ONLY | _OF_THE_DOOR}
    host, port = site.inner(lane)
    model = kept | {"endpoints": [f"http://{host}:{port}"], "engine": engine_of(lane).name}
    model["slots"] = replica(lane).slots
    drain_s = lane.spec.total_timeout if lane.drain_s is None else lane.drain_s
    stack = {"models": {lane.model: model}, "queue": told.get("queue", {}), "gateway": {"drain": drain_s}}
    return written(stack | {"log": told.get("log", {}) | {"format": "json"}})


def digest(told: str) -> str:
    """Changes with the text: pods that carry it start anew when the file is another."""
    return hashlib.sha256(told.encode()).hexdigest()[:16]
