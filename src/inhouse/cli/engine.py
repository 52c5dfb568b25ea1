"""`inhouse engine`: an engine that is compiled for this machine, and what is used without one."""

from __future__ import annotations

import json
import os
import platform
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inhouse.cli.options import AsJson, examples

if TYPE_CHECKING:
    from inhouse.engines.native_here import Built

EXAMPLES = examples("inhouse engine build", "inhouse engine show")
BUILD_EXAMPLES = examples(
    "inhouse engine build",
    "inhouse engine build --gpu",
    "inhouse engine build --jobs 2 --json",
    "inhouse engine build --portable",
    "inhouse engine build --for aarch64",
)
SHOW_EXAMPLES = examples("inhouse engine show", "inhouse engine show --json")

app = typer.Typer(
    name="engine",
    help="Build an engine that uses all of this CPU, and NVIDIA's GPUs.",
    no_args_is_help=True,
    epilog=EXAMPLES,
)


@app.command(epilog=BUILD_EXAMPLES)
def build(
    gpu: Annotated[bool, typer.Option("--gpu", help="With CUDA too, for the NVIDIA GPUs that are here.")] = False,
    capability: Annotated[
        list[str] | None,
        typer.Option(
            "--capability", metavar="N.N", help="With CUDA too, for GPUs of this compute capability; several are told."
        ),
    ] = None,
    portable: Annotated[
        bool, typer.Option("--portable", help="For every CPU of this kind: what it can is found when it starts.")
    ] = False,
    machine: Annotated[
        str | None,
        typer.Option(
            "--for", metavar="MACHINE", help="A portable one for `x86_64` or `aarch64`, whichever this machine is."
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", metavar="N", min=1, help="Compilers at once (every core).")
    ] = None,
    system_tools: Annotated[
        bool, typer.Option("--system-tools", help="Use cmake, ninja and clang or gcc of PATH, not those of the index.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Build anew what is there, from nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compile llama.cpp for the CPU or the GPUs that are here; `inhouse serve` uses it from then on.

    Source, compiler and tools come by pip, so nothing of the system is needed; with CUDA, g++. Interrupted, it goes on
    where it was. It is used once it has answered as the engine in the package does.
    """
    from importlib.resources import files

    from inhouse.cli.engine_progress import told_as_it_goes
    from inhouse.engines.hardware import look
    from inhouse.engines.native import MACHINES, SPACE_BYTES
    from inhouse.engines.native_build import Job
    from inhouse.engines.native_build import build as build_it
    from inhouse.engines.native_cuda import SPACE_BYTES as CUDA_SPACE_BYTES
    from inhouse.engines.native_cuda import capabilities, usable, visible
    from inhouse.engines.native_here import cache_here, found, recipe_here
    from inhouse.errors import EngineBuildError, InhouseError

    cuda = set(capability or ())
    hardware = look(with_gpus=gpu)
    if gpu:
        cuda.update(capabilities(visible(usable(hardware.gpus), os.environ)))
        if not cuda:
            raise EngineBuildError(
                "no NVIDIA GPU is seen here that a driver speaks for",
                hint="`inhouse doctor hardware` shows what is; `--capability 8.9` builds for GPUs that are elsewhere",
            )
    if machine not in (None, *MACHINES):
        raise typer.BadParameter(f"a portable engine is made for {' or '.join(MACHINES)}", param_hint="--for")
    if machine not in (None, platform.machine()) and system_tools:
        raise typer.BadParameter("the system's compiler makes programs for this machine", param_hint="--for")
    if machine not in (None, platform.machine()) and cuda:
        raise typer.BadParameter("with CUDA an engine is made for this kind of machine", param_hint="--for")
    if machine is not None:
        hardware, portable = replace(hardware, system=f"{platform.system()} {machine}"), True
    cache, recipe = cache_here(os.environ), recipe_here(hardware, portable=portable, cuda=cuda)
    if force:
        for name in (recipe.folder, f"work-{recipe.folder}"):
            shutil.rmtree(cache / name, ignore_errors=True)
    built = found(cache, recipe)
    if built is None:
        job = Job(
            recipe=recipe,
            cpu=hardware.cpu,
            machine=machine or platform.machine(),
            cache=cache,
            jobs=jobs or hardware.usable_cores,
            demo=Path(str(files("inhouse.weights") / "demo.gguf")),
            system_tools=system_tools,
            space_bytes=CUDA_SPACE_BYTES if cuda else SPACE_BYTES,
            gpus=hardware.gpus if gpu else (),
        )
        try:
            with told_as_it_goes(as_json=as_json) as told:
                built = build_it(job, told)
        except InhouseError as error:
            if as_json:
                typer.echo(json.dumps({"event": "failed", "message": error.message, "hint": error.hint}))
            raise
        except KeyboardInterrupt:
            typer.echo("stopped; what has come stays: run the same command to go on", err=True)
            raise
    if as_json:
        typer.echo(json.dumps({"event": "built", **_document(built)}, ensure_ascii=False))
        return
    typer.echo(f"{built.program}\n{_what_next(built)}")


def _what_next(built: Built) -> str:
    machine = str(built.told.get("machine", platform.machine()))
    if machine == platform.machine():
        return "`inhouse serve` uses it from now on"
    tried = "" if built.told.get("checked") else f", untried: there is no qemu-{machine} here"
    return f"for machines of the kind {machine}{tried}; `inhouse serve` uses it there, in the cache of that machine"


@app.command(epilog=SHOW_EXAMPLES)
def show(as_json: AsJson = False) -> None:
    """Show which llama.cpp a model would get here, and what a build would bring."""
    from inhouse.engines.hardware import look
    from inhouse.engines.native import gains
    from inhouse.engines.native_cuda import usable
    from inhouse.engines.native_here import built_here

    hardware = look()
    built = built_here(hardware, os.environ)
    better = gains(hardware.cpu, gpu=bool(usable(hardware.gpus)))
    if as_json:
        told = {"build": _document(built) if built else None, "would_add": list(better)}
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    typer.echo(sentence(built, better, hardware.system))


def sentence(built: Built | None, gains: tuple[str, ...], system: str) -> str:
    """Which engine is used, and whether another would be faster. Pure."""
    from inhouse.engines.native import GPU, command

    which = "llama.cpp of the package"
    if built is not None:
        cuda, portable = built.told.get("cuda"), built.told.get("portable")
        kind = "NVIDIA's GPUs" if cuda else "every CPU of this kind" if portable else "this CPU"
        which = f"llama.cpp {built.told.get('version')}, built here for {kind}: {built.program}"
        gains = () if cuda else gains[: gains[:1] == (GPU,)]
    if not system.startswith("Linux ") or not gains:
        return which
    return f"{which}, which leaves {', '.join(gains)} unused; `{command(gains)}` makes one that does not"


def _document(built: Built) -> dict[str, object]:
    return {"program": str(built.program), **built.told}
