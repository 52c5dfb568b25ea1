"""What `inhouse models` says and does about the cache of weights: `list --cache`, `rm`, `verify`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inhouse.cli.options import AsJson, Config, examples
from inhouse.errors import WeightsError

if TYPE_CHECKING:
    from inhouse.config import Stack
    from inhouse.config.sources import SourceLine
    from inhouse.weights.cache import Kept
    from inhouse.weights.wanted import GotFile

RM_EXAMPLES = examples(
    "inhouse models rm hf://ggml-org/gemma-3-1b-it-GGUF",
    "inhouse models rm hf://ggml-org/gemma-3-1b-it-GGUF/gemma-3-1b-it-Q8_0.gguf --dry-run",
    "inhouse models rm --partial",
)
VERIFY_EXAMPLES = examples("inhouse models verify", "inhouse models verify chat --json", "inhouse models verify --fix")

Named = Annotated[
    list[str] | None,
    typer.Argument(metavar="[MODEL|SOURCE]...", help="Models of the stack by name, or sources.", show_default=False),
]


def list_cache(config: Path | None, *, as_json: bool) -> None:
    """Prints all that is in the cache."""
    from inhouse.weights.cache import kept_in

    stack = _stack(config)
    rows = kept_in(stack.weights.folder)
    used = _used(stack)
    if as_json:
        typer.echo(json.dumps({"cache": [document(row, used) for row in rows]}, indent=2, ensure_ascii=False))
        return
    _print(rows, used)


def rm(
    models: Named = None,
    config: Config = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Only what interrupted fetches have left; of all, if none is named.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and keep it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take weights out of the cache: of a source all versions, or the revision and file that it names.

    Files that other versions have too stay. An engine that has a file open goes on with it.
    """
    from inhouse.weights.cache import kept_in, remove, remove_parts

    stack = _stack(config)
    if not models and not partial:
        raise typer.BadParameter("is needed: what shall go?", param_hint="MODEL or SOURCE")
    kept = _kept(stack, models) if models else kept_in(stack.weights.folder)
    size = sum(one.partial_bytes if partial else one.size for one in kept)
    freed = size if dry_run else remove_parts(kept) if partial else remove(kept)
    if as_json:
        typer.echo(json.dumps({"bytes": freed, "removed": not dry_run}))
        return
    from inhouse.cli.pull_progress import size_text

    for one in kept if dry_run else ():
        typer.echo(f"{one.source} {one.version[:12]}: {size_text(one.partial_bytes if partial else one.size)}")
    typer.echo(f"{size_text(freed)} {'would be' if dry_run else 'is'} free again")


def verify(
    models: Named = None,
    config: Config = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="Take damaged files away, so that `inhouse pull` fetches them again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Hash weights in the cache once more; without a name, all of them. Exit code 1 if one is damaged."""
    from inhouse.cli.pull_progress import told_as_it_comes
    from inhouse.weights.cache import damaged, kept_in, take_away
    from inhouse.weights.deliver import disk_told
    from inhouse.weights.shelf import hub_folder

    stack = _stack(config)
    kept = _kept(stack, models) if models else kept_in(stack.weights.folder)
    files: dict[Path, GotFile] = {file.path.resolve(): file for one in kept for file in one.files}
    total, done = sum(file.size for file in files.values()), 0
    bad: list[dict[str, str]] = []
    unknown: list[str] = []
    with told_as_it_comes("verify", as_json=as_json) as progress, disk_told(hub_folder(stack.weights.folder)):

        def told(count: int) -> None:
            nonlocal done
            done += count
            progress(done, total)

        for file in files.values():
            try:
                found = damaged(file, told)
            except ValueError:
                unknown.append(str(file.path))
                continue
            if found is not None:
                bad.append({"path": str(file.path), "expected": file.digest, "found": found})
                if fix:
                    take_away(file)
    good = len(files) - len(bad) - len(unknown)
    if as_json:
        report = {
            "event": "verified",
            "files": len(files),
            "good": good,
            "damaged": bad,
            "unknown": unknown,
            "fixed": fix,
        }
        typer.echo(json.dumps(report, ensure_ascii=False))
    else:
        for one in bad:
            typer.echo(f"damaged: {one['path']} hashes to {one['found']}, not to {one['expected']}")
        for path in unknown:
            typer.echo(f"unknown: {path} has no hash to compare with")
        typer.echo(f"{good} of {len(files)} files are what they were when they came")
    if bad:
        raise WeightsError(
            f"{len(bad)} files of the cache are damaged",
            hint="they are taken away; `inhouse pull` fetches them again"
            if fix
            else "run it with --fix, then `inhouse pull`",
        )


def document(kept: Kept, used: dict[str, list[str]]) -> dict[str, object]:
    """For scripts."""
    return {
        "source": kept.source,
        "models": _names(kept, used),
        "version": kept.version or None,
        "revisions": list(kept.revisions),
        "bytes": kept.size,
        "partial_bytes": kept.partial_bytes,
        "path": str(kept.shelf.snapshot(kept.version) if kept.version else kept.shelf.folder),
        "files": [{"name": file.name, "bytes": file.size, "digest": file.digest or None} for file in kept.files],
    }


def _stack(config: Path | None) -> Stack:
    from inhouse.config import load

    return load(config, environ=os.environ, flags={})


def _kept(stack: Stack, models: list[str]) -> list[Kept]:
    from inhouse.weights.cache import of_source

    kept = []
    for name in models:
        kept += of_source(_line(stack, name), stack.weights.folder)
    return kept


def _line(stack: Stack, name: str) -> SourceLine:
    """Where a model of the stack, or a source, comes from; of a short name, what it stands for on this machine."""
    from inhouse.cli.this_machine import this_machine
    from inhouse.config.model_catalogue import catalogue
    from inhouse.engines.table import ENGINES
    from inhouse.weights.catalogue import expand
    from inhouse.weights.sources import line_of
    from inhouse.weights.wanted import ANY

    spec = stack.models.get(name)
    line = line_of(spec.source if spec and spec.source else name)
    if line.kind != "name":
        return line
    quant, forms = (spec.quant, ENGINES[spec.engine].formats) if spec else (None, ANY)
    entries = catalogue(stack.weights.catalogue)
    return line_of(expand(line, entries, this_machine(), quant=quant, forms=forms).source)


def _used(stack: Stack) -> dict[str, list[str]]:
    """Source as the cache shows it → models of the stack."""
    used: dict[str, list[str]] = {}
    for name, spec in stack.models.items():
        if spec.source:
            line = _line(stack, name)
            used.setdefault(f"hf://{line.place}" if line.kind == "hf" else line.shown, []).append(name)
    return used


def _names(kept: Kept, used: dict[str, list[str]]) -> list[str]:
    return used.get(kept.source, [])


def _print(rows: list[Kept], used: dict[str, list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from inhouse.cli.pull_progress import size_text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("SOURCE", "REVISION", "FILES", "SIZE", "PARTIAL", "MODELS"):
        table.add_column(title, overflow="fold", justify="right" if title in ("FILES", "SIZE", "PARTIAL") else "left")
    for row in rows:
        cells = (
            row.source,
            ", ".join(row.revisions) or row.version[:12] or "-",
            str(len(row.files)),
            size_text(row.size),
            size_text(row.partial_bytes) if row.partial_bytes else "-",
            ", ".join(_names(row, used)) or "-",
        )
        table.add_row(*map(Text, cells))
    Console(width=None if sys.stdout.isatty() else 500).print(table)
    total = sum(row.size for row in rows)
    typer.echo(f"{size_text(total)} in all" if rows else "the cache is empty", err=True)
