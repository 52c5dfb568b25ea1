"""The stacks whose rendered trees are on file, and what is in a tree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from inhouse.config import load
from inhouse.deploy.site import Site
from inhouse.deploy.tree import File

HERE = Path(__file__).parent / "deploy"
STACKS = sorted(path.stem for path in (HERE / "stacks").glob("*.yaml"))


def site(name: str) -> Site:
    return Site(load(HERE / "stacks" / f"{name}.yaml", environ={}, flags={}))


def objects(files: tuple[File, ...]) -> list[dict[str, Any]]:
    """All objects of the base."""
    base = [file for file in files if file.path.startswith("base/") and not file.path.endswith("kustomization.yaml")]
    return [one for file in base for one in yaml.safe_load_all(file.text)]
