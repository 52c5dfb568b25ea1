"""`inhouse tenants`: who they are, what they may use, and where they stand now."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from inhouse.cli.options import AsJson, Config, StateDir, examples

EXAMPLES = examples("inhouse tenants list", "inhouse tenants list --json", "inhouse tenants show acme")

app = typer.Typer(
    name="tenants", help="List tenants, their limits and their use.", no_args_is_help=True, epilog=EXAMPLES
)


@app.command("list", epilog=EXAMPLES)
def list_(config: Config = None, state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """List the tenants of inhouse.yaml and those that used something this month (UTC).

    Use stands beside its limit; what requests in flight may still use counts as used.
    """
    currency, rows = _rows(config, state_dir, only=None)
    if as_json:
        from inhouse.tenancy.standing import shown

        _print_json({"currency": currency, "tenants": [shown(row) for row in rows]})
    elif rows:
        _print_table(rows, currency)
    else:
        typer.echo("No tenants: inhouse.yaml names none under `tenants`, and nobody used anything this month.")


@app.command(epilog=examples("inhouse tenants show acme", "inhouse tenants show acme --json"))
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The tenant.")],
    config: Config = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Show one tenant: its share, its models, each of its limits and how much of it is used."""
    from inhouse.tenancy.standing import shown

    currency, (row,) = _rows(config, state_dir, only=name)
    if as_json:
        _print_json({"currency": currency, **shown(row)})
        return
    if not row["named"]:
        typer.secho(f"inhouse.yaml does not name '{name}': what holds for it is `tenant_defaults`.", err=True, dim=True)
    _print_tenant(row, currency)


def _rows(config: Path | None, state_dir: Path | None, *, only: str | None) -> tuple[str, list[dict[str, Any]]]:
    """The currency, and the rows with their money in millionths of it."""
    import os
    from contextlib import closing

    from inhouse.config import load
    from inhouse.store.moment import now
    from inhouse.store.stores import Stores
    from inhouse.tenancy.standing import standings

    stack = load(config, environ=os.environ, flags={"state_dir": state_dir})
    with closing(Stores.of(stack, os.environ).ledger()) as ledger:
        return stack.currency, standings(stack, ledger, now(), only=only)


def _print_table(rows: list[dict[str, Any]], currency: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from inhouse.tenancy.prices import amount

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("TENANT", "WEIGHT", "PRIORITY", "MODELS"):
        table.add_column(title, overflow="fold", justify="right" if title == "WEIGHT" else "left")
    for title in ("RUNNING", "TOKENS TODAY", "TOKENS THIS MONTH", f"{currency} THIS MONTH"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        cells = (
            row["tenant"] if row["named"] else f"{row['tenant']} (by default)",
            str(row["weight"]),
            row["priority"],
            ", ".join(row["models"]) or "all",
            _against(row, "concurrent_requests", None),
            _against(row, "tokens_per_day", row["today"]["tokens"]),
            _against(row, "tokens_per_month", row["month"]["tokens"]),
            _against(row, "money_per_month", row["month"]["money"], lambda micros: amount(micros, "").strip()),
        )
        table.add_row(*(Text(cell) for cell in cells))
    Console(width=_width()).print(table)


def _print_tenant(row: dict[str, Any], currency: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from inhouse.tenancy.prices import amount

    def form(limit: str) -> Callable[[int], str]:
        return (lambda micros: amount(micros, currency)) if limit.startswith("money") else "{:,}".format

    facts = Table(box=None, pad_edge=False, show_header=False)
    facts.add_row("tenant", Text(row["tenant"]))
    facts.add_row("weight", str(row["weight"]))
    facts.add_row("priority", row["priority"])
    facts.add_row("models", Text(", ".join(row["models"]) or "all"))
    for period in ("today", "month"):
        sums = row[period]
        words = f"{sums['requests']:,} requests, {sums['tokens']:,} tokens, {amount(sums['money'], currency)}"
        facts.add_row(period, words)
    console = Console(width=_width())
    console.print(facts)
    if not row["limits"]:
        console.print("\nno limits")
        return
    limits = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("LIMIT", "USED", "HELD", "OF"):
        limits.add_column(title, justify="left" if title == "LIMIT" else "right", no_wrap=True)
    for limit, parts in row["limits"].items():
        limits.add_row(limit, *(form(limit)(parts[part]) for part in ("used", "held", "limit")))
    console.print()
    console.print(limits)


def _against(row: dict[str, Any], limit: str, counted: int | None, form: Callable[[int], str] = "{:,}".format) -> str:
    """`1,200 of 10,000`; without a limit, what was counted."""
    standing = row["limits"].get(limit)
    if standing is None:
        return "-" if counted is None else form(counted)
    return f"{form(standing['used'] + standing['held'])} of {form(standing['limit'])}"


def _width() -> int | None:
    return None if sys.stdout.isatty() else 500  # a pipe has no width


def _print_json(document: object) -> None:
    import json

    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
