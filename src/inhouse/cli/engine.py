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
    "inhouse engine build --jobs 2 --json",
    "inhouse engine build --portable",
    "inhouse engine build --for aarch64",
)
SHOW_EXAMPLES = examples("inhouse engine show", "inhouse engine show --json")

app = typer.Typer(
    name="engine", help="Build an engine that uses all of this CPU.", no_args_is_help=True, epilog=EXAMPLES
)


@app.command(epilog=BUILD_EXAMPLES)
def build(
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
    """Compile llama.cpp for the CPU that is here; `inhouse serve` uses it from then on.

    Source, compiler and tools come by pip, so nothing of the system is needed. Interrupted, it goes on where it was.
    It is used once it has answered as the engine in the package does.
    """
    from importlib.resources import files

    from inhouse.cli.engine_progress import told_as_it_goes
    from inhouse.engines.hardware import look
    from inhouse.engines.native import MACHINES
    from inhouse.engines.native_build import Job
    from inhouse.engines.native_build import build as build_it
    from inhouse.engines.native_here import cache_here, found, recipe_here
    from inhouse.errors import InhouseError

    hardware = look(with_gpus=False)
    if machine not in (None, *MACHINES):
        raise typer.BadParameter(f"a portable engine is made for {' or '.join(MACHINES)}", param_hint="--for")
    if machine not in (None, platform.machine()) and system_tools:
        raise typer.BadParameter("the system's compiler makes programs for this machine", param_hint="--for")
    if machine is not None:
        hardware, portable = replace(hardware, system=f"{platform.system()} {machine}"), True
    cache, recipe = cache_here(os.environ), recipe_here(hardware, portable=portable)
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
    from inhouse.engines.native_here import built_here

    hardware = look(with_gpus=False)
    built = built_here(hardware, os.environ)
    if as_json:
        typer.echo(
            json.dumps(
                {"build": _document(built) if built else None, "would_add": list(gains(hardware.cpu))},
                indent=2,
                ensure_ascii=False,
            )
        )
        return
    typer.echo(sentence(built, gains(hardware.cpu), hardware.system))


def sentence(built: Built | None, gains: tuple[str, ...], system: str) -> str:
    """Which engine is used, and whether another would be faster. Pure."""
    if built is not None:
        kind = "every CPU of this kind" if built.told.get("portable") else "this CPU"
        return f"llama.cpp {built.told.get('version')}, built here for {kind}: {built.program}"
    package = "llama.cpp of the package"
    if not system.startswith("Linux ") or not gains:
        return package
    return (
        f"{package}, which leaves {', '.join(gains)} of this CPU unused; `inhouse engine build` makes one that does not"
    )


def _document(built: Built) -> dict[str, object]:
    return {"program": str(built.program), **built.told}
