"""Who reads the metrics of gateways, engines and GPUs. Logs need nothing: they are JSON on standard error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from inhouse.deploy import engines, gateway, workers
from inhouse.deploy.launch import engine_of
from inhouse.deploy.site import Site


def monitors(site: Site) -> Iterator[Any]:
    """For the Prometheus operator: every pod by itself."""
    spec = site.stack.deploy.observe
    if spec.metrics != "monitors":
        return
    yield _monitor(site, site.name, gateway.COMPONENT, "/metrics", site.labels(gateway.COMPONENT))
    for lane in site.workers:
        one = _monitor(site, lane.name, workers.COMPONENT, "/metrics", engines.selector(site, lane))
        one["spec"]["podMetricsEndpoints"][0]["port"] = "health"
        yield one
    for lane in site.reached:
        paths = engine_of(lane).metrics
        if paths and not site.sidecar and site.target != "knative":  # whose proxy is between
            one = _monitor(site, lane.name, engines.COMPONENT, paths[0].decode(), engines.selector(site, lane))
            if site.certified:
                one["spec"]["podMetricsEndpoints"][0]["port"] = "open"
            yield one
    if spec.dcgm:
        one = _monitor(site, f"{site.name}-gpus", gateway.COMPONENT, "/metrics", {"app": "nvidia-dcgm-exporter"})
        one["spec"]["namespaceSelector"] = {"matchNames": [spec.dcgm_namespace]}
        one["spec"]["podMetricsEndpoints"][0]["port"] = "metrics"
        yield one


def _monitor(site: Site, name: str, component: str, path: str, labels: dict[str, str]) -> dict[str, Any]:
    spec = site.stack.deploy.observe
    meta = site.meta(name, component)
    if spec.release:
        meta["labels"] |= {"release": spec.release}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": meta,
        "spec": {
            "selector": {"matchLabels": labels},
            "podMetricsEndpoints": [{"port": "http", "path": path, "interval": f"{int(spec.interval)}s"}],
        },
    }
