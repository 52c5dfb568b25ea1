"""The engines that all share, and the gateway with everything on: a stored key, limits of tenant and key, queue,
routing over two endpoints, audit, log and metrics."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.gateway.settings import Settings
from benchmarks.rig.errors import FailedError
from benchmarks.rig.figures import DIRECT
from benchmarks.rig.processes import Child, clean_env
from benchmarks.rig.subject import Subject, ask, free_port, wait_ready

MODEL = "bench"
KEY = "gateway-bench-0123456789-abcdefghijklmnop"
OURS = "gateway"
ENGINES = 2
SLOTS = 512
CONTEXT_TOKENS = 131_072
_PLENTY = {"requests_per_minute": 10**9, "tokens_per_minute": 10**12, "tokens_per_day": 10**13}
"""Limits that are counted and never reached."""


@dataclass(frozen=True, slots=True)
class Engines:
    """The mock engines before which every subject stands."""

    addresses: tuple[str, ...]

    @property
    def urls(self) -> list[str]:
        return [f"http://{address}" for address in self.addresses]

    def count(self, name: str) -> int:
        """The sum of a figure of their pages of metrics."""
        total = 0
        for address in self.addresses:
            _, page = ask(address, "GET", "/metrics")
            lines = (line.split() for line in page.decode().splitlines())
            total += sum(int(float(line[1])) for line in lines if len(line) == 2 and line[0].split("{")[0] == name)
        return total


@contextmanager
def engines(settings: Settings) -> Iterator[Engines]:
    with ExitStack() as stack:
        addresses = []
        for number in range(ENGINES):
            port = free_port()
            command = [str(settings.tools.mock), "--host", "127.0.0.1", "--port", str(port), "--alias", MODEL]
            command += ["--parallel", "1", "--ctx-size", str(CONTEXT_TOKENS)]
            log = settings.tools.folder / f"mock-{number}.log"
            child = stack.enter_context(Child(command, log=log, core=settings.load_core))
            addresses.append(f"127.0.0.1:{port}")
            wait_ready(addresses[-1], MODEL, child, key=KEY)
        yield Engines(tuple(addresses))


def direct(behind: Engines) -> Subject:
    """One of the engines, with nothing in front of it."""
    return Subject(DIRECT, {MODEL: behind.addresses[0]}, list, KEY)


@contextmanager
def gateway(settings: Settings, behind: Engines) -> Iterator[Subject]:
    folder = settings.tools.folder / OURS
    state = folder / "state"
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    port = free_port()
    config = folder / "inhouse.yaml"  # JSON is YAML
    config.write_text(json.dumps(_stack(behind, port)))
    env = clean_env(INHOUSE_STATE_DIR=str(state))
    limits = [word for name, value in _PLENTY.items() for word in ("--limit", f"{name}={value}")]
    made = subprocess.run(
        [*settings.inhouse, "keys", "create", "--tenant", MODEL, *limits, "--config", str(config)],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if made.returncode:
        raise FailedError(f"no key could be made: {made.stderr.strip()[-400:]}")
    key = made.stdout.strip()
    command = [*settings.inhouse, "serve", "--config", str(config), "--json"]
    with Child(command, log=folder / "inhouse.log", core=settings.core, env=env) as child:
        address = f"127.0.0.1:{port}"
        wait_ready(address, MODEL, child, key=key)
        yield Subject(OURS, {MODEL: address}, lambda: [child.pid], key)


def _stack(behind: Engines, port: int) -> dict[str, object]:
    model = {"endpoints": behind.urls, "engine": "vllm", "slots": SLOTS, "queue_requests_max": 1024}
    return {
        "models": {MODEL: model},
        "tenants": {MODEL: {"limits": _PLENTY}},
        "gateway": {"port": port},
        "audit": {"enabled": True},
    }
