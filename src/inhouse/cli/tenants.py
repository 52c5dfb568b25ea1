"""`inhouse tenants`: who they are, what they may use, and where they stand now."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from inhouse.cli.options import AsJson, Config, StateDir, examples

if TYPE_CHECKING:
    from inhouse.config import Stack
    from inhouse.store.ledger import Ledger

EXAMPLES = examples("inhouse tenants list", "inhouse tenants list --json")

app = typer.Typer(
    name="tenants", help="List tenants, their limits and their use.", no_args_is_help=True, epilog=EXAMPLES
)


@app.command("list", epilog=EXAMPLES)
def list_(config: Config = None, state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """List the tenants of inhouse.yaml and those that used something this month (UTC).

    Use stands beside its limit; what requests in flight may still use counts as used.
    """
    import os

    from inhouse.config import load, state_folder
    from inhouse.store.ledger_sqlite import SqliteLedger

    stack = load(config, environ=os.environ, flags={"state_dir": state_dir})
    ledger = SqliteLedger(state_folder(stack, os.environ))
    try:
        rows = _rows(stack, ledger)
    finally:
        ledger.close()
    if as_json:
        import json

        shown = {"currency": stack.currency, "tenants": [_shown(row) for row in rows]}
        typer.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    elif rows:
        _print_table(rows, stack.currency)
    else:
        typer.echo("No tenants: inhouse.yaml names none under `tenants`, and nobody used anything this month.")


def _rows(stack: Stack, ledger: Ledger) -> list[dict[str, Any]]:
    """Money in millionths of the currency."""
    from inhouse.store.ledger import UsageFilter, UsageRow, now
    from inhouse.store.ledger_account import DAY_US, month_of

    at = now()
    today = at.wall_us // DAY_US
    used = [row for row in ledger.usage(UsageFilter(since_day=today - 31)) if month_of(row.day) == month_of(today)]

    def summed(rows: list[UsageRow]) -> dict[str, Any]:
        return {
            "requests": sum(row.requests for row in rows),
            "tokens": sum(row.prompt_tokens + row.completion_tokens for row in rows),
            "money": sum(row.money for row in rows),
        }

    found = []
    for name in dict.fromkeys([*stack.tenants, *sorted(row.tenant for row in used)]):
        spec = stack.tenants.get(name, stack.tenant_defaults)
        live = ledger.live(f"tenant:{name}", at)
        own = [row for row in used if row.tenant == name]
        limits = {
            limit: {"limit": most, "used": use.used, "held": use.held}
            for limit, use in live.items()
            if (most := getattr(spec.limits, limit)) is not None
        }
        found.append(
            {
                "tenant": name,
                "named": name in stack.tenants,
                "weight": spec.weight,
                "priority": spec.priority,
                "models": spec.models,
                "limits": limits,
                "today": summed([row for row in own if row.day == today]),
                "month": summed(own),
            }
        )
    return found


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """The row with its money as amounts of the currency."""
    from inhouse.config.money import render_money

    limits = {
        name: {part: render_money(value) for part, value in parts.items()} if name.startswith("money") else parts
        for name, parts in row["limits"].items()
    }
    spent = {period: {**row[period], "money": render_money(row[period]["money"])} for period in ("today", "month")}
    return {**row, "limits": limits, **spent}


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
    wide = None if sys.stdout.isatty() else 500  # a pipe has no width
    Console(width=wide).print(table)


def _against(row: dict[str, Any], limit: str, counted: int | None, form: Callable[[int], str] = "{:,}".format) -> str:
    """`1,200 of 10,000`; without a limit, what was counted."""
    standing = row["limits"].get(limit)
    if standing is None:
        return "-" if counted is None else form(counted)
    return f"{form(standing['used'] + standing['held'])} of {form(standing['limit'])}"
