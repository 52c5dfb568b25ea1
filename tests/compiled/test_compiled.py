"""The wheel whose hot path is compiled does what the source does: the rooms' own tests, run against it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
HOOK = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]
MODULES = [module.removeprefix("/src/") for module in HOOK["mypyc"]["include"]]
FAKED = ("dispatch/test_direct.py", "dispatch/test_prepare.py", "dispatch/test_flights.py::test_a_view_that_fails")
"""With fakes that are none of the types that compiled code insists on."""
ROOMS = ("routing", "admission", "wire", "tenancy", "telemetry", "dispatch", "gateway")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with the compiled wheel."""
    folder = tmp_path_factory.mktemp("compiled")
    done = subprocess.run([sys.executable, PROJECT / "tools/compiled.py", folder], capture_output=True, text=True)
    if done.returncode == 3 and not os.environ.get("CI"):
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder / "bin" / "python"


def run(python: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([python, *words], cwd=PROJECT, capture_output=True, text=True)


def test_all_that_is_listed_is_compiled(python: Path) -> None:
    """Nothing beside it, and it says so itself."""
    wheel = python.parents[1] / "inhouse"
    libraries = {f"{path.relative_to(wheel).as_posix().split('.')[0]}.py" for path in wheel.glob("inhouse/**/*.so")}
    assert libraries == set(MODULES)
    assert re.search(r"build +compiled", run(python, "-m", "inhouse", "version").stdout)


@pytest.mark.parametrize("module", MODULES)
def test_no_shapes_among_it(module: str) -> None:
    """A struct would lose its keywords, and with them what it means."""
    assert "Struct)" not in (PROJECT / "src" / module).read_text()
    assert "Struct," not in (PROJECT / "src" / module).read_text()


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_compiled(python: Path, room: str) -> None:
    """Its tests, less those that are `FAKED`."""
    options = ("-q", "-p", "no:cacheprovider", "--tb=short", *(f"--deselect=tests/{one}" for one in FAKED))
    done = run(python, "-m", "pytest", *options, f"tests/{room}")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
