"""Renders the one-pod form, starts its gateway with the file and in the limits of the manifest, and looks at it.

The engine is the stand-in, outside of the limits: in the pod it is a container of its own.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.one_pod.cgroup import Group, entering, limited
from inhouse.config import load
from inhouse.deploy.site import Site
from inhouse.deploy.text import bare
from inhouse.deploy.tree import base

KEY = "key-of-the-one-pod-benchmark-0123456789"
START_S = 60.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the tree says of the gateway's container."""

    stack: dict[str, Any]
    args: list[str]
    memory_bytes: int
    cpu_millicores: int


def manifest(file: Path) -> Manifest:
    """Of the stack in `file`."""
    objects = [bare(one) for _, several in base(Site(load(file, environ={}, flags={}))) for one in several]
    (pod,) = (one["spec"]["template"]["spec"] for one in objects if one["kind"] == "Deployment")
    (container,) = (one for one in pod["containers"] if one["name"] == "gateway")
    (config,) = (one for one in objects if one["kind"] == "ConfigMap")
    return Manifest(
        stack=yaml.safe_load(config["data"]["inhouse.yaml"]),
        args=container["args"],
        memory_bytes=_bytes(container["resources"]["limits"]["memory"]),
        cpu_millicores=int(container["resources"]["requests"]["cpu"].removesuffix("m")),
    )


@dataclass(slots=True)
class Running:
    """The gateway, and where it is."""

    process: subprocess.Popen[str]
    group: Group
    port: int
    health_port: int
    model: str

    def cpu_s(self) -> float:
        """Of all its threads and processes that it has started."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(") ")[2].split()
        return sum(map(int, fields[11:15])) / _TICKS_PER_S

    def wakes(self) -> int:
        """Times that a thread of it was given a core, because it had asked for it."""
        total = 0
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            for line in (task / "status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches"):
                    total += int(line.split()[1])
        return total

    def rss_bytes(self) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def get(self, path: str, port: int | None = None) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=10)
        try:
            connection.request("GET", path, headers={"authorization": f"Bearer {KEY}"})
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()

    def ask(self, tokens: int, prompt: str) -> bool:
        """One stream to its end; whether it was whole."""
        body = {"model": self.model, "stream": True, "max_tokens": tokens}
        body["messages"] = [{"role": "user", "content": prompt}]
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            head = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
            connection.request("POST", "/v1/chat/completions", json.dumps(body), head)
            answer = connection.getresponse()
            return answer.status == 200 and answer.read().endswith(b"data: [DONE]\n\n")
        finally:
            connection.close()


@contextlib.contextmanager
def running(made: Manifest, engine_url: str, folder: Path, bytes_max: int | None = None) -> Iterator[Running]:
    """The gateway of a manifest, ready. Ports, folders and the engine are this machine's; all else is as rendered."""
    stack = json.loads(json.dumps(made.stack))
    (model,) = stack["models"]
    stack["models"][model]["endpoints"] = [engine_url]
    stack["gateway"] |= {"host": "127.0.0.1", "port": 0, "health_port": 0}
    stack["state_dir"] = str(folder / "state")
    file = folder / "inhouse.yaml"
    file.write_text(yaml.safe_dump(stack))
    args = [word if not word.endswith("inhouse.yaml") else str(file) for word in made.args]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("INHOUSE_")}
    with limited(bytes_max or made.memory_bytes, "one-pod") as group:
        process = subprocess.Popen(
            [sys.executable, "-m", "inhouse", *args, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environ | {"INHOUSE_API_KEY": KEY},
            preexec_fn=entering(group),
        )
        try:
            yield _ready(process, group, model)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert process.stdout is not None
            process.stdout.close()


def _ready(process: subprocess.Popen[str], group: Group, model: str) -> Running:
    port = 0
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event.get("state") == "listening":
            port = int(event["url"].rpartition(":")[2])
        if event.get("event") == "replica" and event.get("state") == "ready":
            drained = threading.Thread(target=process.stdout.read, daemon=True)
            drained.start()
            return Running(process, group, port, _health_port(process.pid, port), model)
    raise AssertionError(f"the gateway ended with {process.wait()}; killed for memory: {group.killed}")


def _health_port(pid: int, port: int) -> int:
    """The other port that it listens on."""
    sockets = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    for row in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = row.split()
        found = int(fields[1].rpartition(":")[2], 16)
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets and found != port:
            return found
    return 0


@dataclass(frozen=True, slots=True)
class Rest:
    """What it takes when nobody asks anything but kubelet."""

    seconds: float
    millicores: float
    wakes_per_s: float
    rss_bytes: int
    charged_bytes: int
    working_bytes: int


def at_rest(one: Running, seconds: float) -> Rest:
    """Probed as the manifest says, readiness every 5 s and liveness every 10 s, and read by a Prometheus every 15 s."""
    began_s, cpu_s, wakes, looks = time.monotonic(), one.cpu_s(), one.wakes(), 0
    while (left_s := began_s + seconds - time.monotonic()) > 0:
        one.get("/health/ready")
        if one.health_port and looks % 2 == 0:
            one.get("/health/live", one.health_port)
        if looks % 3 == 0:
            one.get("/metrics")
        looks += 1
        time.sleep(min(5.0, left_s))
    took_s = time.monotonic() - began_s
    return Rest(
        seconds=round(took_s, 1),
        millicores=round(1000 * (one.cpu_s() - cpu_s) / took_s, 2),
        wakes_per_s=round((one.wakes() - wakes) / took_s, 1),
        rss_bytes=one.rss_bytes(),
        charged_bytes=one.group.bytes_now,
        working_bytes=one.group.working_bytes,
    )


@dataclass(frozen=True, slots=True)
class Load:
    answers: int
    whole: int
    most_bytes: int
    """Charged at most, looked at ten times a second."""
    most_working_bytes: int
    killed: int


def under_load(one: Running, *, streams: int, requests: int, tokens: int, prompt_bytes: int) -> Load:
    """So many streams at once, until so many answers have come."""
    over = threading.Event()
    most = [0, 0]

    def look() -> None:
        while not over.wait(0.1):
            most[:] = [max(most[0], one.group.bytes_now), max(most[1], one.group.working_bytes)]

    looking = threading.Thread(target=look)
    looking.start()
    try:
        with ThreadPoolExecutor(streams) as pool:
            whole = list(pool.map(lambda n: one.ask(tokens, f"{n} " + "x" * prompt_bytes), range(requests)))
    finally:
        over.set()
        looking.join()
    return Load(len(whole), sum(whole), most[0], most[1], one.group.killed)


def _bytes(quantity: str) -> int:
    units = {"Ki": 1024, "Mi": 1024**2, "Gi": 1024**3, "k": 1000, "M": 1000**2, "G": 1000**3}
    for unit, factor in units.items():
        if quantity.endswith(unit):
            return int(quantity.removesuffix(unit)) * factor
    return int(quantity)
