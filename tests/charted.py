"""A chart as Helm makes objects of it, and what two sets of objects differ in."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Objects = dict[str, dict[str, Any]]
"""By kind and name."""


def run(helm: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Helm with no settings of whoever runs the tests."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HELM_")}
    nowhere = {"HOME": "/nonexistent", "KUBECONFIG": "/nonexistent/config"}
    return subprocess.run([helm, *map(str, words)], capture_output=True, text=True, env=kept | nowhere)


def template(helm: str, chart: Path, *words: str | Path, name: str = "inhouse", space: str = "inhouse") -> Objects:
    """What an installation would send to the cluster, without its test."""
    done = run(helm, "template", name, chart, "--namespace", space, "--skip-tests", *words)
    assert done.returncode == 0, done.stderr
    return by_name(done.stdout)


def by_name(text: str) -> Objects:
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in yaml.safe_load_all(text) if one}


def without_helm(objects: Objects) -> Objects:
    """The objects without what Helm asks of every one: who manages it, its chart, whether it stays."""
    for one in objects.values():
        meta = one["metadata"]
        assert meta["labels"].pop("helm.sh/chart")
        assert meta["labels"]["app.kubernetes.io/managed-by"] == "Helm"
        meta["labels"]["app.kubernetes.io/managed-by"] = "inhouse"
        notes = meta.get("annotations", {})
        notes.pop("helm.sh/resource-policy", None)
        if not notes:
            meta.pop("annotations", None)
    return objects


def changed(before: Objects, after: Objects) -> Iterator[str]:
    """`Kind/name path` of each value that differs; an object that came or went is named alone."""
    for name in sorted({*before, *after}):
        if name not in before or name not in after:
            yield name
        else:
            yield from (f"{name} {path}" for path in _paths(before[name], after[name], ""))


def _paths(before: Any, after: Any, path: str) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            inner = f"{path}.{key}".removeprefix(".")
            if key in before and key in after:
                yield from _paths(before[key], after[key], inner)
            else:
                yield inner
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _paths(one, other, f"{path}[{index}]")
    elif json.dumps(before) != json.dumps(after):
        yield path
