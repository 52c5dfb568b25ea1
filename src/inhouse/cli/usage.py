"""`inhouse usage`: what was used, by day, tenant, key and model."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inhouse.cli.options import AsJson, Config, StateDir, examples

if TYPE_CHECKING:
    from inhouse.store.ledger import UsageRow

EXAMPLES = examples("inhouse usage", "inhouse usage --tenant acme --since '30 d'", "inhouse usage --model chat --json")
_COUNTS = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens")


def usage(
    tenant: Annotated[str | None, typer.Option(metavar="NAME", help="Only this tenant.")] = None,
    key: Annotated[str | None, typer.Option(metavar="ID", help="Only this key.")] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Only this model.")] = None,
    since: Annotated[str, typer.Option(metavar="TIME", help="How far back, in whole days (UTC).")] = "7 d",
    config: Config = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Show what was used, by day, tenant, key and model.

    A running gateway writes its counts about once a second.
    """
    import os
    import time

    from inhouse.config import load, state_folder
    from inhouse.store.ledger import UsageFilter
    from inhouse.store.ledger_account import DAY_US
    from inhouse.store.ledger_sqlite import SqliteLedger

    stack = load(config, environ=os.environ, flags={"state_dir": state_dir})
    first_us = int((time.time() - _seconds(since)) * 1_000_000)
    wanted = UsageFilter(since_day=first_us // DAY_US, tenant=tenant, key_id=key, model=model)
    ledger = SqliteLedger(state_folder(stack, os.environ))
    try:
        rows = ledger.usage(wanted)
    finally:
        ledger.close()
    if as_json:
        import json

        from inhouse.config.money import render_money

        shown = [{**_shown(row), "money": render_money(row.money)} for row in rows]
        typer.echo(json.dumps({"currency": stack.currency, "usage": shown}, indent=2, ensure_ascii=False))
    elif rows:
        _print_table(rows, stack.currency)
    else:
        typer.echo(f"Nothing was used in the last {since}.")


def _seconds(text: str) -> float:
    from inhouse.config.units import parse_duration
    from inhouse.errors import StackError

    try:
        return parse_duration(text)
    except ValueError as error:
        raise StackError(f"'{text}' is no time: {error}", where="--since", hint="such as '7 d' or '30 d'") from None


def _shown(row: UsageRow) -> dict[str, Any]:
    return {
        "day": _date(row.day),
        "tenant": row.tenant,
        "key": row.key_id,
        "model": row.model,
        **{name: getattr(row, name) for name in _COUNTS},
    }


def _print_table(rows: tuple[UsageRow, ...], currency: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from inhouse.tenancy.prices import amount

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("DAY", "TENANT", "KEY", "MODEL"):
        table.add_column(title, overflow="fold")
    for title in ("REQUESTS", "PROMPT", "CACHED", "ANSWERS", "COST"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        names = (_date(row.day), row.tenant, row.key_id, row.model)
        counts = [f"{getattr(row, name):,}" for name in _COUNTS]
        table.add_row(*(Text(cell) for cell in (*names, *counts, amount(row.money, currency))))
    sums = [f"{sum(getattr(row, name) for row in rows):,}" for name in _COUNTS]
    total = ("", "", "", "in all", *sums, amount(sum(row.money for row in rows), currency))
    table.add_row(*(Text(cell) for cell in total), style="bold")
    wide = None if sys.stdout.isatty() else 500  # a pipe has no width
    Console(width=wide).print(table)


def _date(day: int) -> str:
    from datetime import date, timedelta

    return (date(1970, 1, 1) + timedelta(days=day)).isoformat()
