"""`inhouse init`: the first `inhouse.yaml`, with comments that say what to change and why."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inhouse.cli.options import examples

if TYPE_CHECKING:
    from inhouse.deploy.profiles import Profile

EXAMPLES = examples(
    "inhouse init",
    "inhouse init laptop --model qwen3-4b",
    "inhouse init gpu-team --host llm.example.com --out stack.yaml",
)
_FILE = Path("inhouse.yaml")


def init(
    profile: Annotated[
        str | None,
        typer.Argument(metavar="[PROFILE]", help="laptop, free-tier, gpu-team, gpu-cluster or enterprise; else asked."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="The model: a short name, hf://…, s3://… (the profile's).")
    ] = None,
    host: Annotated[
        str | None, typer.Option(metavar="NAME", help="The name that clients call, where there is a door of its own.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to write.")] = _FILE,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: what is not given is the profile's.")] = False,
) -> None:
    """Write a commented inhouse.yaml to begin with.

    On a terminal it asks for what was not given; in a script it asks nothing. The file is checked before it is kept.
    """
    from inhouse.config.fields import choice_of
    from inhouse.deploy.profiles import PROFILES, text
    from inhouse.errors import StackError

    asks = sys.stdin.isatty() and sys.stdout.isatty() and not yes
    if out.exists() and not force:
        raise typer.BadParameter(f"{out} is there already; --force writes over it", param_hint="--out")
    if profile is None:
        profile = _choose(PROFILES) if asks else "laptop" if yes else None
    if profile is None:
        raise typer.BadParameter(f"name one of: {', '.join(PROFILES)}", param_hint="PROFILE")
    if profile not in PROFILES:
        raise typer.BadParameter(choice_of(profile, PROFILES), param_hint="PROFILE")
    chosen = PROFILES[profile]
    if host is not None and not chosen.host:
        raise typer.BadParameter(f"{profile} has no door of its own that a name leads to", param_hint="--host")
    if asks:
        model = model or _ask("model", chosen.model)
        host = host or (_ask("name that clients call", "llm.example.com") if chosen.host else None)
    try:
        _keep(text(profile, model=model, host=host), out, chosen)
    except StackError as error:  # the profile alone is whole: what was given is what does not fit
        raise StackError(error.message, where="--model", hint=error.hint) from None
    typer.echo(f"wrote {out}")
    typer.echo(f"next: {_next(out, chosen)}", err=True)


def _choose(profiles: dict[str, Profile]) -> str:
    from inhouse.config.fields import choice_of

    width = max(map(len, profiles))
    for name, profile in profiles.items():
        typer.echo(f"  {name:<{width}}  {profile.sentence}")
    while (chosen := _ask("profile", next(iter(profiles)))) not in profiles:
        typer.echo(choice_of(chosen, profiles))
    return chosen


def _ask(what: str, default: str) -> str:
    return str(typer.prompt(what, default=default)).strip()


def _keep(text: str, out: Path, profile: Profile) -> None:
    """Writes the file only once it is known to load and, for a cluster, to render.

    Raises StackError for a model that the profile cannot have, RenderError for a file that cannot be written.
    """
    import tempfile

    from inhouse.config import read
    from inhouse.deploy.site import Site
    from inhouse.deploy.tree import findings
    from inhouse.errors import RenderError, StackError

    kept = False
    part = None
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=out.parent, prefix=f".{out.name}.", suffix=".part", delete=False, encoding="utf-8"
        ) as file:
            part = Path(file.name)
            file.write(text)
        stack = read(part, environ={}, flags={}).stack
        if profile.cluster:
            found = findings(Site(stack))
            if found:
                raise StackError(found[0].message, hint="take another model, or the profile's own")
        part.chmod(0o666 & ~_umask())
        part.replace(out)
        kept = True
    except OSError as error:
        raise RenderError(
            f"{out} cannot be written: {error.strerror}", hint="name a file of your own with --out"
        ) from error
    finally:
        if part is not None and not kept:
            part.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _next(out: Path, profile: Profile) -> str:
    config = "" if out == _FILE else f" -c {out}"
    if not profile.cluster:
        return f"inhouse serve{config}"
    return f"see what says CHANGE in {out}, then: inhouse render{config} --out manifests"
