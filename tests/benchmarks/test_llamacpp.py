"""The bench of the embedded engine, run as a person runs it, as short as it goes: the demo model, no peer, no build."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_section_has_its_figures_or_says_why_not(tmp_path: Path) -> None:
    """Gateway and engine are measured, the share of the bandwidth is; what is not built is skipped with the way out."""
    report = tmp_path / "report.json"
    demo = str(files("inhouse.weights") / "demo.gguf")
    command = [sys.executable, "-m", "benchmarks.llamacpp", "--rounds", "1", "--tokens", "4", "--weights", demo]
    command += [word for name in ("gateway", "native", "decode") for word in ("--only", name)]
    environ = os.environ | {"INHOUSE_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [*command, "--json", str(report)],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-1000:]
    gateway, native, decode = json.loads(report.read_text())["sections"]
    assert len(gateway["rows"]) == 9
    for row in gateway["rows"]:
        assert min(row["values"][name] for name in ("gateway", "llama-server")) > 0, row["metric"]
    assert "inhouse engine build" in native["skipped"]
    (row,) = decode["rows"]
    assert min(row["values"].values()) > 0  # so small a file is read from the caches, faster than memory can be
