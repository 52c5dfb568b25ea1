"""Who is measured: the gateway with the engine that it chooses, llama-server by itself, the engine in the package,
llama-cpp-python's server. Each serves the same file on a port of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateway import environments
from benchmarks.llamacpp.settings import CONTEXT_TOKENS, KEY, MODEL, Settings, kept
from benchmarks.rig import answers
from benchmarks.rig.answers import Seen, Work
from benchmarks.rig.errors import FailedError
from benchmarks.rig.processes import Child, clean_env, descendants
from benchmarks.rig.subject import ask, free_port
from inhouse.engines.engine import Spec
from inhouse.engines.http import Address
from inhouse.engines.llamacpp import argv as engine_argv

START_S_MAX = 180.0
GATEWAY, SERVER, PACKAGE, PYTHON = "gateway", "llama-server", "in the package", "llama-cpp-python"
SPINS = "10000"
"""What the gateway gives its engines as GOMP_SPINCOUNT."""


@dataclass(frozen=True, slots=True)
class Running:
    """Something that is ready and answers chat requests."""

    name: str
    port: int
    key: str
    child: Child

    def run(self, work: Work, seed: int) -> Seen:
        """Raises FailedError."""
        return asyncio.run(answers.run(self.port, MODEL, work, seed, self.key))

    def pids(self) -> list[int]:
        return [self.child.pid, *descendants(self.child.pid)]


def plain_command(settings: Settings, weights: Path, slots: int, port: int) -> list[str]:
    """llama-server as a person starts it, with its own defaults; the engine in the package where none is built."""
    if settings.native is None:
        return list(engine_argv(_spec(settings, weights, slots, None), Address(port=port)).argv)
    command = [str(settings.native), "--model", str(weights), "--alias", MODEL, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--ctx-size", str(CONTEXT_TOKENS * slots), "--parallel", str(slots)]
    return [*command, "--threads", str(settings.threads)]


@contextmanager
def server(settings: Settings, weights: Path, slots: int) -> Iterator[Running]:
    """llama-server by itself."""
    port = free_port()
    with _started(settings, SERVER, plain_command(settings, weights, slots, port), port, held=True) as running:
        yield running


@contextmanager
def engine(settings: Settings, name: str, weights: Path, slots: int, native: Path | None) -> Iterator[Running]:
    """An engine with the flags that the gateway gives it, and no gateway."""
    port = free_port()
    command = engine_argv(_spec(settings, weights, slots, native), Address(port=port)).argv
    with _started(settings, name, command, port, held=True) as running:
        yield running


def gateway_command(settings: Settings, source: str, slots: int, port: int) -> tuple[list[str], Path]:
    """`inhouse serve` with one model and a state folder of its own."""
    folder = settings.tools.folder / f"inhouse-{time.monotonic_ns()}"
    (folder / "state").mkdir(parents=True)
    model: dict[str, object] = {"source": source, "slots": slots, "context": CONTEXT_TOKENS}
    if settings.named:
        model["engine_binary"] = str(settings.native)
    config = folder / "bench.yaml"  # JSON is YAML
    config.write_text(json.dumps({"models": {MODEL: model}, "gateway": {"port": port}}))
    return [*settings.inhouse, "serve", "--config", str(config), "--json"], folder / "state"


@contextmanager
def gateway(settings: Settings, weights: Path, slots: int) -> Iterator[Running]:
    port = free_port()
    command, state = gateway_command(settings, str(weights), slots, port)
    env = {"INHOUSE_API_KEY": KEY, "INHOUSE_STATE_DIR": str(state)}
    with _started(settings, GATEWAY, command, port, key=KEY, path="/health/ready", env=env) as running:
        yield running


@contextmanager
def python_server(settings: Settings, weights: Path) -> Iterator[Running]:
    """llama-cpp-python's server, which computes one request at a time. Raises SkippedError where it is absent."""
    port = free_port()
    command = [environments.program(PYTHON, "python", settings.cache), "-m", "llama_cpp.server"]
    command += ["--model", str(weights), "--model_alias", MODEL, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--n_ctx", str(CONTEXT_TOKENS), "--n_threads", str(settings.threads)]
    command += ["--n_threads_batch", str(settings.threads), "--interrupt_requests", "false"]  # by each that comes
    with _started(settings, PYTHON, command, port, path="/v1/models") as running:
        yield running


def wait_healthy(address: str, child: Child, path: str, every_s: float) -> None:
    """Until `path` says 200. Raises FailedError when the child ends, or after START_S_MAX."""
    until = time.monotonic() + START_S_MAX
    while time.monotonic() < until:
        child.check()
        with contextlib.suppress(OSError):
            if ask(address, "GET", path)[0] == 200:
                return
        time.sleep(every_s)
    raise FailedError(f"{child.command[0]} was not ready within {START_S_MAX:g} s: {child.last_words()}")


@contextmanager
def _started(
    settings: Settings,
    name: str,
    command: Sequence[str],
    port: int,
    *,
    key: str = "",
    path: str = "/health",
    held: bool = False,
    env: dict[str, str] | None = None,
) -> Iterator[Running]:
    log = settings.tools.folder / f"{name.replace(' ', '-')}.log"
    whole = clean_env(GOMP_SPINCOUNT=SPINS, **kept(), **(env or {}))
    with Child(command, log=log, env=whole, held=held) as child:
        wait_healthy(f"127.0.0.1:{port}", child, path, 0.1)
        running = Running(name, port, key, child)
        running.run(Work(1, 1, 4, (20, 20)), 0)  # what is made at the first use
        yield running


def _spec(settings: Settings, weights: Path, slots: int, native: Path | None) -> Spec:
    return Spec(MODEL, weights, CONTEXT_TOKENS, slots, threads=settings.threads, native=native)
