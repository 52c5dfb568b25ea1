"""`inhouse render`: the stack as the files that install it on a cluster."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inhouse.cli.options import AsJson, Config, examples

if TYPE_CHECKING:
    from inhouse.config import Reading
    from inhouse.deploy.site import Site
    from inhouse.deploy.tree import File

EXAMPLES = examples(
    "inhouse render --out ./manifests",
    "inhouse render --only gateway,engines",
    "inhouse render --diff ./manifests",
    "inhouse render --target kserve --check",
    "inhouse render --target helm --out ./chart",
    "inhouse render --target compose --out ./machine",
)


def render(
    config: Config = None,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Write the files there; else print them.")] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="kubernetes, kserve or knative, else `deploy.target` of the stack; or a form: compose or helm.",
        ),
    ] = None,
    only: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Print only these parts, with commas between.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            "--diff", metavar="FOLDER", help="Show how FOLDER differs from the stack; exit code 1 if it does."
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Look for what would not work; exit code 1 if there is any.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Render the installation on Kubernetes.

    The same inhouse.yaml that serves on one machine, as a kustomize tree: a base, and overlays for a trial and for
    production; or as a Helm chart of the same objects, or as a folder of Docker Compose for one machine. The same
    stack renders the same bytes.
    """
    from inhouse.config import read
    from inhouse.deploy.site import Site

    form = _form(target)
    reading = read(config, environ=os.environ, flags={"deploy.target": None if form else target})
    site = Site(reading.stack)
    files = _files(site, reading, form)
    if check:
        _check(site, form, as_json)
    elif against is not None:
        _diff(files, against, as_json)
    elif out is not None:
        _write(files, out, site, as_json)
    else:
        chosen = _only(files, only)
        if as_json:
            typer.echo(json.dumps({file.path: file.text for file in chosen}, indent=2, ensure_ascii=False))
        else:
            typer.echo("---\n".join(f"# {file.path}\n{file.text}" for file in chosen), nl=False)


def _form(target: str | None) -> str | None:
    """The form that a target is, if it is one; the others say who makes engines' pods."""
    from inhouse.config.fields import choice_of
    from inhouse.deploy.forms import FORMS
    from inhouse.deploy.targets import TARGETS

    if target is not None and target not in {*TARGETS, *FORMS}:
        raise typer.BadParameter(choice_of(target, [*TARGETS, *FORMS]), param_hint="--target")
    return target if target in FORMS else None


def _files(site: Site, reading: Reading, form: str | None) -> tuple[File, ...]:
    """The files; a mistake is told with the line that it stands in."""
    from inhouse.deploy.forms import FORMS
    from inhouse.deploy.tree import tree
    from inhouse.errors import StackError

    try:
        return FORMS[form](site) if form else tree(site)
    except StackError as error:
        place = tuple((error.where or "").split("."))
        named = next((name for name in reading.stack.models if (error.where or "").startswith(f"models.{name}.")), None)
        if named is not None:  # a model's name may have dots of its own
            place = ("models", named, *(error.where or "").removeprefix(f"models.{named}.").split("."))
        origin = next(
            (reading.origins[place[:n]] for n in range(len(place), 0, -1) if place[:n] in reading.origins), None
        )
        raise StackError(error.message, where=origin or error.where, hint=error.hint) from None


def _only(files: tuple[File, ...], only: str | None) -> list[File]:
    """The files of these parts; a part is a file's name without its ending, or a folder."""
    if only is None:
        return list(files)
    from inhouse.config.fields import choice_of

    known = {part: [file for file in files if part in _parts(file)] for file in files for part in _parts(file)}
    chosen = []
    for part in only.split(","):
        if part.strip() not in known:
            raise typer.BadParameter(choice_of(part.strip(), known), param_hint="--only")
        chosen += known[part.strip()]
    return list(dict.fromkeys(chosen))


def _parts(file: File) -> tuple[str, ...]:
    *folders, name = file.path.split("/")
    return (*folders, name.rpartition(".")[0])


def _write(files: tuple[File, ...], out: Path, site: Site, as_json: bool) -> None:
    from inhouse.deploy.write import write

    written, gone = write(files, out)
    if as_json:
        typer.echo(json.dumps({"written": [str(path) for path in written], "removed": [str(path) for path in gone]}))
        return
    for path in written:
        typer.echo(f"wrote {path}")
    for path in gone:
        typer.echo(f"removed {path}")
    if not written and not gone:
        typer.echo(f"{out} is as the stack says")
    typer.echo(f"next: see {out / 'README.md'}", err=True)


def _diff(files: tuple[File, ...], folder: Path, as_json: bool) -> None:
    from inhouse.deploy.write import diff

    lines = list(diff(files, folder))
    if as_json:
        typer.echo(json.dumps({"same": not lines, "diff": lines}))
    else:
        for line in lines:
            typer.echo(line)
    raise typer.Exit(1 if lines else 0)


def _check(site: Site, form: str | None, as_json: bool) -> None:
    from inhouse.deploy.forms import findings

    found = findings(site, form)
    if as_json:
        rows = [{"rule": finding.rule, "message": finding.message} for finding in found]
        typer.echo(json.dumps({"ok": not rows, "findings": rows}, indent=2))
    else:
        for finding in found:
            typer.echo(f"{finding.rule}: {finding.message}")
        if not found:
            typer.echo("ok: nothing found that would not work")
    raise typer.Exit(1 if found else 0)
