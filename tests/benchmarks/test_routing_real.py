"""The bench of the routing policies on real processes, as a person runs it, with few users and short texts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

ROOT = Path(__file__).parents[2]
RUN_S_MAX = 120.0


def _run(folder: Path, *flags: str) -> Any:
    file = folder / "report.json"
    command = [sys.executable, "-m", "benchmarks.routing_real", "--json", str(file), *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=RUN_S_MAX, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-1000:]
    return json.loads(file.read_text())


def _cached(rounds: list[dict[str, Any]]) -> float:
    assert all(seen["ttft_s"] and min(seen["ttft_s"]) > 0 for seen in rounds)
    return fmean(seen["cached_tokens"] / seen["prompt_tokens"] for seen in rounds)


def test_conversations_before_fake_engines(tmp_path: Path) -> None:
    """Everybody is measured, and where conversations stay more of their prompts comes from the cache."""
    policies = ("round-robin", "prefix")
    flags = ("--fleet", "fake", "--work", "conversations", "--seconds", "2.5", "--lengths", "30")
    report = _run(tmp_path, *flags, "--policies", *policies)
    assert set(report["conversations"]) == set(policies)
    wandering, staying = (_cached(report["conversations"][policy]) for policy in policies)
    assert 0 < wandering < staying < 1


def test_strangers_before_llamacpp(tmp_path: Path) -> None:
    """The real engine, with the model that the bench makes: prompts are read anew, but for how the template begins."""
    flags = ("--work", "strangers", "--seconds", "1.5", "--lengths", "20", "--users", "3", "--policies", "prefix")
    assert _cached(_run(tmp_path, *flags)["strangers"]["prefix"]) < 0.2
