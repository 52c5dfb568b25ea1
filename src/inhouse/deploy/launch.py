"""How an engine's container starts: the image, and the same flags that start the engine on one machine."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from inhouse.deploy.site import MODELS_FOLDER, USER, Lane, Site
from inhouse.engines.choices import choose
from inhouse.engines.cpu import Cpu
from inhouse.engines.engine import Engine, Spec
from inhouse.engines.hardware import Hardware
from inhouse.engines.http import Address
from inhouse.engines.specs import UNKNOWN, spec_of
from inhouse.engines.table import ENGINES
from inhouse.errors import StackError


@dataclass(frozen=True, slots=True)
class Launch:
    """One container of an engine."""

    image: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    env: tuple[dict[str, Any], ...]
    ready: str | None
    """The path that answers once it is ready; None for a follower on another node, which answers nothing."""
    started: tuple[str, ...] | None
    """A command that fails until the engine has been told what it has to be told; None where that is nothing."""
    home: str
    """A folder that it may write what it compiles into."""
    user: int


def engine_of(lane: Lane) -> Engine:
    """The program that a lane's pods run: in a container the one of its own image."""
    return ENGINES["llama-server" if lane.spec.engine == "llamacpp" else lane.spec.engine]


def replica(lane: Lane) -> Spec:
    """The replica as it would be on a machine like the pod, but for the folder of the weights.

    Raises WeightsError for weights that the engine does not read.
    """
    cpus = cpus_of(lane)
    pod = Hardware("Linux", Cpu("", cpus, cpus), cpus, None, None, None, None)
    said = lane.spec
    chosen = choose(pod, threads=said.threads, batch=said.batch, slots=said.slots)
    weights = Path(weights_path(str(said.source)))
    made = spec_of(lane.model, said, weights, UNKNOWN, chosen)
    return replace(made, gpus=max(1, gpus_of(lane)) * said.deploy.nodes, binary=None)


def gpus_of(lane: Lane) -> int:
    """GPUs of one pod."""
    said = lane.spec
    if said.deploy.gpus is not None:
        return said.deploy.gpus
    return 0 if engine_of(lane).cpu else max(1, said.gpus // said.deploy.nodes)


def cpus_of(lane: Lane) -> int:
    """Whole CPUs of one pod: as said, as the engine has threads, or what it takes to feed a GPU."""
    cpu = lane.spec.deploy.cpu
    if cpu is None:
        return lane.spec.threads or (_CPUS_OF_A_GPU if gpus_of(lane) else _CPUS)
    return max(1, int(cpu.removesuffix("m")) // 1000 if cpu.endswith("m") else int(float(cpu)))


_CPUS, _CPUS_OF_A_GPU = 4, 8


def weights_path(source: str) -> str:
    """Where `inhouse pull --to` leaves what the engine is given: the file, or the folder of all."""
    name = source.partition("@")[0].rpartition("/")[2]
    return f"{MODELS_FOLDER}/{name}" if name.endswith(".gguf") else MODELS_FOLDER


def launch(site: Site, lane: Lane, *, role: str = "") -> Launch:
    """Raises StackError for an engine that cannot be started in a container."""
    engine = engine_of(lane)
    if engine.argv is None or engine.image is None:
        raise StackError(
            f"`models.{lane.model}.engine` is {engine.name}, which is spoken to and never started",
            where=f"models.{lane.model}.engine",
            hint="name where it runs with `endpoints`, or choose one of: "
            + ", ".join(name for name, one in ENGINES.items() if one.image),
        )
    host, port = site.inner(lane)
    made = engine.argv(replica(lane), Address(host=host, port=port))
    ours = {"llamacpp": "engine-cuda" if gpus_of(lane) else "engine-cpu", "transformers": "engine-transformers"}
    image = site.image(ours[lane.spec.engine]) if lane.spec.engine in ours else engine.image.name
    home = "/cache"
    env = [{"name": "HOME", "value": home}, {"name": "XDG_CACHE_HOME", "value": home}]
    env += [{"name": name, "value": value} for name, value in made.environment]
    command, args = engine.image.program, made.argv[1:]
    if made.then:
        command, args = ("sh", "-c", _with_what_follows(made.then), "sh"), (*command, *args)
    return Launch(
        image=lane.spec.deploy.image or image,
        command=command,
        args=args,
        env=tuple(env),
        ready=None if role == "worker" else engine.health.decode(),
        started=("test", "-e", f"{home}/{_TOLD}") if made.then else None,
        home=home,
        user=USER,
    )


def _with_what_follows(then: tuple[tuple[str, ...], ...]) -> str:
    """A script that starts its arguments as the engine, and runs what has to follow once the engine answers: until
    then it fails, and is tried again. Then it leaves a file, which is gone when the container starts anew."""
    follow = " && ".join(shlex.join(program) for program in then)
    return (
        f'rm -f "$HOME/{_TOLD}"; "$@" & engine=$!; trap "kill $engine" TERM INT; '
        f"until {follow}; do kill -0 $engine || exit 1; sleep 1; done; "
        f'touch "$HOME/{_TOLD}"; wait $engine; wait $engine'
    )


_TOLD = "told"
