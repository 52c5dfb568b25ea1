"""Who is measured: the mock engine itself, the gateway, and peers, each in front of mock engines of its own.

Every subject serves two models. `bench` streams as fast as it can; `paced` sends each stream a chunk every 50 ms, as an
engine at 20 tokens/s does.
"""

from __future__ import annotations

import itertools
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.first_light.settings import Settings
from benchmarks.rig.errors import FailedError, SkippedError
from benchmarks.rig.figures import PACE_US
from benchmarks.rig.processes import Child, arguments, clean_env, descendants
from benchmarks.rig.subject import Subject, free_port, nginx_binary, nginx_config, wait_ready

KEY = "first-light-0123456789-abcdefghijklmnop"
SLOTS = 256
# A token is at least one byte: with this much room no gateway needs to count tokens to admit the 32 KB body
CONTEXT_TOKENS = 65_536
DEMO_CONTEXT_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running `inhouse serve`."""

    child: Child
    port: int

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pids(self) -> list[int]:
        return [self.child.pid]

    @property
    def engine_pids(self) -> list[int]:
        """Everything that the gateway started."""
        return descendants(self.child.pid)

    def engine_socket(self) -> str:
        """Where the engine listens, as its command line says."""
        for pid in self.engine_pids:
            words = arguments(pid)
            for flag, value in itertools.pairwise(words):
                if flag == "--host" and value.endswith(".sock"):
                    return value
        raise FailedError("the engine's unix socket was not found on the command line of any child of the gateway")


@contextmanager
def direct(settings: Settings, core: int) -> Iterator[Subject]:
    """The mock engines, with nothing in front of them."""
    with ExitStack() as stack:
        ports = {}
        for model, pace_us in (("bench", 0), ("paced", PACE_US)):
            ports[model] = free_port()
            command = [str(settings.tools.mock), "--host", "127.0.0.1", "--port", str(ports[model]), "--alias", model]
            command += ["--interval-us", str(pace_us)]
            child = stack.enter_context(Child(command, log=settings.tools.folder / f"mock-{model}.log", core=core))
            wait_ready(f"127.0.0.1:{ports[model]}", model, child, key=KEY)
        yield Subject("direct", {model: f"127.0.0.1:{port}" for model, port in ports.items()}, list, KEY)


@contextmanager
def gateway_before_mock(settings: Settings, core: int, load_core: int) -> Iterator[Subject]:
    """The gateway on `core`, the mock engines that it starts itself on `load_core`."""
    with gateway(settings, "gateway", mock_models(settings, load_core), core=core) as running:
        for model in ("bench", "paced"):
            wait_ready(running.address, model, running.child, key=KEY)
        yield Subject("gateway", dict.fromkeys(("bench", "paced"), running.address), lambda: running.pids, KEY)


@contextmanager
def nginx(settings: Settings, core: int, load_core: int) -> Iterator[Subject]:
    """nginx as a plain reverse proxy with one worker. Raises SkippedError where it is not installed."""
    binary = nginx_binary()
    folder = settings.tools.folder / "nginx"
    folder.mkdir()
    with ExitStack() as stack:
        ports, servers = {}, []
        for model, pace_us in (("bench", 0), ("paced", PACE_US)):
            ports[model] = free_port()
            path = folder / f"{model}.sock"
            command = [str(settings.tools.mock), "--host", str(path), "--alias", model, "--interval-us", str(pace_us)]
            stack.enter_context(Child(command, log=folder / f"mock-{model}.log", core=load_core))
            servers.append(_NGINX_SERVER.format(model=model, socket=path, port=ports[model]))
        config = folder / "nginx.conf"
        config.write_text(nginx_config(folder, "".join(servers)))
        command = [binary, "-p", str(folder), "-c", str(config), "-e", "stderr"]
        child = stack.enter_context(Child(command, log=folder / "nginx.log", core=core))
        for model, port in ports.items():
            wait_ready(f"127.0.0.1:{port}", model, child, key=KEY)
        addresses = {model: f"127.0.0.1:{port}" for model, port in ports.items()}
        yield Subject("nginx", addresses, lambda: [child.pid, *descendants(child.pid)], KEY)


@contextmanager
def litellm(settings: Settings, core: int, engines: Subject) -> Iterator[Subject]:
    """LiteLLM's proxy with one worker, in front of the mock engines of `engines`."""
    binary = settings.litellm or shutil.which("litellm")
    if binary is None:
        raise SkippedError("LiteLLM is not installed here, and the bench never installs it")
    key = "sk-" + KEY  # it takes only keys that begin so
    port = free_port()
    models = [
        {
            "model_name": model,
            "litellm_params": {"model": f"openai/{model}", "api_base": f"http://{at}/v1", "api_key": KEY},
        }
        for model, at in engines.addresses.items()
    ]
    config = settings.tools.folder / "litellm.yaml"  # JSON is YAML
    config.write_text(json.dumps({"model_list": models, "general_settings": {"master_key": key}}))
    env = clean_env(LITELLM_LOCAL_MODEL_COST_MAP="True", LITELLM_TELEMETRY="False", HOME=str(settings.tools.folder))
    command = [binary, "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    with Child(command, log=settings.tools.folder / "litellm.log", core=core, env=env) as child:
        for model in engines.addresses:
            wait_ready(f"127.0.0.1:{port}", model, child, key=key)
        addresses = dict.fromkeys(engines.addresses, f"127.0.0.1:{port}")
        yield Subject("litellm", addresses, lambda: [child.pid, *descendants(child.pid)], key)


# --- the gateway ------------------------------------------------------------------------------------------------------


def mock_models(settings: Settings, load_core: int | None) -> dict[str, Any]:
    """Both models on mock engines. A mock never looks into the weights; the gateway wants some."""
    weights = settings.source
    pin = [] if load_core is None else ["--core", str(load_core)]
    common = {"source": weights, "engine_binary": str(settings.tools.mock), "slots": SLOTS, "context": CONTEXT_TOKENS}
    return {
        "bench": {**common, "engine_args": pin},
        "paced": {**common, "engine_args": [*pin, "--interval-us", str(PACE_US)]},
    }


def demo_models(settings: Settings, slots: int, threads: int | None = None) -> dict[str, Any]:
    """The real engine with the demo model, or with the file that was named; every core unless `threads` says less."""
    model = {"source": settings.source, "slots": slots, "context": DEMO_CONTEXT_TOKENS, "queue_wait_max": "10 min"}
    return {"bench": model if threads is None else {**model, "threads": threads}}


@contextmanager
def gateway(settings: Settings, name: str, models: Mapping[str, Any], *, core: int | None = None) -> Iterator[Gateway]:
    """`inhouse serve` with these models, and a state folder of its own. It may not be ready yet."""
    folder = settings.tools.folder / f"inhouse-{name}-{time.monotonic_ns()}"
    (folder / "state").mkdir(parents=True)
    port = free_port()
    config = folder / "bench.yaml"  # JSON is YAML
    config.write_text(json.dumps({"models": dict(models), "gateway": {"port": port}}))
    env = clean_env(INHOUSE_API_KEY=KEY, INHOUSE_STATE_DIR=str(folder / "state"))
    command = [*settings.inhouse, "serve", "--config", str(config), "--json"]
    with Child(command, log=folder / "inhouse.log", core=core, env=env) as child:
        yield Gateway(child, port)


def is_weights(source: str) -> bool:
    return source == "demo" or Path(source).is_file()


_NGINX_SERVER = """\
  upstream {model} {{
    server unix:{socket};
    keepalive 512;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://{model};
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 60s;
    }}
  }}
"""
