"""The way in: Gateway API or Ingress, with a certificate and timeouts that let streams live; pools of the cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from inhouse.deploy import engines, gateway
from inhouse.deploy.site import ENGINE_PORT, Site
from inhouse.deploy.text import why

_CERTIFICATE = "tls"


def certificate(site: Site) -> Iterator[Any]:
    """Made by cert-manager and kept fresh."""
    spec = site.stack.deploy.traffic
    if spec.kind == "none" or spec.issuer is None or spec.gateway is not None:
        return
    yield {
        "apiVersion": "cert-manager.io/v1",
        "kind": "Certificate",
        "metadata": site.meta(site.name, gateway.COMPONENT),
        "spec": {
            "secretName": secret_name(site),
            "dnsNames": [spec.host],
            "issuerRef": {"kind": "ClusterIssuer", "name": spec.issuer},
            "privateKey": {"algorithm": "ECDSA", "rotationPolicy": "Always"},
        },
    }


def door(site: Site) -> Iterator[Any]:
    """The objects that lead clients in."""
    spec = site.stack.deploy.traffic
    if spec.kind == "gateway-api":
        yield from _gateway_api(site)
    elif spec.kind == "ingress":
        yield _ingress(site)


def pools(site: Site) -> Iterator[Any]:
    """The pods of each model for an endpoint picker of the cluster."""
    if not site.stack.deploy.traffic.inference_pool or site.sidecar or site.target == "knative":
        return
    for lane in site.reached:
        yield why(
            {
                "apiVersion": "inference.networking.k8s.io/v1",
                "kind": "InferencePool",
                "metadata": site.meta(lane.name, engines.COMPONENT, lane),
                "spec": {
                    "selector": {"matchLabels": engines.selector(site, lane)},
                    "targetPorts": [{"number": ENGINE_PORT}],
                    "endpointPickerRef": {
                        "name": f"{lane.name}-epp",
                        "port": {"number": 9002},
                        "failureMode": why("FailOpen", "without its picker, the pool still answers"),
                    },
                },
            },
            "For clients that come by the cluster's own gateway; the picker of this name is installed by its chart.",
        )


def tls(site: Site) -> bool:
    spec = site.stack.deploy.traffic
    return spec.issuer is not None or spec.tls_secret is not None


def secret_name(site: Site) -> str:
    return site.stack.deploy.traffic.tls_secret or f"{site.name}-{_CERTIFICATE}"


def longest_s(site: Site) -> int:
    """A request may take as long as the slowest model's `total_timeout`."""
    return int(max(spec.total_timeout for spec in site.stack.models.values())) + 30


def _gateway_api(site: Site) -> Iterator[Any]:
    spec = site.stack.deploy.traffic
    parent: dict[str, Any] = {"name": site.name}
    if spec.gateway is not None:
        namespace, _, name = spec.gateway.partition("/")
        parent = {"namespace": namespace, "name": name}
    else:
        listeners: list[Any] = [_listener(site, "https", 443)] if tls(site) else [_listener(site, "http", 80)]
        yield {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": site.meta(site.name, gateway.COMPONENT),
            "spec": {"gatewayClassName": spec.gateway_class, "listeners": listeners},
        }
    backends: list[Any] = [{"name": site.name, "port": 80}]
    if spec.canary_service is not None:
        backends[0]["weight"] = 100 - spec.canary_percent
        other = {"name": spec.canary_service, "port": 80, "weight": spec.canary_percent}
        backends.append(why(other, "another installation, on trial"))
    yield {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": site.meta(site.name, gateway.COMPONENT),
        "spec": {
            "parentRefs": [parent],
            **({"hostnames": [spec.host]} if spec.host else {}),
            "rules": [
                {
                    "matches": [{"path": {"type": "PathPrefix", "value": path}} for path in PATHS],
                    "timeouts": {
                        "request": why(f"{longest_s(site)}s", "an answer is a stream that may last"),
                        "backendRequest": f"{longest_s(site)}s",
                    },
                    "backendRefs": backends,
                }
            ],
        },
    }


PATHS = ("/v1", "/generate", "/docs", "/openapi.json")
"""What clients may reach from outside: neither metrics nor the admin API."""


def _listener(site: Site, name: str, port: int) -> dict[str, Any]:
    spec = site.stack.deploy.traffic
    found: dict[str, Any] = {"name": name, "port": port, "protocol": name.upper()}
    if spec.host:
        found["hostname"] = spec.host
    if name == "https":
        found["tls"] = {"mode": "Terminate", "certificateRefs": [{"kind": "Secret", "name": secret_name(site)}]}
    return found | {"allowedRoutes": {"namespaces": {"from": "Same"}}}


def _ingress(site: Site) -> dict[str, Any]:
    spec = site.stack.deploy.traffic
    notes: dict[str, Any] = {}
    if "nginx" in spec.ingress_class:
        notes = {
            "nginx.ingress.kubernetes.io/proxy-buffering": why("off", "tokens go out as they come"),
            "nginx.ingress.kubernetes.io/proxy-read-timeout": str(longest_s(site)),
            "nginx.ingress.kubernetes.io/proxy-send-timeout": str(longest_s(site)),
            "nginx.ingress.kubernetes.io/proxy-body-size": str(site.stack.gateway.request_bytes_max),
        }
        if spec.session_affinity:
            notes |= {
                "nginx.ingress.kubernetes.io/affinity": "cookie",
                "nginx.ingress.kubernetes.io/session-cookie-name": site.name,
            }
    backend = {"service": {"name": site.name, "port": {"name": "http"}}}
    rule: dict[str, Any] = {"host": spec.host} if spec.host else {}
    rule["http"] = {"paths": [{"path": path, "pathType": "Prefix", "backend": backend} for path in PATHS]}
    found: dict[str, Any] = {"ingressClassName": spec.ingress_class, "rules": [rule]}
    if tls(site):
        hosts = {"hosts": [spec.host]} if spec.host else {}
        found["tls"] = [{**hosts, "secretName": secret_name(site)}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": site.meta(site.name, gateway.COMPONENT) | ({"annotations": notes} if notes else {}),
        "spec": found,
    }
