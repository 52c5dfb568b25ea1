"""`inhouse transformers-engine` as a child process."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOAD_S = 120.0


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class EngineProcess:
    """A running engine: its address, and its log while it runs and after."""

    process: subprocess.Popen[str]
    url: str
    log: Path

    def ask(self, path: str, body: Any = None, *, timeout_s: float = 60.0) -> Reply:
        """One request; an error status is a reply like any other."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as found:
                return Reply(found.status, dict(found.headers), found.read())
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, dict(error.headers), error.read())

    def ready(self) -> None:
        """Returns once the model is there."""
        end_s = time.monotonic() + LOAD_S
        while self.ask("/health").status != 200:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end_s, "the model is not there yet"
            time.sleep(0.05)

    def figure(self, name: str) -> float:
        """One number of the page of metrics."""
        for line in self.ask("/metrics").body.decode().splitlines():
            if line.startswith(f"inhouse_transformers_{name} "):
                return float(line.split()[1])
        raise AssertionError(f"no {name}")

    def until(self, name: str, value: float, *, timeout_s: float = 30.0) -> None:
        """Waits for a number of the page."""
        end_s = time.monotonic() + timeout_s
        while (found := self.figure(name)) != value:
            assert time.monotonic() < end_s, f"{name} stays {found}"
            time.sleep(0.01)


@contextlib.contextmanager
def transformers_engine(folder: Path, **options: Any) -> Iterator[EngineProcess]:
    """An engine on a port that it picks; it listens, its model may not be there yet. Ended after the block."""
    flags = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        flags += [flag] if value is True else [flag, str(value)]
    log = folder.parent / f"log-{time.monotonic_ns()}"
    with log.open("w") as errors:
        command = [sys.executable, "-m", "inhouse", "transformers-engine", str(folder), *flags]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            yield EngineProcess(process, line.split()[-1] if line else "", log)
        finally:
            process.kill()
            process.wait(timeout=20)
            if process.stdout is not None:
                process.stdout.close()
