"""`inhouse.yaml` as the gateway in the cluster reads it: the same stack, but engines are pods and the door is open."""

from __future__ import annotations

import hashlib

from inhouse.config.show import written
from inhouse.deploy import certificates, kserve, state
from inhouse.deploy.launch import replica
from inhouse.deploy.site import HEALTH_PORT, HTTP_PORT, STATE_FOLDER, Site

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
    for lane in site.lanes:
        model = models[lane.model]
        model["endpoints"] = [site.endpoint(lane)]
        model["engine"] = "llama-server" if lane.spec.engine == "llamacpp" else lane.spec.engine
        model |= certificates.settings(site)
        model["slots"] = replica(lane).slots  # as the pods have, whatever the gateway's own machine is
        if site.target == "knative":
            model["slots"] = kserve.slots_of_all(lane)
        scaling = lane.spec.deploy.scaling
        if scaling.by == "keda" and not scaling.pods_min and "load_wait" not in lane.spec.model_fields_set:
            model["load_wait"] = lane.spec.deploy.load_time or lane.spec.start_timeout  # held until a pod is there
    return written(told)


def digest(site: Site) -> str:
    """Changes with the text: pods that carry it start anew when the file is another."""
    return hashlib.sha256(text(site).encode()).hexdigest()[:16]
