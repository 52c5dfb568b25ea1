"""`inhouse models bundle` and `unbundle`: models in one file, for sites without network."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from inhouse.cli.options import AsJson, Config, examples
from inhouse.cli.pull import Offline
from inhouse.errors import WeightsError

if TYPE_CHECKING:
    from inhouse.weights.bundle import Bundled
    from inhouse.weights.wanted import Got

BUNDLE_EXAMPLES = examples(
    "inhouse models bundle --out models.tar",
    "inhouse models bundle chat embed --out /media/stick/models.tar",
    "inhouse models bundle hf://ggml-org/gemma-3-1b-it-GGUF --out - | ssh inside inhouse models unbundle -",
)
UNBUNDLE_EXAMPLES = examples(
    "inhouse models unbundle models.tar",
    "inhouse models unbundle /media/stick/models.tar --to /models",
)


def bundle(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The file to write; - is standard output.")],
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL|SOURCE]...", help="As of `inhouse pull`: without any, all of the stack.", show_default=False
        ),
    ] = None,
    config: Config = None,
    quant: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which quantisation, where there are several.")
    ] = None,
    safetensors: Annotated[
        bool, typer.Option("--safetensors", help="Config, tokenizer and safetensors of a SOURCE, not its .gguf file.")
    ] = False,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Write models into one file: weights, digests, licence and model card.

    What is not here yet is fetched first. The same models give the same bytes. Every file is hashed as it is written.
    """
    from inhouse.cli.pull import jobs_of, pull_one
    from inhouse.cli.pull_progress import told_as_it_comes
    from inhouse.config import load
    from inhouse.weights import bundle as bundles
    from inhouse.weights.deliver import check_free, disk_told

    if str(out) == "-" and sys.stdout.isatty():
        raise typer.BadParameter("a bundle is not for a terminal: name a file, or pipe it on", param_hint="--out")
    stack = load(config, environ=os.environ, flags={})
    taken: list[tuple[Bundled, Got]] = []
    for name, source, wanted in jobs_of(stack, models or [], safetensors=safetensors):
        wanted = replace(wanted, quant=quant or wanted.quant, offline=offline or wanted.offline)
        got = pull_one(name, source, wanted, as_json=False)
        with disk_told(got.path.parent):
            taken.append((bundles.describe(name, got), got))
    size = sum({file.sha256: file.bytes for bundled, _ in taken for file in bundled.files}.values())
    with disk_told(out.parent):
        if str(out) != "-":
            check_free(str(out), out.parent, size, stack.weights.disk_reserve)
        with _written(out) as stream, told_as_it_comes("bundle", as_json=False) as progress:
            done = 0

            def told(count: int) -> None:
                nonlocal done
                done += count
                progress(done, size)

            bundles.write(stream, taken, told)
    _tell([bundled for bundled, _ in taken], None, as_json=as_json, err=str(out) == "-")


def unbundle(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A bundle; - is standard input.")],
    config: Config = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FOLDER", help="Put the files there, a folder per model, not into the cache."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Take models out of a bundle, every file checked against its hash, so that they serve without network.

    From the cache they serve under the sources that they were fetched from; set `weights.offline: true` there.
    """
    from inhouse.cli.pull_progress import told_as_it_comes
    from inhouse.config import load
    from inhouse.weights.unbundle import into_cache, into_folder

    stack = load(config, environ=os.environ, flags={})
    with _read(file) as stream, told_as_it_comes("unbundle", as_json=False) as progress:
        if to is not None:
            models = into_folder(stream, to.absolute(), stack.weights.disk_reserve, progress)
        else:
            models = into_cache(stream, stack.weights.folder, stack.weights.disk_reserve, progress)
    _tell(models, to, as_json=as_json, err=False)


@contextmanager
def _written(out: Path) -> Iterator[IO[bytes]]:
    """All of it under its name, or nothing."""
    if str(out) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    fresh = out.with_name(f"{out.name}.part")
    try:
        with fresh.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(fresh, out)
    finally:
        fresh.unlink(missing_ok=True)


@contextmanager
def _read(file: Path) -> Iterator[IO[bytes]]:
    if str(file) == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = file.open("rb")
    except OSError as error:
        raise WeightsError(f"{file} cannot be read: {error.strerror}") from error
    with stream:
        yield stream


def _tell(models: list[Bundled], to: Path | None, *, as_json: bool, err: bool) -> None:
    from inhouse.cli.pull_progress import size_text
    from inhouse.weights.unbundle import home

    if as_json:
        rows = [
            {
                "name": model.name,
                "source": model.source,
                "version": model.version or None,
                "licence": model.licence,
                "bytes": sum(file.bytes for file in model.files),
                "files": [{"name": file.name, "bytes": file.bytes, "sha256": file.sha256} for file in model.files],
                "path": str(home(to.absolute(), model)) if to else None,
            }
            for model in models
        ]
        typer.echo(json.dumps({"models": rows}, indent=2, ensure_ascii=False), err=err)
        return
    for model in models:
        size = size_text(sum(file.bytes for file in model.files))
        where = f" in {home(to.absolute(), model)}" if to else ""
        typer.echo(f"{model.name}: {size}{where}, {model.source}, licence {model.licence or 'not told'}", err=err)
