"""How many pods: by KEDA on what waits and runs at the gateways, or by the cluster's own autoscaler; never by both."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from inhouse.config.scaling import HOURS, ScalingSpec
from inhouse.deploy import engines, gateway
from inhouse.deploy.launch import replica
from inhouse.deploy.site import HTTP_PORT, Lane, Site
from inhouse.deploy.text import why

_CRON_DAYS = {"Sun": 0, "Mon": 1, "Tue": 2, "Wed": 3, "Thu": 4, "Fri": 5, "Sat": 6}
_GATEWAY_CPU_PERCENT = 70
_AHEAD_S = 900


def of_gateways(site: Site) -> Iterator[Any]:
    """Gateways cost CPU in proportion to their requests: that is a fair measure for them."""
    spec = site.stack.deploy.gateway
    if spec.replicas_max is None:
        return
    yield {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": site.meta(site.name, gateway.COMPONENT),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": site.name},
            "minReplicas": site.gateways,
            "maxReplicas": spec.replicas_max,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {
                        "name": "cpu",
                        "target": {"type": "Utilization", "averageUtilization": _GATEWAY_CPU_PERCENT},
                    },
                }
            ],
            "behavior": _behavior(300),
        },
    }


def of_engines(site: Site) -> Iterator[Any]:
    """One scaler for each model, or pool of workers, that has one."""
    yield from of_lanes(site, site.lanes)


def of_lanes(site: Site, lanes: Iterable[Lane]) -> Iterator[Any]:
    for lane in lanes:
        spec = lane.spec.deploy.scaling
        if spec.by == "keda":
            yield _scaled_object(site, lane)
        elif spec.by == "hpa":
            yield _autoscaler(site, lane)


def _scaled_object(site: Site, lane: Lane) -> dict[str, Any]:
    spec = lane.spec.deploy.scaling
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": site.meta(lane.name, engines.component_of(lane), lane),
        "spec": {
            "scaleTargetRef": engines.target(site, lane),
            "minReplicaCount": spec.pods_min,
            "maxReplicaCount": spec.pods_max,
            "pollingInterval": 10,
            "cooldownPeriod": why(int(spec.idle), "from one pod to none"),
            "fallback": why(
                {
                    "failureThreshold": 3,
                    "replicas": max(1, lane.spec.deploy.replicas),
                    "behavior": "currentReplicasIfHigher",
                },
                "without a measure, pods stay",
            ),
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behavior(spec.settle)}},
            "triggers": list(_triggers(site, lane)),
        },
    }


def _triggers(site: Site, lane: Lane) -> Iterator[Any]:
    spec = lane.spec.deploy.scaling
    each = per_pod(lane)
    if spec.metric == "prometheus":
        yield _prometheus(spec, _load(site, lane), each, _borne(site, lane))
    else:
        address = f"http://{site.name}-pods.{site.namespace}.svc:{HTTP_PORT}/health/backlog"
        yield why(
            {
                "type": "metrics-api",
                "metadata": {
                    "url": address,
                    "valueLocation": f"models.{_escaped(lane.model)}{'.queue' if lane.queued else ''}.requests",
                    "targetValue": str(each),
                    "activationTargetValue": str(_borne(site, lane)),
                    "aggregateFromKubeServiceEndpoints": "true",
                    "aggregationType": "max" if lane.queued else "sum",
                },
            },
            "Requests that wait or run at any gateway or worker, per pod; each gateway tells all of them."
            if lane.queued
            else "Requests that wait or run, over all gateways, per pod. The queue is there without any pod too.",
        )
    for row in spec.office_hours:
        yield _hours(spec, row)
    if spec.forecast:
        load = _load(site, lane)
        day = 86400
        past = [f"max_over_time({load}[30m:1m] offset {day * ago - _AHEAD_S}s) or vector(0)" for ago in (1, 7)]
        query = f"({past[0]}) > ({past[1]}) or ({past[1]})"
        yield why(_prometheus(spec, query, each), "The larger of yesterday and a week ago, a quarter of an hour ahead.")


def _borne(site: Site, lane: Lane) -> int:
    """Requests that the model's other pools bear with the pods that always stay: below it this one is not asked for."""
    others = (one for one in site.workers if one.model == lane.model and one.name != lane.name)
    scalings = ((one, one.spec.deploy.scaling) for one in others)
    return sum(
        per_pod(one) * (one.spec.deploy.replicas if scaling.by == "none" else scaling.pods_min)
        for one, scaling in scalings
    )


def _prometheus(spec: ScalingSpec, query: str, each: int, borne: int = 0) -> dict[str, Any]:
    return {
        "type": "prometheus",
        "metadata": {
            "serverAddress": str(spec.prometheus),
            "query": query,
            "threshold": str(each),
            "activationThreshold": str(borne),
            "ignoreNullValues": "false",
        },
    }


def _load(site: Site, lane: Lane) -> str:
    """PromQL of what waits and runs for this model in this installation and nowhere else."""
    chosen = f'{{namespace="{site.namespace}",model="{lane.model}"}}'
    if lane.queued:
        return f"max(inhouse_job_queue_requests{chosen})"  # each gateway knows of all
    return f"sum(inhouse_requests_waiting{chosen} + inhouse_requests_in_service{chosen})"


def _hours(spec: ScalingSpec, row: str) -> dict[str, Any]:
    match = HOURS.fullmatch(row)
    assert match is not None  # noqa: S101 - the config has seen to it
    days, from_hour, from_minute, to_hour, to_minute, pods = match.groups()
    on = "-".join(str(_CRON_DAYS[day]) for day in days.split("-"))
    return {
        "type": "cron",
        "metadata": {
            "timezone": spec.timezone,
            "start": f"{int(from_minute)} {int(from_hour)} * * {on}",
            "end": f"{int(to_minute)} {int(to_hour)} * * {on}",
            "desiredReplicas": pods,
        },
    }


def _autoscaler(site: Site, lane: Lane) -> Any:
    spec = lane.spec.deploy.scaling
    external = {
        "metric": {"name": "inhouse_requests", "selector": {"matchLabels": {"model": lane.model}}},
        "target": {"type": "AverageValue", "averageValue": str(per_pod(lane))},
    }
    return why(
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": site.meta(lane.name, engines.component_of(lane), lane),
            "spec": {
                "scaleTargetRef": engines.target(site, lane),
                "minReplicas": spec.pods_min,
                "maxReplicas": spec.pods_max,
                "metrics": [{"type": "External", "external": external}],
                "behavior": _behavior(spec.settle),
            },
        },
        f"An adapter gives the metric: inhouse_requests = {_load(site, lane)}",
    )


def _behavior(settle_s: float) -> dict[str, Any]:
    """Up at once, at most twofold a minute; down one by one, after a while."""
    double = {"type": "Percent", "value": 100, "periodSeconds": 60}
    some = {"type": "Pods", "value": 2, "periodSeconds": 60}
    return {
        "scaleUp": {"stabilizationWindowSeconds": 0, "policies": [double, some], "selectPolicy": "Max"},
        "scaleDown": {
            "stabilizationWindowSeconds": why(int(settle_s), "a pod that goes takes warm caches with it"),
            "policies": [{"type": "Pods", "value": 1, "periodSeconds": 120}],
        },
    }


def per_pod(lane: Lane) -> int:
    """Requests that one pod is for."""
    return lane.spec.deploy.scaling.requests_per_pod or replica(lane).slots


def _escaped(key: str) -> str:
    """A key as a part of a GJSON path."""
    return re.sub(r"([^A-Za-z0-9_-])", r"\\\1", key)
