"""`inhouse pull`: weights onto this machine, whole and checked. The same command fills a volume before engines start.

Exit codes beside the usual: 75, the place did not answer or refused; run it again later. 130, stopped by Ctrl-C: what
has come stays, and the same command goes on there.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inhouse.cli.options import AsJson, Config, examples
from inhouse.errors import InhouseError

if TYPE_CHECKING:
    from inhouse.config import Stack
    from inhouse.weights.wanted import Got, Wanted

EXAMPLES = examples(
    "inhouse pull",
    "inhouse pull chat",
    "inhouse pull gemma-3-1b",
    "inhouse pull hf://ggml-org/gemma-3-1b-it-GGUF --quant Q8_0",
    "inhouse pull --config /etc/inhouse/inhouse.yaml --to /models --json chat",
)

Offline = Annotated[bool, typer.Option("--offline", help="Use only what is on this machine; ask nobody.")]


def pull(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL|SOURCE]...",
            help="Models of the stack or of the catalogue by name, or sources such as hf://org/repo; without any, all "
            "of the stack.",
            show_default=False,
        ),
    ] = None,
    config: Config = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FOLDER", help="Put the files there, as they are, in place of the cache."),
    ] = None,
    quant: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which quantisation, where there are several: Q4_K_M, Q8_0 …")
    ] = None,
    sha256: Annotated[
        str | None, typer.Option("--sha256", metavar="HEX", help="What the weights must hash to, else it fails.")
    ] = None,
    safetensors: Annotated[
        bool, typer.Option("--safetensors", help="Config, tokenizer and safetensors of a SOURCE, not its .gguf file.")
    ] = False,
    connections: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=64, help="Parts of one file at once (8).")
    ] = None,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Fetch weights: in parallel, whole, checked by size and SHA-256, into a cache that other programs share.

    What is here is not fetched again. Killed at any moment, it goes on where it was; processes that want the same, on
    one machine or one shared volume, fetch it once.
    """
    from inhouse.config import load

    stack = load(config, environ=os.environ, flags={"weights.connections": connections})
    jobs = jobs_of(stack, models or [], safetensors=safetensors)
    if len(jobs) > 1 and (to or sha256):
        option = "--to" if to else "--sha256"
        raise typer.BadParameter(f"is for one model, {len(jobs)} are named", param_hint=option)
    for name, source, wanted in jobs:
        if sha256 or quant or offline or to:
            pinned = _pinned(sha256) if sha256 else wanted.sha256
            wanted = replace(
                wanted,
                quant=quant or wanted.quant,
                sha256=pinned,
                offline=offline or wanted.offline,
                into=to.absolute() if to else None,
            )
        _tell(name, pull_one(name, source, wanted, as_json=as_json), as_json=as_json)


def pull_one(name: str, source: str, wanted: Wanted, *, as_json: bool) -> Got:
    """Fetches, and tells how far it is. Raises `WeightsError`."""
    from inhouse.cli.pull_progress import told_as_it_comes
    from inhouse.weights.sources import obtain

    try:
        with told_as_it_comes(name, as_json=as_json) as progress:
            return obtain(source, replace(wanted, progress=progress, papers=True))
    except InhouseError as error:
        if as_json:
            event = {"event": "failed", "model": name, "message": error.message, "hint": error.hint}
            typer.echo(json.dumps(event, ensure_ascii=False))
        raise
    except KeyboardInterrupt:
        typer.echo("stopped; what has come stays: run the same command to go on", err=True)
        raise


def jobs_of(stack: Stack, named: list[str], *, safetensors: bool) -> list[tuple[str, str, Wanted]]:
    """Name, source and what is wanted, of each."""
    from inhouse.cli.this_machine import this_machine
    from inhouse.config.model_catalogue import catalogue, way_out
    from inhouse.engines.table import ENGINES
    from inhouse.weights.sources import line_of
    from inhouse.weights.wanted import ANY, Form, Wanted, silent, wanted_of

    machine = this_machine()
    jobs = []
    for name in named or [name for name, spec in stack.models.items() if spec.source]:
        spec = stack.models.get(name)
        if spec is not None and spec.source is None:
            raise typer.BadParameter(f"{name} has no `source`: its engines run elsewhere", param_hint="MODEL")
        if spec is not None and spec.source is not None:
            wanted = wanted_of(spec, stack.weights, ENGINES[spec.engine].formats, silent, machine)
            jobs.append((name, spec.source, wanted))
            continue
        line = line_of(name)
        if line.kind == "name" and line.place not in (entries := catalogue(stack.weights.catalogue)):
            known = ", ".join(stack.models)
            raise typer.BadParameter(
                f"{name!r} is no model of the stack ({known}), no name of the catalogue and no source; "
                f"{way_out(line.place, entries)}",
                param_hint="MODEL",
            )
        forms: tuple[Form, ...] = ("safetensors",) if safetensors else ANY
        wanted = Wanted(Path.cwd(), silent, stack.weights.offline, forms, spec=stack.weights, machine=machine)
        jobs.append((line.shown, name, wanted))
    return jobs


def _pinned(text: str) -> str:
    import re

    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise typer.BadParameter("has 64 hexadecimal digits", param_hint="--sha256")
    return text


def _tell(name: str, got: Got, *, as_json: bool) -> None:
    from inhouse.cli.pull_progress import size_text
    from inhouse.weights.kept import whole_sha256

    size = sum(file.size for file in got.files)
    if as_json:
        event = {
            "event": "pulled",
            "model": name,
            "source": got.line.shown,
            "version": got.version or None,
            "path": str(got.path),
            "bytes": size,
            "sha256": whole_sha256(got),
            "files": [{"name": f.name, "path": str(f.path), "bytes": f.size, "digest": f.digest} for f in got.files],
        }
        typer.echo(json.dumps(event, ensure_ascii=False))
        return
    typer.echo(f"{name}: {size_text(size)} at {got.path}")
