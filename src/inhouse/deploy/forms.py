"""In what form a stack is written: the table of those that are no kustomize tree."""

from __future__ import annotations

from collections.abc import Callable

from inhouse.deploy.compose import rules
from inhouse.deploy.compose.tree import compose, plain
from inhouse.deploy.helm.chart import chart
from inhouse.deploy.lint import Finding
from inhouse.deploy.site import Site
from inhouse.deploy.tree import File
from inhouse.deploy.tree import findings as of_objects

FORMS: dict[str, Callable[[Site], tuple[File, ...]]] = {
    "compose": compose,
    "helm": chart,
}
"""By the name in `--target`; who makes engines' pods is said by `deploy.target` all the same."""
_RULES: dict[str, Callable[[Site], list[Finding]]] = {
    "compose": lambda site: rules.lint(plain(site)),
}
"""Of the forms that are no objects of Kubernetes."""


def findings(site: Site, form: str | None) -> list[Finding]:
    """What would not work of what is rendered. Raises StackError."""
    return _RULES.get(form or "", of_objects)(site)
