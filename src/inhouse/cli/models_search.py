"""`inhouse models search`: short names of models, and the file of each that suits this machine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inhouse.cli.options import AsJson, Config, examples

if TYPE_CHECKING:
    from inhouse.config.model_catalogue import CatalogueEntry
    from inhouse.weights.catalogue import Machine

EXAMPLES = examples("inhouse models search", "inhouse models search gemma", "inhouse models search embed --json")


def search(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[WORD]...", help="Parts of a name or of what it is; without any, all names."),
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Search the short names that can stand for a source: `source: gemma-3-1b`, `inhouse serve gemma-3-1b`.

    Beside each stands the file that would be taken on this machine, by its memory and its CPU. NAME:QUANTISATION names
    another one.
    """
    import os

    from inhouse.cli.this_machine import this_machine
    from inhouse.config import load
    from inhouse.config.model_catalogue import catalogue
    from inhouse.errors import InhouseError
    from inhouse.weights import catalogue as shelf

    entries = catalogue(load(config, environ=os.environ, flags={}).weights.catalogue)
    asked = " ".join(words or [])
    machine = this_machine()
    found = [_row(name, entries[name], machine) for name in shelf.search(asked, entries)]
    if as_json:
        import json

        typer.echo(json.dumps({"models": found}, indent=2, ensure_ascii=False))
        return
    if not found:
        raise InhouseError(f"no name of the catalogue is like '{asked}'", hint="`inhouse models search` shows them all")
    _print_table(found)


def _row(name: str, entry: CatalogueEntry, machine: Machine) -> dict[str, Any]:
    from inhouse.errors import WeightsError
    from inhouse.weights.catalogue import choose

    try:
        choice = choose(name, entry, machine)
        here = {"source": choice.source, "quantisation": choice.quantisation, "bytes": choice.bytes}
    except WeightsError as error:
        here = {"source": None, "reason": error.message}
    return {
        "name": name,
        "about": entry.about,
        "task": entry.task,
        "licence": entry.licence,
        "here": here,
        "files": {
            quantisation: {"source": entry.source_of(quantisation), "bytes": spec.bytes}
            for quantisation, spec in entry.files.items()
        },
        "safetensors": entry.safetensors and f"hf://{entry.safetensors}",
        "gated": entry.gated,
        "checked": entry.checked,
    }


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("NAME", "HERE", "SIZE", "LICENCE", "WHAT"):
        table.add_column(
            title, overflow="fold", justify="right" if title == "SIZE" else "left", no_wrap=title == "NAME"
        )
    for row in rows:
        here = row["here"]
        size = here.get("bytes")
        cells = (
            row["name"],
            here.get("quantisation") or ("too large" if row["files"] else "safetensors only"),
            f"{size / 1e9:.2f} GB" if size else "-",
            row["licence"] or "-",
            row["about"],
        )
        table.add_row(*(Text(cell) for cell in cells))
    Console(width=None if sys.stdout.isatty() else 500).print(table)  # a pipe has no width
