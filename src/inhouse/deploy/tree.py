"""The whole installation as files: a kustomize base, and overlays that change it for a trial or for work.

`ARTEFACTS` is the table: each entry is a file and the functions that fill it. A new artefact is one function, one line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from inhouse.deploy import (
    certificates,
    engines,
    gateway,
    gitops,
    kserve,
    mesh,
    network,
    observe,
    scaling,
    secrets,
    security,
    state,
    targets,
    traffic,
    workers,
)
from inhouse.deploy.inventory import Inventory
from inhouse.deploy.lint import Finding, lint
from inhouse.deploy.site import Site, check
from inhouse.deploy.steps import steps
from inhouse.deploy.text import bare, render, why

Objects = Callable[[Site], Iterator[Any]]


@dataclass(frozen=True, slots=True)
class Artefact:
    """One file of the base, and what makes its objects; without any, there is no file."""

    name: str
    makes: tuple[Objects, ...]
    wave: int = 0
    """When Argo CD applies it: what has a smaller number must be there and well first."""


ARTEFACTS: tuple[Artefact, ...] = (
    Artefact("namespace", (security.namespace,), -5),
    Artefact("config", (gateway.config, workers.config), -4),
    Artefact("rights", (gateway.rights,), -4),
    Artefact("secrets", (secrets.external,), -4),
    Artefact("certificates", (certificates.issued,), -3),
    Artefact("network", (network.network, mesh.strict), -4),
    Artefact("state", (state.own_volume, state.stores), -2),
    Artefact("gateway", (gateway.services, gateway.deployment, gateway.budget)),
    Artefact("volumes", (engines.volumes,)),
    Artefact("engines", (targets.of_engines,)),
    Artefact("scaling", (scaling.of_gateways, targets.of_scalers), 1),
    Artefact("traffic", (traffic.certificate, traffic.door, traffic.pools), 1),
    Artefact("monitors", (observe.monitors,), 1),
    Artefact("alerts", (), 1),
    Artefact("dashboards", (), 1),
)
"""In the order in which a cluster wants them. Alerts (PrometheusRule) and dashboards (ConfigMap) have their place here,
and no content yet."""


HEAD = "# Made by `inhouse render` from inhouse.yaml: change that file, not this one.\n"


@dataclass(frozen=True, slots=True)
class File:
    path: str
    """Relative to the folder of the tree."""
    text: str


def base(site: Site) -> tuple[tuple[str, list[Any]], ...]:
    """The objects of each artefact that has any, by its name. Raises StackError."""
    check(site)
    kserve.check(site)
    certificates.check(site)
    made = ((artefact.name, list(_made(site, artefact))) for artefact in ARTEFACTS)
    return tuple((name, objects) for name, objects in made if objects)


def _made(site: Site, artefact: Artefact) -> Iterator[Any]:
    for make in artefact.makes:
        for one in make(site):
            if site.stack.deploy.gitops.kind == "argocd" and artefact.wave:
                gitops.in_wave(one, artefact.wave)
            yield one


def tree(site: Site) -> tuple[File, ...]:
    """All files, in order; the same stack makes the same bytes. Raises StackError."""
    made = base(site)
    objects = [bare(one) for _, several in made for one in several]
    files = [File(f"base/{name}.yaml", render(objects)) for name, objects in made]
    files.append(File("README.md", steps(site)))
    files.append(_kustomization("base", [f"{name}.yaml" for name, _ in made]))
    applied = list(gitops.application(site))
    if applied:
        files.append(File(f"gitops/{site.stack.deploy.gitops.kind}.yaml", render(applied)))
    files.append(File("overlays/prod/kustomization.yaml", render([_prod()])))
    files.append(File("overlays/dev/kustomization.yaml", render([_dev(site, objects)])))
    return tuple(File(file.path, file.text if file.path.endswith(".md") else HEAD + file.text) for file in files)


def findings(site: Site) -> list[Finding]:
    """What `lint` finds in the tree of a stack. Raises StackError."""
    objects = [bare(one) for _, several in base(site) for one in several]
    return lint(Inventory(objects, expected(site)))


def expected(site: Site) -> frozenset[tuple[str, str]]:
    """(kind, name) of what the installation counts on and does not make itself."""
    deploy = site.stack.deploy
    found = {("Secret", site.secret)}
    if deploy.traffic.issuer:
        found.add(("ClusterIssuer", deploy.traffic.issuer))
    if site.certified and deploy.mesh.issuer:
        found.add(("ClusterIssuer", deploy.mesh.issuer))
    if deploy.traffic.gateway:
        found.add(("Gateway", deploy.traffic.gateway.rpartition("/")[2]))
    if deploy.traffic.canary_service:
        found.add(("Service", deploy.traffic.canary_service))
    if deploy.state.postgres == "cloudnative-pg":
        found.add(("Secret", f"{site.name}-postgres-app"))
    return frozenset(found)


def _kustomization(folder: str, resources: Iterable[str], **more: Any) -> File:
    whole = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": list(resources)}
    return File(f"{folder}/kustomization.yaml", render([whole | more]))


def _prod() -> Any:
    return why(
        {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": ["../../base"],
        },
        "As the stack says. An overlay of your own beside this one can patch what no setting covers.",
    )


def _dev(site: Site, objects: list[dict[str, Any]]) -> Any:
    """One pod of each: no scalers, and no budgets that would keep its node from being emptied."""
    patches = []
    for one in objects:
        if one["kind"] in ("Deployment", "StatefulSet") and one["spec"].get("replicas", 1) > 1:
            patches.append(_patch(one, [{"op": "replace", "path": "/spec/replicas", "value": 1}]))
        if one["kind"] == "LLMInferenceService" and one["spec"]["replicas"] > 1:
            patches.append(_patch(one, [{"op": "replace", "path": "/spec/replicas", "value": 1}]))
        if one["kind"] == "InferenceService" and one["spec"]["predictor"]["minReplicas"] > 1:
            patches.append(_patch(one, [{"op": "replace", "path": "/spec/predictor/minReplicas", "value": 1}]))
            if (least := "autoscaling.knative.dev/min-scale") in one["metadata"]["annotations"]:
                path = f"/metadata/annotations/{least.replace('/', '~1')}"
                patches.append(_patch(one, [{"op": "replace", "path": path, "value": "1"}]))
        if one["kind"] in ("PodDisruptionBudget", "ScaledObject", "HorizontalPodAutoscaler"):
            gone = {"apiVersion": one["apiVersion"], "kind": one["kind"]} | {
                "metadata": {"name": one["metadata"]["name"], "namespace": site.namespace},
                "$patch": "delete",
            }
            patches.append({"patch": render([gone])})
    whole: dict[str, Any] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["../../base"],
    }
    return why(whole | ({"patches": patches} if patches else {}), "A trial: one pod of each.")


def _patch(one: dict[str, Any], operations: list[dict[str, Any]]) -> dict[str, Any]:
    group, _, version = one["apiVersion"].rpartition("/")
    target = {"group": group, "version": version, "kind": one["kind"], "name": one["metadata"]["name"]}
    text = "".join(f"- {line}" if not i else f"  {line}" for i, line in enumerate(_lines(operations[0])))
    return {"target": target, "patch": text}


def _lines(value: dict[str, Any]) -> list[str]:
    return render([value]).splitlines(keepends=True)
