"""The fake engine as a child process, and as a program that a stack can name `engine_binary`."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PROGRAM = """#!{python} -P
import sys
from inhouse.cli.fake_engine import program
sys.argv += {flags!r}
program()
"""


@dataclass(frozen=True)
class FakeEngine:
    """A running fake engine: where clients reach it, and where it is told things."""

    process: subprocess.Popen[str]
    url: str
    control: str

    def ask(self, path: str, body: Any = None, *, timeout_s: float = 20.0) -> Any:
        """A JSON document of the engine itself."""
        return _json(self.url + path, body, timeout_s)

    def set(self, **settings: Any) -> dict[str, Any]:
        found: dict[str, Any] = _json(self.control + "/fake/settings", settings, 20.0)
        return found

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = _json(self.control + "/fake/stats", None, 20.0)
        return found


def binary(folder: Path, **settings: Any) -> Path:
    """A program in `folder` that is the fake engine with these settings, as if the package had been installed."""
    path = folder / "fake-engine"
    path.write_text(_PROGRAM.format(python=sys.executable, flags=_flags(settings)))
    path.chmod(0o755)
    return path


@contextlib.contextmanager
def fake_engine(*, socket: Path | None = None, **settings: Any) -> Iterator[FakeEngine]:
    """A fake engine on a port that it picks, or on a unix socket; ended after the block."""
    where = ["--host", str(socket)] if socket else ["--port", "0"]
    command = [sys.executable, "-m", "inhouse", "fake-engine", *where, "--control-port", "0", *_flags(settings)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        control = process.stdout.readline().split()[-1]
        url = "" if settings.get("refuse_rate") == 1 else process.stdout.readline().split()[-1]
        yield FakeEngine(process, url, control)
    finally:
        process.kill()
        process.wait(timeout=20)
        if process.stdout is not None:
            process.stdout.close()


def _flags(settings: dict[str, Any]) -> list[str]:
    names = {"slots": "parallel", "context_tokens": "ctx-size"}
    flags = []
    for name, value in settings.items():
        flag = f"--{names.get(name, name).replace('_', '-')}"
        flags += [flag] if value is True else [flag, str(value)]
    return flags


def _json(url: str, body: Any, timeout_s: float) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=timeout_s) as response:
        return json.load(response)
