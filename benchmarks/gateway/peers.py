"""What else can stand before the engines, each with one process on one core. One function per peer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from benchmarks.gateway import environments, lua
from benchmarks.gateway.settings import Settings
from benchmarks.gateway.subjects import KEY, MODEL, OURS, Engines, direct, engines, gateway
from benchmarks.rig.errors import SkippedError
from benchmarks.rig.processes import Child, clean_env, descendants
from benchmarks.rig.subject import Subject, chat_once, free_port, nginx_binary, nginx_config, wait_ready
from benchmarks.rig.tables import Table

Peer = Callable[[Settings, Engines], AbstractContextManager[Subject]]
NGINX, NGINX_MORE, ROUTER, FASTAPI, LITELLM = "nginx", "nginx-more", "vllm-router", "fastapi", "litellm"
ROUTER_CACHE = "vllm-router-cache"
_WRONG_KEY = "sk-" + "wrong" * 8
_LUA_FOLDER = Path("/usr/lib/nginx/modules")
_LUA_MODULES = ("ndk_http_module", "ngx_http_lua_module")


@contextmanager
def line_up(settings: Settings, table: Table) -> Iterator[tuple[Engines, list[Subject]]]:
    """Everybody who is asked for and present, ready; who is absent is told in the table's notes."""
    with ExitStack() as stack:
        behind = stack.enter_context(engines(settings))
        found = [direct(behind), stack.enter_context(gateway(settings, behind))]
        for name in settings.peers:
            try:
                found.append(stack.enter_context(PEERS[name](settings, behind)))
            except SkippedError as absent:
                table.notes.append(f"left out: {absent}")
        open_doors = [one.name for one in found[1:] if chat_once(one.addresses[MODEL], MODEL, _WRONG_KEY)[0] == 200]
        if open_doors:
            table.notes.append(f"A request with a wrong key is answered by: {', '.join(open_doors)}.")
        table.columns = [subject.name for subject in found]
        table.ratios = [(OURS, name) for name in (NGINX_MORE, ROUTER, LITELLM) if name in table.columns]
        yield behind, found


def router_command(program: str, urls: Sequence[str], port: int, key: str) -> list[str]:
    """vLLM's router with its own defaults before these engines."""
    command = [program, "--worker-urls", *urls, "--host", "127.0.0.1", "--port", str(port), "--api-key", key]
    command += ["--log-level", "warning", "--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port())]
    return [*command, "--max-concurrent-requests", "4096"]


@contextmanager
def _started(settings: Settings, name: str, command: list[str], port: int, key: str, **env: str) -> Iterator[Subject]:
    folder = settings.tools.folder / name
    folder.mkdir(exist_ok=True)
    own = clean_env(HOME=str(folder), **env)
    with Child(command, log=folder / f"{name}.log", core=settings.core, env=own) as child:
        address = f"127.0.0.1:{port}"
        wait_ready(address, MODEL, child, key=key, every_s=0.05)
        yield Subject(name, {MODEL: address}, lambda: [child.pid, *descendants(child.pid)], key)


def _nginx(name: str, script: str, log: str) -> Peer:
    def start(settings: Settings, behind: Engines) -> AbstractContextManager[Subject]:
        binary = nginx_binary()
        if not (_LUA_FOLDER / "ngx_http_lua_module.so").is_file():
            raise SkippedError(f"{name}: nginx has no Lua here (Debian: apt-get install libnginx-mod-http-lua)")
        folder = settings.tools.folder / name
        folder.mkdir(exist_ok=True)
        port = free_port()
        blocks = lua.server(behind.addresses, port, script.replace("KEY", KEY))
        modules = "".join(f"load_module {_LUA_FOLDER}/{one}.so;\n" for one in _LUA_MODULES)
        config = folder / "nginx.conf"
        config.write_text(nginx_config(folder, blocks, modules=modules, log=log.replace("FOLDER", str(folder))))
        command = [binary, "-p", str(folder), "-c", str(config), "-e", "stderr"]
        return _started(settings, name, command, port, KEY)

    return start


def _router(name: str, policy: str) -> Peer:
    def start(settings: Settings, behind: Engines) -> AbstractContextManager[Subject]:
        port = free_port()
        command = [environments.program(ROUTER, "vllm-router", settings.cache), "--worker-urls", *behind.urls]
        command += ["--host", "127.0.0.1", "--port", str(port), "--api-key", KEY, "--policy", policy]
        command += ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port())]
        command += ["--max-concurrent-requests", "4096", "--log-level", "warning"]
        return _started(settings, name, command, port, KEY)

    return start


def _fastapi(settings: Settings, behind: Engines) -> AbstractContextManager[Subject]:
    port = free_port()
    command = [environments.program(FASTAPI, "python", settings.cache)]
    command += [str(Path(__file__).with_name("fastapi_proxy.py")), str(port), KEY, *behind.urls]
    return _started(settings, FASTAPI, command, port, KEY)


def _litellm(settings: Settings, behind: Engines) -> AbstractContextManager[Subject]:
    key = "sk-" + KEY  # it takes only keys that begin so
    port = free_port()
    models = [
        {"model_name": MODEL, "litellm_params": {"model": f"openai/{MODEL}", "api_base": f"{url}/v1", "api_key": KEY}}
        for url in behind.urls
    ]
    config = settings.tools.folder / "litellm.yaml"  # JSON is YAML
    config.write_text(json.dumps({"model_list": models, "general_settings": {"master_key": key}}))
    command = [environments.program(LITELLM, "litellm", settings.cache), "--config", str(config)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    return _started(
        settings, LITELLM, command, port, key, LITELLM_LOCAL_MODEL_COST_MAP="True", LITELLM_TELEMETRY="False"
    )


PEERS: dict[str, Peer] = {
    NGINX: _nginx(NGINX, lua.KEY_CHECK, "access_log off;"),
    NGINX_MORE: _nginx(NGINX_MORE, lua.EVERYTHING, lua.LOG),
    ROUTER: _router(ROUTER, "round_robin"),
    ROUTER_CACHE: _router(ROUTER_CACHE, "cache_aware"),
    FASTAPI: _fastapi,
    LITELLM: _litellm,
}
