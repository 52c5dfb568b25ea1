"""The two subjects: a gateway before its engines, and a gateway with Redis and workers between."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.rig.errors import FailedError
from benchmarks.rig.processes import Child

SLOTS = 32
START_S = 30.0


@dataclass(frozen=True)
class Subject:
    """Running. `pids` are those whose CPU is told, by what they are."""

    name: str
    address: tuple[str, int]
    pids: dict[str, list[int]]
    controls: list[str]

    def pace(self, tokens_per_s: float) -> None:
        """Of each stream of the engines; 0: no time at all."""
        for control in self.controls:
            body = json.dumps({"tokens_per_s": tokens_per_s}).encode()
            urllib.request.urlopen(urllib.request.Request(f"{control}/fake/settings", body), timeout=10).read()


@contextlib.contextmanager
def subject(folder: Path, *, queued: bool, workers: int) -> Iterator[Subject]:
    with contextlib.ExitStack() as exits:
        engines = [exits.enter_context(_engine()) for _ in range(workers)]
        urls = [url for _, url, _ in engines]
        port = _free_port()
        pids: dict[str, list[int]] = {}
        redis = ""
        model: dict[str, Any] = {"queue_requests_max": 100_000}
        if queued:
            redis_port = _free_port()
            redis = f"redis://127.0.0.1:{redis_port}/0"
            line = [_program(), "--port", str(redis_port), "--dir", str(folder), "--save", ""]
            server = exits.enter_context(Child([*line, "--appendonly", "yes"], log=folder / "redis.log"))
            pids["redis"] = [server.pid]
            _answers(redis_port)
            model["queued"] = True
        else:
            model |= {"endpoints": urls, "engine": "vllm", "slots": SLOTS}
        stack: dict[str, Any] = {"models": {"m": model}, "gateway": {"port": port}}
        if queued:
            stack["queue"] = {"url": redis}
        command = [sys.executable, "-m", "inhouse"]
        gateway = exits.enter_context(
            Child(
                [*command, "serve", "--no-auth", "--config", _written(folder / "gateway.yaml", stack)],
                log=folder / "gateway.log",
                env=os.environ | {"INHOUSE_STATE_DIR": str(folder / "state")},
            )
        )
        pids = {"gateway": [gateway.pid], **pids}
        if queued:
            pids["workers"] = []
            for number, url in enumerate(urls):
                own = {"endpoints": [url], "engine": "vllm", "slots": SLOTS, "queued": True}
                config = _written(folder / f"{number}.yaml", {"models": {"m": own}, "queue": {"url": redis}})
                log = folder / f"{number}.log"
                worker = exits.enter_context(Child([*command, "worker", "--config", config], log=log))
                pids["workers"].append(worker.pid)
        _ready(port, workers * SLOTS)
        name = f"through Redis, {workers} workers" if queued else f"direct, {workers} engines"
        yield Subject(name, ("127.0.0.1", port), pids, [control for _, _, control in engines])


@contextlib.contextmanager
def _engine() -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    command = [sys.executable, "-m", "inhouse", "fake-engine", "--port", "0", "--control-port", "0", "-np", str(SLOTS)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        control = process.stdout.readline().split()[-1]
        yield process, process.stdout.readline().split()[-1], control
    finally:
        process.kill()
        process.wait(10)


def _written(path: Path, stack: dict[str, Any]) -> str:
    path.write_text(json.dumps(stack))  # JSON is YAML
    return str(path)


def _ready(port: int, slots: int) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        url = f"http://127.0.0.1:{port}/health/backlog"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as reply:
            if json.load(reply)["models"]["m"]["slots"] >= slots:
                return
        time.sleep(0.05)
    raise FailedError(f"the gateway has not {slots} slots after {START_S:g} s")


def _answers(port: int) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise FailedError("redis-server does not start")


def _program() -> str:
    found = shutil.which("redis-server")
    if found is None:
        raise FailedError("redis-server is not installed: apt-get install redis-server")
    return found


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port: int = one.getsockname()[1]
        return port
