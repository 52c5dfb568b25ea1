"""In what form a stack is written: the table of those that are no kustomize tree."""

from __future__ import annotations

from collections.abc import Callable

from inhouse.deploy.helm.chart import chart
from inhouse.deploy.site import Site
from inhouse.deploy.tree import File

FORMS: dict[str, Callable[[Site], tuple[File, ...]]] = {
    "helm": chart,
}
"""By the name in `--target`; who makes engines' pods is said by `deploy.target` all the same."""
