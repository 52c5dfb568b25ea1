"""Encryption between pods by a mesh that the cluster has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from inhouse.deploy.site import Site


def strict(site: Site) -> Iterator[Any]:
    """Istio: nobody without a certificate of the mesh is answered."""
    if site.stack.deploy.mesh.mtls == "istio":
        yield {
            "apiVersion": "security.istio.io/v1",
            "kind": "PeerAuthentication",
            "metadata": site.meta(site.name, "network"),
            "spec": {
                # a namespace that others use too is not ours to close
                **({} if site.stack.deploy.own_namespace else {"selector": {"matchLabels": site.common}}),
                "mtls": {"mode": "STRICT"},
            },
        }


def of_namespace(site: Site) -> dict[str, dict[str, str]]:
    """Labels and annotations that bring the mesh into the namespace's pods."""
    if site.stack.deploy.mesh.mtls == "istio":
        return {"labels": {"istio-injection": "enabled"}, "annotations": {}}
    if site.stack.deploy.mesh.mtls == "linkerd":
        return {"labels": {}, "annotations": {"linkerd.io/inject": "enabled"}}
    return {"labels": {}, "annotations": {}}
