"""Where pods run, and where files that come later have their place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import inhouse.deploy.tree
from charted import template
from inhouse.config import Stack
from inhouse.deploy.helm.chart import chart
from inhouse.deploy.site import Site
from inhouse.deploy.tree import Artefact, tree
from inhouse.deploy.write import write
from inhouse.errors import StackError
from rendered import objects, site

MODEL = {"source": "hf://org/repo/m.gguf"}


def sidecar(gateway: dict[str, Any], model: dict[str, Any]) -> Site:
    return Site(
        Stack(
            models={"chat": MODEL | {"deploy": {"placement": model}}},  # type: ignore[dict-item]
            deploy={"gateway": {"form": "sidecar", "placement": gateway}},  # type: ignore[arg-type]
        )
    )


def pod(here: Site) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in objects(tree(here)) if one["kind"] == "Deployment")
    spec: dict[str, Any] = found["spec"]["template"]["spec"]
    return spec


def test_a_sidecar_runs_where_gateway_and_engine_both_may() -> None:
    """What the model says of nodes counts as well as what the gateway says."""
    made = pod(
        sidecar(
            {"node_selector": ["pool=small"], "regions": ["a", "b"]},
            {"node_selector": ["kubernetes.io/arch=arm64"], "regions": ["b", "c"], "tolerations": ["spot:NoSchedule"]},
        )
    )
    assert made["nodeSelector"] == {"pool": "small", "kubernetes.io/arch": "arm64"}
    (term,) = made["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchExpressions"][0]["values"] == ["b"]
    assert [one["key"] for one in made["tolerations"]] == ["spot"]


def test_a_sidecar_that_may_be_nowhere_is_refused() -> None:
    """Rather than somewhere where data may not be."""
    with pytest.raises(StackError, match="no region that both may be in"):
        tree(sidecar({"regions": ["a"]}, {"regions": ["b"]}))


@pytest.mark.parametrize("name", ["alerts", "dashboards"])
def test_what_comes_later_has_its_place(name: str, helm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of its own in tree, kustomization and chart; what Prometheus fills in is no template of Helm's."""
    text = "{{ $labels.instance }} has been {{ $value | humanizeDuration }} behind"

    def makes(here: Site) -> Iterator[Any]:
        meta = here.meta(f"{here.name}-{name}", "gateway")
        yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"text": text}}

    table = inhouse.deploy.tree.ARTEFACTS
    assert [one.makes for one in table if one.name == name] == [()]
    filled = tuple(Artefact(one.name, (makes,)) if one.name == name else one for one in table)
    monkeypatch.setattr(inhouse.deploy.tree, "ARTEFACTS", filled)
    here = site("sidecar")
    files = {file.path: file.text for file in tree(here)}
    assert f"{name}.yaml" in yaml.safe_load(files["base/kustomization.yaml"])["resources"]
    write(chart(here), tmp_path)
    made = template(helm, tmp_path)[f"ConfigMap/inhouse-{name}"]
    assert made["data"] == {"text": text}
