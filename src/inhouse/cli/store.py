"""`inhouse store`: where state is, and whether shared stores are as they should be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from inhouse.cli.options import AsJson, Config, StateDir, examples

if TYPE_CHECKING:
    from inhouse.store.store_check import Finding
    from inhouse.store.stores import Stores

EXAMPLES = examples("inhouse store check", "inhouse store check --json", "inhouse store migrate")
app = typer.Typer(name="store", help="Look at the stores that gateways share.", no_args_is_help=True, epilog=EXAMPLES)


@app.command(epilog=examples("inhouse store check", "inhouse store check --json"))
def check(config: Config = None, state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """Say whether Redis and PostgreSQL can be reached, and are set up so that limits hold. Exit code 1 where not."""
    from dataclasses import asdict

    found = _look(config, state_dir)
    if as_json:
        import json

        typer.echo(json.dumps([asdict(one) for one in found], indent=2))
    elif not found:
        typer.echo("No store is shared: `store` in inhouse.yaml names none. State is in the state folder.")
    for one in [] if as_json else found:
        color = {"ok": "green", "warning": "yellow", "failed": "red"}[one.state]
        typer.echo(f"{typer.style(one.state, fg=color):>8}  {one.store} {one.what}: {one.said}")
        if one.hint:
            typer.echo(f"{'':10}{one.hint}")
    if any(one.state == "failed" for one in found):
        raise typer.Exit(1)


@app.command(epilog=examples("inhouse store migrate"))
def migrate(config: Config = None, state_dir: StateDir = None) -> None:
    """Make PostgreSQL's tables, or bring them to this version, before a gateway does. Any number may do it at once."""
    from inhouse.store.store_check import migrate

    stores = _stores(config, state_dir)
    if not stores.store.postgres.is_set:
        typer.echo("`store` in inhouse.yaml names no PostgreSQL: tables in the state folder are made by the gateway.")
        return
    before, now = migrate(stores)
    if before == now:
        typer.echo(f"The tables are those of this version, {now}.")
    else:
        typer.echo(f"The tables were brought from version {before} to {now}.")


def _look(config: object, state_dir: object) -> list[Finding]:
    from inhouse.store.store_check import check

    return list(check(_stores(config, state_dir)))


def _stores(config: object, state_dir: object) -> Stores:
    import os

    from inhouse.config import load
    from inhouse.store.stores import Stores

    stack = load(config, environ=os.environ, flags={"state_dir": state_dir})  # type: ignore[arg-type]
    return Stores.of(stack, os.environ)
