"""Who is measured: the gateway under each policy, and the peer, each on engines that have seen nothing yet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gateway import environments
from benchmarks.gateway.peers import ROUTER, router_command
from benchmarks.rig.processes import Child, clean_env
from benchmarks.rig.subject import free_port, inhouse_command, wait_ready
from benchmarks.routing_real.load import Door
from inhouse.engines.engine import Spec
from inhouse.engines.http import Address
from inhouse.engines.llamacpp import argv

MODEL = "bench"
KEY = "routing-real-0123456789-abcdefghijklmnop"
CACHE_ARGS = ("--cache-ram", "8")
"""MiB of each llama.cpp replica, beside its slots: they hold as much of the model used here as 256 MiB, the default, do
of one with 8 billion parameters."""
FAKE = [
    "--prefill-tokens-per-s", "6000", "--tokens-per-s", "80", "--cache", "shared", "--cache-tokens", "60000",
    "--metrics-as", "vllm",
]  # fmt: skip
"""As in the simulation, twice as fast."""
POLICIES = ("round-robin", "least-load", "session", "prefix")
TUNED = f"{ROUTER}, tuned"
PEERS: dict[str, tuple[str, ...]] = {
    ROUTER: ("--policy", "cache_aware"),
    TUNED: ("--policy", "cache_aware", "--balance-abs-threshold", "2", "--balance-rel-threshold", "1.25"),
}
"""The router with its own defaults, and as quick to leave a busy engine as this gateway is."""
Urls = Callable[[ExitStack, Path], list[str]]


@dataclass(frozen=True, slots=True)
class Fleet:
    """`count` engines of `slots` each, of one kind."""

    title: str
    count: int
    slots: int
    context_tokens: int
    model: Callable[[ExitStack, Path], dict[str, Any]]
    """The model's section of the gateway's file; engines that the gateway does not start itself are started."""
    start: Urls
    """The same engines for whoever cannot start them, on TCP."""


def llamacpp(weights: Path, count: int, slots: int, context_tokens: int, own: tuple[str, ...] = CACHE_ARGS) -> Fleet:
    """The embedded engine, a thread each, started by the gateway on unix sockets and for the peer on TCP."""

    def model(stack: ExitStack, folder: Path) -> dict[str, Any]:
        return {"source": str(weights), "replicas": count, "threads": 1, "engine_args": list(own)}

    def start(stack: ExitStack, folder: Path) -> list[str]:
        spec = Spec(MODEL, weights, context_tokens, slots, threads=1, extra_args=own)
        ports = [free_port() for _ in range(count)]
        return _started(stack, folder, [[*argv(spec, Address(port=port)).argv] for port in ports], ports)

    title = f"{count} llama.cpp replicas of {slots} slots, one thread each"
    return Fleet(title, count, slots, context_tokens, model, start)


def fake(count: int, slots: int, context_tokens: int) -> Fleet:
    """Fake engines that take their time as vLLM does, in processes of their own on TCP."""

    def model(stack: ExitStack, folder: Path) -> dict[str, Any]:
        return {"endpoints": start(stack, folder), "engine": "vllm", "probe": {"interval": "1 s"}}

    def start(stack: ExitStack, folder: Path) -> list[str]:
        flags = ["--alias", MODEL, "--parallel", str(slots), "--ctx-size", str(context_tokens * slots), *FAKE]
        ports = [free_port() for _ in range(count)]
        commands = [[*inhouse_command(), "fake-engine", "--port", str(port), *flags] for port in ports]
        return _started(stack, folder, commands, ports)

    title = f"{count} fake engines of {slots} slots, 6,000 prompt tokens/s, 12.5 ms a token, 60,000 tokens of cache"
    return Fleet(title, count, slots, context_tokens, model, start)


def _started(stack: ExitStack, folder: Path, commands: list[list[str]], ports: list[int]) -> list[str]:
    children = [
        stack.enter_context(Child(command, log=folder / f"engine-{port}.log", env=clean_env(), held=True))
        for command, port in zip(commands, ports, strict=True)
    ]
    for child, port in zip(children, ports, strict=True):
        wait_ready(f"127.0.0.1:{port}", MODEL, child, key=KEY)
    return [f"http://127.0.0.1:{port}" for port in ports]


@contextmanager
def gateway(fleet: Fleet, policy: str, folder: Path) -> Iterator[Door]:
    """The gateway with one policy; it starts the engines itself where the fleet says so."""
    with ExitStack() as stack:
        model = fleet.model(stack, folder) | {
            "slots": fleet.slots,
            "context": fleet.context_tokens,
            "prefill_long_percent": 100,  # which part long prompts may have is another bench's question
            "routing": {"policy": policy},
        }
        port = free_port()
        config = folder / "inhouse.yaml"  # JSON is YAML
        config.write_text(json.dumps({"models": {MODEL: model}, "gateway": {"port": port}}))
        env = clean_env(INHOUSE_API_KEY=KEY, INHOUSE_STATE_DIR=str(folder / "state"))
        command = [*inhouse_command(), "serve", "--config", str(config), "--json"]
        child = stack.enter_context(Child(command, log=folder / "inhouse.log", env=env))
        wait_ready(f"127.0.0.1:{port}", MODEL, child, key=KEY)
        yield Door(port, MODEL, KEY, sessions=policy == "session")


@contextmanager
def router(fleet: Fleet, name: str, folder: Path, cache: Path) -> Iterator[Door]:
    """The peer. Raises SkippedError where it is not installed."""
    program = environments.program(ROUTER, ROUTER, cache)
    with ExitStack() as stack:
        urls = fleet.start(stack, folder)
        port = free_port()
        command = [*router_command(program, urls, port, KEY), *PEERS[name]]
        child = stack.enter_context(Child(command, log=folder / "router.log", env=clean_env(HOME=str(folder))))
        wait_ready(f"127.0.0.1:{port}", MODEL, child, key=KEY, every_s=0.05)
        yield Door(port, MODEL, KEY)
