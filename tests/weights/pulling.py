"""`inhouse pull` as a process of its own, against the hub of `hub_server`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PULL_S = 60


@dataclass
class Puller:
    """Runs the command with a cache and a home of its own."""

    url: str
    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    @property
    def cache(self) -> Path:
        return self.folder / "hf" / "hub"

    def environment(self) -> dict[str, str]:
        mine = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "INHOUSE_", "AWS_"))}
        mine |= {"HOME": str(self.folder), "HF_HOME": str(self.folder / "hf"), "HF_ENDPOINT": self.url, "NO_PROXY": "*"}
        mine |= {"INHOUSE_WEIGHTS__RANGE_BYTES": "100 KiB", "INHOUSE_WEIGHTS__RETRY_PAUSE": "10 ms"}
        return mine | self.env

    def start(self, *words: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "inhouse", *words],
            env=self.environment() | env,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, **env: str) -> Done:
        process = self.start(*words, **env)
        out, err = process.communicate(timeout=PULL_S)
        return Done(process.returncode, out, err)


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def pulled(self) -> dict[str, Any]:
        return next(event for event in self.events if event["event"] == "pulled")
