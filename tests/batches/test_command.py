"""`inhouse batch`, as a person uses it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from batched import line
from serving import KEY, Gateway


def inhouse(gateway: Gateway, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "inhouse", "batch", *words, "--base-url", gateway.base_url]
    return subprocess.run(command, env=os.environ | {"INHOUSE_API_KEY": KEY}, capture_output=True, text=True)


def test_submit_wait_and_fetch(running: Gateway, tmp_path: Path) -> None:
    """One command sends and waits; another writes the answers, each once."""
    file, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    file.write_bytes(b"\n".join(line(f"r{number}") for number in range(5)))
    sent = inhouse(running, "submit", str(file), "--wait", "--json")
    assert sent.returncode == 0, sent.stderr
    batch = json.loads(sent.stdout)
    assert batch["request_counts"] == {"total": 5, "completed": 5, "failed": 0}
    assert "completed" in inhouse(running, "status", batch["id"]).stdout
    assert batch["id"] in inhouse(running, "list").stdout
    assert inhouse(running, "results", batch["id"], "--out", str(out)).returncode == 0
    assert [json.loads(row)["custom_id"] for row in out.read_text().splitlines()] == [
        f"r{number}" for number in range(5)
    ]
    printed = inhouse(running, "results", batch["id"])
    assert printed.stdout == out.read_text()


def test_what_is_wrong_is_said_with_the_way_out(running: Gateway, tmp_path: Path) -> None:
    """A failed batch tells its lines; results that are not there say what is; an unknown one is named."""
    file = tmp_path / "in.jsonl"
    file.write_bytes(line("a") + b"\n" + line("a"))
    sent = inhouse(running, "submit", str(file), "--wait")
    assert sent.returncode == 1
    assert "line 2: its `custom_id`" in sent.stdout
    id = sent.stdout.split()[0]
    fetched = inhouse(running, "results", id)
    assert (fetched.returncode, fetched.stdout) == (1, "")
    assert "the batch is failed" in fetched.stderr
    unknown = inhouse(running, "status", "batch_none")
    assert unknown.returncode == 1
    assert "no batch 'batch_none'" in unknown.stderr
    file.write_text("nothing\n")
    assert "--endpoint" in inhouse(running, "submit", str(file)).stderr
