"""Whole trees: as on file, as Kubernetes wants them, as kustomize reads them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from inhouse.deploy.tree import File, findings, tree
from inhouse.deploy.write import write
from rendered import HERE, objects, site

VERSIONS = ("1.34", "1.37")
UNKNOWN = ("LeaderWorkerSet", "PeerAuthentication", "Cluster")
"""Of these no schema is at hand."""


def test_a_tree_is_as_on_file(stack: str, files: tuple[File, ...]) -> None:
    """Else, once the difference is wanted: make golden"""
    folder = HERE / "golden" / stack
    kept = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert {file.path: file.text for file in files} == kept


def test_the_same_stack_makes_the_same_bytes(stack: str, files: tuple[File, ...]) -> None:
    """Nothing depends on the time, the machine or an order that may change."""
    assert tree(site(stack)) == files


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_field(files: tuple[File, ...], version: str) -> None:
    """Objects of its own kinds are checked against its schemas, unknown fields refused."""
    checked = 0
    for one in objects(files):
        try:
            kubernetes_validate.validate(one, version, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            continue
        checked += 1
    assert checked > 5


def test_custom_kinds_have_no_unknown_field(
    files: tuple[File, ...], crd_errors: Callable[[dict[str, Any]], Iterator[str]]
) -> None:
    """Objects of other projects' kinds are checked against theirs."""
    own = [one for one in objects(files) if one["kind"] not in UNKNOWN]
    assert [error for one in own for error in crd_errors(one)] == []


def test_nothing_is_found_that_would_not_work(stack: str) -> None:
    """The linter is content with every stack on file."""
    assert findings(site(stack)) == []


@pytest.mark.parametrize("overlay", ["dev", "prod"])
def test_kustomize_builds_every_overlay(files: tuple[File, ...], overlay: str, kubectl: str, tmp_path: Path) -> None:
    """And keeps every object of the base, but for the budgets of a trial."""
    write(files, tmp_path)
    done = subprocess.run([kubectl, "kustomize", str(tmp_path / "overlays" / overlay)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    built = {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(done.stdout)}
    base = {(one["kind"], one["metadata"]["name"]): one for one in objects(files)}
    gone = set(base) - set(built)
    ours = {"PodDisruptionBudget", "ScaledObject", "HorizontalPodAutoscaler"}
    assert {kind for kind, _ in gone} <= (ours if overlay == "dev" else set())
    for one in built.values():
        if overlay == "dev" and one["kind"] in ("Deployment", "StatefulSet"):
            assert one["spec"].get("replicas", 1) <= 1


def test_argo_cd_applies_in_waves() -> None:
    """What others need comes first: the namespace, then what pods are made of, stores, pods, and what scales them."""
    waves: dict[str, set[int]] = {}
    for one in objects(tree(site("enterprise"))):
        notes = one["metadata"].get("annotations", {})
        waves.setdefault(one["kind"], set()).add(int(notes.get("argocd.argoproj.io/sync-wave", 0)))
    order = ["Namespace", "ExternalSecret", "Cluster", "Deployment", "ScaledObject"]
    found = [waves[kind] for kind in order]
    assert all(len(numbers) == 1 for numbers in found)
    assert [number for numbers in found for number in numbers] == sorted(n for numbers in found for n in numbers)
    assert len({number for numbers in found for number in numbers}) == len(order)


def test_without_argo_cd_nothing_speaks_of_waves(stack: str, files: tuple[File, ...]) -> None:
    """Annotations are for who reads them."""
    if site(stack).stack.deploy.gitops.kind != "argocd":
        assert not any("sync-wave" in file.text for file in files)
