"""`inhouse models`: what the running gateway serves, or, when none runs, what is configured."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inhouse.cli import models_bundle, models_cache, models_search, models_show
from inhouse.cli.options import ApiKey, AsJson, BaseUrl, Config, StateDir, examples

if TYPE_CHECKING:
    from inhouse.cli.reach import Target

EXAMPLES = examples("inhouse models", "inhouse models list --json", "inhouse models --base-url http://server:8080/v1")

app = typer.Typer(
    name="models",
    help="List models, look at them, find others, keep their weights.",
    invoke_without_command=True,
    epilog=EXAMPLES,
)
app.command("search", epilog=models_search.EXAMPLES)(models_search.search)
app.command("show", epilog=models_show.EXAMPLES)(models_show.show)
app.command("rm", epilog=models_cache.RM_EXAMPLES)(models_cache.rm)
app.command("verify", epilog=models_cache.VERIFY_EXAMPLES)(models_cache.verify)
app.command("bundle", epilog=models_bundle.BUNDLE_EXAMPLES)(models_bundle.bundle)
app.command("unbundle", epilog=models_bundle.UNBUNDLE_EXAMPLES)(models_bundle.unbundle)


@app.callback()
def models(
    context: typer.Context,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    config: Config = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """List the models that the running gateway serves; `list` is what it does anyway."""
    if context.invoked_subcommand is None:
        list_(base_url, api_key, config, state_dir, as_json=as_json)


@app.command("list", epilog=EXAMPLES)
def list_(
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    config: Config = None,
    state_dir: StateDir = None,
    cache: Annotated[
        bool, typer.Option("--cache", help="List the weights on this machine instead, fetched by whomever.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the models that the running gateway serves; when none runs, those that are configured."""
    if cache:
        models_cache.list_cache(config, as_json=as_json)
        return
    from inhouse.cli.reach import Target

    target = Target(config, base_url, api_key, state_dir)
    configured = {} if target.url else _configured(target)
    running = _running(target)
    rows = [_row(name, configured.get(name, {}), None) for name in configured]
    if running is not None:
        rows = [_row(str(entry.get("id")), configured.get(str(entry.get("id")), {}), entry) for entry in running]
    if as_json:
        import json

        typer.echo(json.dumps({"running": running is not None, "models": rows}, indent=2, ensure_ascii=False))
        return
    _print_table(rows)
    if running is None:
        typer.echo("No gateway runs; this is what is configured. Start it with `inhouse serve`.", err=True)


def _running(target: Target) -> list[dict[str, Any]] | None:
    """The gateway's own list; None when nothing listens where the configuration says."""
    from inhouse.cli.client import Unreachable
    from inhouse.cli.reach import reach

    try:
        with reach(target, note="inhouse models") as gateway:
            return gateway.models()
    except Unreachable:
        if target.url:
            raise
        return None


def _configured(target: Target) -> dict[str, dict[str, Any]]:
    return {name: spec.model_dump(mode="json") for name, spec in target.stack().models.items()}


def _row(name: str, spec: dict[str, Any], entry: dict[str, Any] | None) -> dict[str, Any]:
    """One model: what the gateway says of it, else what is configured."""
    own = (entry or {}).get("inhouse")
    said: dict[str, Any] = {**spec, **(entry or {}), **(own if isinstance(own, dict) else {})}
    return {
        "model": name,
        "engine": said.get("engine"),
        "source": said.get("source"),
        "state": said.get("state") if entry is not None else "not running",
        "context": said.get("context_tokens", said.get("context")),
        "slots": said.get("slots"),
        "why": said.get("reason"),
    }


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    titles = ["MODEL", "ENGINE", "SOURCE", "STATE", "CONTEXT", "SLOTS"]
    if any(row["why"] for row in rows):
        titles.append("WHY")  # something failed
    for title in titles:
        table.add_column(title, overflow="fold", justify="right" if title in ("CONTEXT", "SLOTS") else "left")
    for row in rows:
        cells = list(row.values())[: len(titles)]
        table.add_row(*(Text("-" if value is None else str(value)) for value in cells))
    wide = None if sys.stdout.isatty() else 500  # a pipe has no width
    Console(width=wide).print(table)
