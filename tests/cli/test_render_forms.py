"""`inhouse render --target helm`: another form of the same stack, with every other option as ever."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def stack(tmp_path: Path) -> str:
    file = tmp_path / "inhouse.yaml"
    file.write_text(
        "models: {chat: {source: 'hf://org/repo', engine: vllm, deploy: {gpus: 1}}}\ndeploy: {gateway: {replicas: 1}}\n"
    )
    return str(file)


def test_a_chart_is_written_once(inhouse: Any, stack: str, tmp_path: Path) -> None:
    """A second time there is nothing to write, nor to see; a file that somebody else keeps there stays."""
    chart = tmp_path / "chart"
    chart.mkdir()
    (chart / "mine.yaml").write_text("gateway: {replicas: 1}\n")
    done = inhouse("render", "--target", "helm", "--out", str(chart), "-c", stack)
    assert done.returncode == 0
    assert f"wrote {chart / 'Chart.yaml'}" in done.stdout.splitlines()
    again = inhouse("render", "--target", "helm", "--out", str(chart), "-c", stack)
    assert again.stdout == f"{chart} is as the stack says\n"
    same = inhouse("render", "--target", "helm", "--diff", str(chart), "-c", stack)
    assert (same.returncode, same.stdout) == (0, "")
    assert (chart / "mine.yaml").exists()


def test_what_would_change_in_a_chart_is_shown(inhouse: Any, stack: str, tmp_path: Path) -> None:
    """By file and line, with an exit code."""
    chart = tmp_path / "chart"
    inhouse("render", "--target", "helm", "--out", str(chart), "-c", stack)
    Path(stack).write_text(Path(stack).read_text().replace("org/repo", "org/other"))
    done = inhouse("render", "--target", "helm", "--diff", str(chart), "-c", stack)
    assert done.returncode == 1
    assert "-    source: hf://org/repo  # Where the weights come from; of the same kind as now." in done.stdout
    assert str(chart / "values.yaml") in done.stdout


def test_parts_of_a_chart_can_be_printed(inhouse: Any, stack: str) -> None:
    """By the name of a file or folder."""
    done = inhouse("render", "--target", "helm", "--only", "Chart,tests", "--json", "-c", stack)
    assert sorted(json.loads(done.stdout)) == ["Chart.yaml", "templates/tests/ready.yaml"]


def test_a_chart_is_checked_as_its_tree_is(inhouse: Any, stack: str) -> None:
    """The rules look at the objects, which are the same."""
    done = inhouse("render", "--target", "helm", "--check", "-c", stack)
    assert (done.returncode, done.stdout) == (0, "ok: nothing found that would not work\n")


def test_a_mistake_of_the_stack_is_told_with_its_line(inhouse: Any, stack: str) -> None:
    """As for a tree: before any file is written."""
    Path(stack).write_text(Path(stack).read_text().replace("replicas: 1", "replicas: 3"))
    done = inhouse("render", "--target", "helm", "-c", stack)
    assert done.returncode != 0
    assert "inhouse.yaml:2" in done.stderr
    assert "3 gateways share no state" in done.stderr


def test_a_target_that_is_none_is_refused_with_those_that_are(inhouse: Any, stack: str) -> None:
    """Makers of pods and forms alike."""
    done = inhouse("render", "--target", "nomad", "-c", stack)
    assert done.returncode == 2
    assert "known are: kubernetes, kserve, knative, compose, helm" in done.stderr
