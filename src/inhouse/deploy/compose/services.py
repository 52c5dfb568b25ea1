"""What every service has, and those that serve: the gateway, engines with their weights, the stores."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from inhouse.deploy import engines, gateway, state
from inhouse.deploy.compose.box import SECRETS_FOLDER, Box, secrets, text
from inhouse.deploy.launch import engine_of, gpus_of, launch
from inhouse.deploy.site import CONFIG_FOLDER, ENGINE_PORT, HTTP_PORT, MODELS_FOLDER, STATE_FOLDER, USER, Lane, shared
from inhouse.deploy.text import why

Services = dict[str, Any]
_STORE_USERS = {"redis": "999:1000", "postgres": "70:70"}
"""Of the images' own users `valkey` and `postgres`."""
_LEAVE_S = 10


def common(
    box: Box, name: str, image: str, *, memory_bytes: int, user: Any, networks: Sequence[str], profile: str = ""
) -> Services:
    """Nobody with rights, on a read-only root, within bounds of memory; its log is bounded too."""
    return {
        "image": image,
        **({"profiles": [profile]} if profile else {}),
        "restart": "unless-stopped",
        "user": user,
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "mem_limit": _size(memory_bytes),
        "pids_limit": 4096,
        "networks": list(networks),
        "logging": {
            "driver": "json-file",
            "options": {"max-size": "10m", "max-file": "3", "tag": f"{box.name}/{name}"},
        },
    }


def check_by(test: Sequence[str], *, start_s: float = 30, every_s: int = 10, failures: int = 6) -> dict[str, Any]:
    """A health check that is patient while a service starts."""
    return {
        "test": ["CMD", *test],
        "interval": f"{every_s}s",
        "timeout": "5s",
        "retries": failures,
        "start_period": f"{int(start_s)}s",
        "start_interval": "2s",
    }


def serving(box: Box) -> Iterator[tuple[str, Services]]:
    """The gateway, and who stands behind it."""
    yield "gateway", _gateway(box)
    for lane in box.lanes:
        yield f"{box.service(lane)}-weights", _weights(box, lane)
        yield box.service(lane), _engine(box, lane)
    made = box.stack.deploy.state
    if made.redis == "trial":
        yield "redis", _redis(box)
    if made.postgres == "trial":
        yield "postgres", _postgres(box)


def volumes(box: Box) -> Iterator[tuple[str, str]]:
    """Names of volumes, and what is in each."""
    if not shared(box):
        yield "state", "keys, use and the audit"
    for lane in box.lanes:
        yield f"{box.service(lane)}-models", f"the weights of {lane.model}"
    made = box.stack.deploy.state
    if made.redis == "trial":
        yield "redis", "limits and counts"
    if made.postgres == "trial":
        yield "postgres", "keys and use"


def _gateway(box: Box) -> Services:
    spec = box.stack.deploy.gateway
    waits = [box.service(lane) for lane in box.lanes]
    made = box.stack.deploy.state
    stores = [name for name in ("redis", "postgres") if getattr(made, name) == "trial"]
    found = common(
        box,
        "gateway",
        box.image("gateway"),
        memory_bytes=spec.memory,
        user=f"{USER}:{USER}",
        networks=["outside", "inside"],
    )
    one = box.stack.deploy.compose
    published = {} if box.stack.deploy.traffic.host else {"ports": [f"{_host(one.address)}:{one.port}:{HTTP_PORT}"]}
    after = {name: {"condition": "service_healthy"} for name in stores}
    after |= {
        name: why({"condition": "service_started"}, "it ends before its engines do: what runs is finished, not cut")
        for name in waits
    }
    kept = {"type": "volume", "source": "state", "target": STATE_FOLDER}
    scratch: list[Any] = ["/tmp:size=64m,mode=1777"]  # noqa: S108 - of the container's own
    if shared(box):
        scratch.append(why(f"{STATE_FOLDER}:size=1g,mode=1777", "buffers: what must last is in the stores"))
    return found | {
        "command": gateway.container(box)["args"],
        **published,
        "configs": [{"source": "inhouse", "target": f"{CONFIG_FOLDER}/inhouse.yaml"}],
        "secrets": list(secrets(box)),
        "labels": {"inhouse.dev/config": why(_digest(text(box)), "another file, another gateway")},
        **({} if shared(box) else {"volumes": [kept]}),
        "tmpfs": scratch,
        "depends_on": after,
        "healthcheck": check_by(_healthy(HTTP_PORT, "/health/live")),
        "stop_grace_period": why(
            f"{int(box.drain_s) + _LEAVE_S}s", "longer than the longest answer: a stream is finished, not cut"
        ),
    }


def _weights(box: Box, lane: Lane) -> Services:
    """Fetches the weights before the engine starts: whole, checked, once."""
    (init,) = engines.fetching(box, lane)
    name = f"{box.service(lane)}-weights"
    found = common(box, name, init["image"], memory_bytes=512 << 20, user=f"{USER}:{USER}", networks=["outside"])
    environment = {one["name"]: one.get("value") for one in init["env"] if "value" in one}
    wanted = {
        one["name"]: why(f"${{{one['name']}:-}}", "only gated or private places ask")
        for one in init["env"]
        if "valueFrom" in one
    }
    return found | {
        "restart": why("on-failure:5", "it ends when the weights are there"),
        "command": init["args"],
        "environment": environment | wanted,
        "volumes": [{"type": "volume", "source": f"{box.service(lane)}-models", "target": MODELS_FOLDER}],
        "tmpfs": ["/tmp:size=256m,mode=1777"],  # noqa: S108
        "healthcheck": {"disable": True},
    }


def _engine(box: Box, lane: Lane) -> Services:
    spec, start = lane.spec.deploy, launch(box, lane)
    name = box.service(lane)
    found = common(
        box,
        name,
        start.image,
        memory_bytes=spec.memory,
        user=f"{start.user}:{start.user}",
        networks=["inside"],
    )
    models = {"type": "volume", "source": f"{name}-models", "target": MODELS_FOLDER, "read_only": True}
    found |= {
        **({"entrypoint": list(start.command)} if start.command else {}),
        "command": [_dollars(word) for word in start.args],
        "environment": {one["name"]: _dollars(str(one["value"])) for one in start.env},
        "volumes": [models],
        "tmpfs": [
            "/tmp:size=1g,mode=1777",  # noqa: S108
            f"{start.home}:size=8g,mode=1777,exec",
        ],
        "depends_on": {f"{name}-weights": {"condition": "service_completed_successfully"}},
        "healthcheck": check_by(
            _probe(lane, start.ready or "/health"), start_s=engines.load_s(lane), every_s=15, failures=8
        ),
        "stop_grace_period": f"{int(lane.spec.total_timeout) + _LEAVE_S}s",
    }
    if spec.shared_memory:
        found["shm_size"] = why(_size(spec.shared_memory), "tensor parallel talks through shared memory")
    if spec.replicas != 1:
        found["scale"] = spec.replicas
    return found | _gpus(lane)


def _gpus(lane: Lane) -> Services:
    count = gpus_of(lane)
    if not count:
        return {}
    vendor = lane.spec.deploy.gpu_vendor
    if vendor == "nvidia":
        device = {"driver": "nvidia", "count": count, "capabilities": ["gpu"]}
        return {"deploy": {"resources": {"reservations": {"devices": [device]}}}}
    devices = ["/dev/kfd", "/dev/dri"] if vendor == "amd" else ["/dev/dri"]
    groups = why(["video", "render"], "who may speak to the devices; the host's numbers where its names differ")
    return {"devices": devices, "group_add": groups}


def _healthy(port: int, path: str) -> list[str]:
    """The program that our images bring along."""
    return ["python", "-IS", "/app/healthy", f"{port}{path}"]


def _probe(lane: Lane, path: str) -> list[str]:
    """By what the image has: ours, curl, Python, or Ollama's own."""
    if lane.spec.engine in ("llamacpp", "transformers") and not lane.spec.deploy.image:
        return _healthy(ENGINE_PORT, path)
    url = f"http://127.0.0.1:{ENGINE_PORT}{path}"
    name = engine_of(lane).name
    if name in ("llama-server", "tgi"):
        return ["curl", "-fsS", "-o", "/dev/null", url]
    if name == "ollama":
        return ["ollama", "list"]
    return ["python3", "-c", f"import urllib.request as web; web.urlopen({url!r}, timeout=4)"]


def _redis(box: Box) -> Services:
    container = state.redis_container()
    found = _store(box, "redis", container)
    return found | {"healthcheck": check_by(["valkey-cli", "ping"], start_s=60)}


def _postgres(box: Box) -> Services:
    """Its password is a file, its data lie where the image has a folder of its user's."""
    container = state.postgres_container()
    folder = "/var/lib/postgresql/data"
    environment = {one["name"]: one["value"] for one in container["env"]}
    environment |= {"PGDATA": f"{folder}/pg", "POSTGRES_PASSWORD_FILE": f"{SECRETS_FOLDER}/{state.PASSWORD}"}
    return _store(box, "postgres", container) | {
        "environment": environment,
        "secrets": [state.PASSWORD],
        "volumes": [{"type": "volume", "source": "postgres", "target": folder}],
        "tmpfs": ["/tmp:size=64m,mode=1777", "/var/run/postgresql:size=64m,mode=1777"],  # noqa: S108
        "shm_size": "128m",
        "healthcheck": check_by(container["readinessProbe"]["exec"]["command"], start_s=60),
    }


def _store(box: Box, name: str, container: dict[str, Any]) -> Services:
    limit = container["resources"]["limits"]["memory"]
    return common(
        box,
        name,
        container["image"],
        memory_bytes=int(limit.removesuffix("Mi")) << 20,
        user=why(_STORE_USERS[name], "the image's own user, to whom the volume belongs"),
        networks=["inside"],
    ) | {
        **({"command": [*container["command"], *container["args"]]} if "command" in container else {}),
        "volumes": [{"type": "volume", "source": name, "target": "/data"}],
        "stop_grace_period": "60s",
    }


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _dollars(word: str) -> str:
    """Compose takes a dollar for a variable."""
    return word.replace("$", "$$")


def _size(size_bytes: int) -> str:
    """Bytes as Compose writes them."""
    for unit, number in (("g", 1 << 30), ("m", 1 << 20), ("k", 1 << 10)):
        if size_bytes % number == 0:
            return f"{size_bytes // number}{unit}"
    return f"{size_bytes}b"


def _digest(told: str) -> str:
    return hashlib.sha256(told.encode()).hexdigest()[:16]
