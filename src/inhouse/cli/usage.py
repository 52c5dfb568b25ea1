"""`inhouse usage`: what was used, by day, tenant, key and model."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from inhouse.cli.options import AsJson, Config, StateDir, examples

if TYPE_CHECKING:
    from inhouse.store.ledger import UsageRow

EXAMPLES = examples(
    "inhouse usage",
    "inhouse usage --tenant acme --since '30 d'",
    "inhouse usage --since 2027-01-01 --until 2027-01-31 --by tenant --by model --csv",
    "inhouse usage --model chat --json",
)


def usage(
    tenant: Annotated[str | None, typer.Option(metavar="NAME", help="Only this tenant.")] = None,
    key: Annotated[str | None, typer.Option(metavar="ID", help="Only this key.")] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Only this model.")] = None,
    since: Annotated[
        str, typer.Option(metavar="TIME", help="How far back in whole days (UTC), or a date such as 2027-01-31.")
    ] = "7 d",
    until: Annotated[str | None, typer.Option(metavar="DATE", help="The last day (UTC); else today.")] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(metavar="WHAT", help="Add up by day, tenant, key or model; again for more. Else by all."),
    ] = None,
    config: Config = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, for spreadsheets.")] = False,
) -> None:
    """Show what was used, by day, tenant, key and model.

    A running gateway writes its counts about once a second.
    """
    import os
    import time
    from contextlib import closing

    from inhouse.config import load
    from inhouse.errors import BadRequest, StackError
    from inhouse.store.stores import Stores
    from inhouse.tenancy import usage as accounting

    try:
        columns = accounting.dimensions(by or [])
        wanted = accounting.wanted(since=since, until=until, tenant=tenant, key=key, model=model, now_s=time.time())
    except BadRequest as error:
        raise StackError(error.message, where=f"--{error.param}") from None
    stack = load(config, environ=os.environ, flags={"state_dir": state_dir})
    with closing(Stores.of(stack, os.environ).ledger()) as ledger:
        rows = accounting.added_up(ledger.usage(wanted), columns)
    if as_json:
        import json

        shown = [accounting.shown(row, columns) for row in rows]
        typer.echo(json.dumps({"currency": stack.currency, "usage": shown}, indent=2, ensure_ascii=False))
    elif as_csv:
        _print_csv(rows, columns, stack.currency)
    elif rows:
        _print_table(rows, columns, stack.currency)
    else:
        typer.echo(f"Nothing was used in the last {since}." if until is None else f"Nothing was used until {until}.")


def _print_csv(rows: Sequence[UsageRow], columns: Sequence[str], currency: str) -> None:
    """A head in any case, so that an empty report is one too."""
    import csv

    from inhouse.config.money import MICROS
    from inhouse.tenancy.usage import COUNTS, shown

    names = [*columns, *COUNTS, "money", "currency"]
    writer = csv.DictWriter(sys.stdout, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        money = f"{row.money // MICROS}.{row.money % MICROS:06d}"  # all places, and no exponent
        writer.writerow({**shown(row, columns), "money": money, "currency": currency})


def _print_table(rows: Sequence[UsageRow], columns: Sequence[str], currency: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from inhouse.tenancy.prices import amount
    from inhouse.tenancy.usage import COUNTS, shown

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.upper(), overflow="fold")
    for title in ("REQUESTS", "PROMPT", "CACHED", "ANSWERS", "COST"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        places = shown(row, columns)
        counts = [f"{getattr(row, name):,}" for name in COUNTS]
        cells = (*(str(places[column]) for column in columns), *counts, amount(row.money, currency))
        table.add_row(*(Text(cell) for cell in cells))
    sums = [f"{sum(getattr(row, name) for row in rows):,}" for name in COUNTS]
    blank = [""] * (len(columns) - 1)
    total = (*blank, "in all", *sums, amount(sum(row.money for row in rows), currency))
    table.add_row(*(Text(cell) for cell in total), style="bold")
    wide = None if sys.stdout.isatty() else 500  # a pipe has no width
    Console(width=wide).print(table)
