"""Each stack on file, and the programs and schemas that read manifests."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from inhouse.deploy.tree import File, tree
from rendered import STACKS, site

CRDS = Path(__file__).parents[2].parent / "shared" / "checks" / "crd.py"


@pytest.fixture(params=STACKS)
def stack(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def files(stack: str) -> tuple[File, ...]:
    return tree(site(stack))


@pytest.fixture(scope="session")
def kubectl() -> str:
    return _program("kubectl")


@pytest.fixture(scope="session")
def helm() -> str:
    return _program("helm")


@pytest.fixture(scope="session")
def crd_errors() -> Callable[[dict[str, Any]], Iterator[str]]:
    """What an API server refuses of a custom resource. The schemas lie beside the project and are not part of it."""
    if not CRDS.exists():
        _absent("the schemas of custom resources are not beside this clone")
    spec = importlib.util.spec_from_file_location("crd", CRDS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[[dict[str, Any]], Iterator[str]] = module.errors
    return found


def _program(name: str) -> str:
    """Where a program is: on PATH, or where `.ci/run` puts it."""
    tools = str(Path(__file__).parents[2] / "build" / "tools")
    found = shutil.which(name, path=os.pathsep.join([tools, os.environ.get("PATH", "")]))
    if found is None:
        _absent(f"{name} is not installed; .ci/tools brings it")
        raise AssertionError
    return found


def _absent(told: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(told)
    pytest.skip(told)
