"""What `helm test` runs: a pod that asks the gateway whether it can answer, and its way through a closed network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from inhouse.deploy import gateway, pods
from inhouse.deploy.site import Site

COMPONENT = "test"
_ASK = """\
import sys, time, urllib.request
for left in range(30, -1, -1):
    try:
        print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())
        break
    except OSError as error:
        if not left:
            raise SystemExit(f"not ready: {error}")
        time.sleep(2)
"""
_TIME_S = 300


def way(site: Site) -> dict[str, Any]:
    """Out to the gateway, where everything is closed that is not opened."""
    to = {"to": [{"podSelector": {"matchLabels": site.labels(gateway.COMPONENT)}}]}
    rule = to | {"ports": [{"protocol": "TCP", "port": "http"}]}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": site.meta(f"{site.name}-test", COMPONENT, annotations=_hook("-5", "before-hook-creation")),
        "spec": {
            "podSelector": {"matchLabels": site.labels(COMPONENT)},
            "policyTypes": ["Egress"],
            "egress": [rule],
        },
    }


def pod(site: Site) -> dict[str, Any]:
    """Asks /health/ready for a minute or so; its end says how it went."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": site.meta(
            f"{site.name}-test", COMPONENT, annotations=_hook("0", "before-hook-creation,hook-succeeded")
        ),
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": _TIME_S,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": pods.pod_security(),
            "containers": [
                {
                    "name": "ready",
                    "image": site.image("gateway"),
                    "command": ["python", "-c", _ASK, f"http://{site.name}/health/ready"],
                    "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "64Mi"}},
                    "securityContext": pods.container_security(),
                }
            ],
        },
    }


def objects(site: Site) -> Iterator[dict[str, Any]]:
    if site.stack.deploy.network_policies:
        yield way(site)
    yield pod(site)


def _hook(weight: str, delete: str) -> dict[str, str]:
    return {"helm.sh/hook": "test", "helm.sh/hook-weight": weight, "helm.sh/hook-delete-policy": delete}
