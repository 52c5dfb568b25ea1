"""What applies the tree from a repository: Argo CD or Flux. In a folder of its own: it is applied once, by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from inhouse.deploy.site import Site
from inhouse.deploy.text import Why, why
from inhouse.errors import StackError


def application(site: Site) -> Iterator[Any]:
    """The objects of the one that is chosen."""
    spec = site.stack.deploy.gitops
    if spec.kind == "none":
        return
    if spec.repository is None:
        raise StackError(
            f"`deploy.gitops.kind: {spec.kind}` needs `repository`",
            where="deploy.gitops.kind",
            hint="add `deploy.gitops.repository: https://…`, the place that the rendered tree is pushed to",
        )
    yield from _argo(site) if spec.kind == "argocd" else _flux(site)


def in_wave(one: Any, wave: int) -> None:
    """Tells Argo CD when an object's turn is: what it needs comes first, and is well."""
    meta = (one.value if isinstance(one, Why) else one)["metadata"]
    meta["annotations"] = {"argocd.argoproj.io/sync-wave": str(wave), **meta.get("annotations", {})}


def _argo(site: Site) -> Iterator[Any]:
    spec = site.stack.deploy.gitops
    namespace = spec.namespace or "argocd"
    destination = {"server": "https://kubernetes.default.svc", "namespace": site.namespace}
    yield {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "AppProject",
        "metadata": {"name": site.name, "namespace": namespace},
        "spec": {
            "description": "The language models of the house",
            "sourceRepos": why([spec.repository], "nothing else may be installed by this project"),
            "destinations": [destination],
            **(
                {"clusterResourceWhitelist": [{"group": "", "kind": "Namespace"}]}
                if site.stack.deploy.own_namespace
                else {}
            ),
            "namespaceResourceWhitelist": [{"group": "*", "kind": "*"}],
        },
    }
    yield {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {
            "name": site.name,
            "namespace": namespace,
            "finalizers": why(["resources-finalizer.argocd.argoproj.io"], "its objects go when it goes"),
        },
        "spec": {
            "project": site.name,
            "source": {"repoURL": spec.repository, "targetRevision": spec.revision, "path": spec.path},
            "destination": destination,
            "syncPolicy": {
                "automated": {"prune": True, "selfHeal": True},
                "syncOptions": ["CreateNamespace=false", "ServerSideApply=true"],
                "retry": {"limit": 5, "backoff": {"duration": "10s", "factor": 2, "maxDuration": "3m"}},
            },
            "ignoreDifferences": why(
                [
                    {"group": "apps", "kind": kind, "jsonPointers": ["/spec/replicas"]}
                    for kind in ("Deployment", "StatefulSet")
                ],
                "the autoscaler sets these",
            ),
        },
    }


def _flux(site: Site) -> Iterator[Any]:
    spec = site.stack.deploy.gitops
    namespace = spec.namespace or "flux-system"
    yield {
        "apiVersion": "source.toolkit.fluxcd.io/v1",
        "kind": "GitRepository",
        "metadata": {"name": site.name, "namespace": namespace},
        "spec": {"interval": "1m", "url": spec.repository, "ref": {"branch": spec.revision}},
    }
    yield {
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "metadata": {"name": site.name, "namespace": namespace},
        "spec": {
            "interval": "10m",
            "path": f"./{spec.path}",
            "prune": True,
            "wait": True,
            "timeout": "30m",
            "sourceRef": {"kind": "GitRepository", "name": site.name},
        },
    }
