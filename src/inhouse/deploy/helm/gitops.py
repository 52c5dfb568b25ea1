"""What applies a chart from a repository: Argo CD, which is told that it is a release, or Flux's HelmRelease."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from inhouse.deploy import gitops, security
from inhouse.deploy.helm.places import copied, inside
from inhouse.deploy.site import Site
from inhouse.deploy.text import bare, why


def application(site: Site) -> Iterator[Any]:
    """The objects of the one that is chosen. Raises StackError."""
    spec = site.stack.deploy.gitops
    path = spec.path if "path" in spec.model_fields_set else "."
    for one in map(copied, gitops.application(site)):
        kind = inside(one, "kind")
        if kind == "Application":
            inside(one, "spec")["source"] |= {"path": path, "helm": {"releaseName": site.name}}
            policy = inside(one, "spec", "syncPolicy")
            for space in security.namespace(site):
                policy["syncOptions"] = ["CreateNamespace=true", "ServerSideApply=true"]
                given = bare(space)["metadata"]
                policy["managedNamespaceMetadata"] = {k: v for k, v in given.items() if k != "name"}
        yield _release(site, inside(one), path) if kind == "Kustomization" else one


def _release(site: Site, one: dict[str, Any], path: str) -> dict[str, Any]:
    source = one["spec"]["sourceRef"] | {"namespace": one["metadata"]["namespace"]}
    return {
        "apiVersion": "helm.toolkit.fluxcd.io/v2",
        "kind": "HelmRelease",
        "metadata": one["metadata"],
        "spec": {
            "interval": "10m",
            "timeout": "30m",
            "releaseName": site.name,
            "targetNamespace": why(site.namespace, "made before, with namespace.yaml"),
            "chart": {"spec": {"chart": f"./{path}" if path != "." else "./", "sourceRef": source}},
        },
    }
