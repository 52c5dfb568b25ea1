"""The namespace with its Pod Security."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from inhouse.deploy.mesh import of_namespace
from inhouse.deploy.site import Site
from inhouse.deploy.text import why


def namespace(site: Site) -> Iterator[Any]:
    """All objects are in it."""
    if not site.stack.deploy.own_namespace:
        return
    mesh = of_namespace(site)
    yield {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": site.namespace,
            "labels": why(
                {"app.kubernetes.io/managed-by": "inhouse", **enforced(), **mesh["labels"]},
                "a pod that asks for more rights is refused",
            ),
            **({"annotations": mesh["annotations"]} if mesh["annotations"] else {}),
        },
    }


def enforced() -> dict[str, str]:
    """Labels of a namespace that hold its pods to the profile `restricted`."""
    return {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
