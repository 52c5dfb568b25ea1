"""The bench of the gateway, run as a person runs it, as short as it goes and without peers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
RUN_S_MAX = 240.0


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Of one run that asks for a peer which is not installed."""
    if shutil.which("gcc") is None and shutil.which("cc") is None and not os.environ.get("CI"):
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("bench")
    file = folder / "report.json"
    command = [sys.executable, "-m", "benchmarks.gateway", "--seconds", "0.3", "--rounds", "1", "--json", str(file)]
    command += ["--memory-requests", "200", "--peers", "vllm-router", "--cache", str(folder / "cache")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=RUN_S_MAX, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    return json.loads(file.read_text())


def test_every_section_has_all_its_figures(report: Any) -> None:
    """No section fails, and each row has a figure of the gateway, unless it says what the gateway adds to nothing."""
    assert report["complete"]
    *sections, goals = report["sections"]
    assert [section["name"] for section in sections] == ["requests", "streams", "memory", "hang-ups"]
    for section in sections:
        assert section["failed"] is None
        assert section["skipped"] is None
        assert section["columns"] == ["direct", "gateway"]
        for row in section["rows"]:
            assert isinstance(row["values"]["gateway"], float), row["metric"]
    assert goals["name"] == "goals"


def test_every_goal_is_judged(report: Any) -> None:
    """Those without a peer are met or missed; those that need one say that they were not measured."""
    goals = report["sections"][-1]["rows"]
    for goal in goals:
        measured = goal["values"]["measured"] is not None
        assert goal["verdict"] in (("met", "MISSED") if measured else ("not measured",)), goal["metric"]
    assert {goal["unit"] for goal in goals if goal["verdict"] != "not measured"} == {"µs", "MiB", "%"}


def test_a_peer_that_is_not_installed(report: Any) -> None:
    """It is left out, and every section says so and what would install it."""
    for section in report["sections"][:-1]:
        assert any("vllm-router" in note and "--install-peers" in note for note in section["notes"])


def test_where_and_how_the_figures_came_about(report: Any) -> None:
    """Date, command and machine stand above them."""
    header = report["header"]
    assert header["command"].startswith("python -m benchmarks.gateway --seconds 0.3")
    assert all(header[fact] for fact in ("date", "cpu", "cores", "memory_gib", "kernel", "python", "inhouse"))
