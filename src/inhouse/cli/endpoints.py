"""`inhouse endpoints`: the replicas behind the models of the running gateway, and which of them take requests."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inhouse.cli.operating import operating, target_of, tell
from inhouse.cli.options import ApiKey, AsJson, BaseUrl, Config, StateDir, examples

if TYPE_CHECKING:
    from inhouse.cli.reach import Target

_NOTE = "inhouse endpoints"
EXAMPLES = examples("inhouse endpoints list", "inhouse endpoints drain 10.0.0.7:8000")

app = typer.Typer(
    name="endpoints", help="List, drain and undrain the replicas of models.", no_args_is_help=True, epilog=EXAMPLES
)
Id = Annotated[str, typer.Argument(metavar="ID", help="The endpoint, as `inhouse endpoints list` names it.")]


@app.command("list", epilog=examples("inhouse endpoints list", "inhouse endpoints list --json"))
def list_(
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    config: Config = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """List every replica: its state, what it has to do, what it reports of itself.

    A dash is a figure that the engine does not report.
    """
    with operating(target_of(config, base_url, api_key, state_dir), _NOTE) as gateway:
        tell(gateway.admin("GET", "/admin/endpoints"), as_json, _print_table)


@app.command(epilog=examples("inhouse endpoints drain 10.0.0.7:8000", "inhouse endpoints drain chat-0"))
def drain(
    endpoint: Id,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    config: Config = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Let a replica take no new requests; those that it has go on to their end."""
    _turn(endpoint, "drain", target_of(config, base_url, api_key, state_dir), as_json)


@app.command(epilog=examples("inhouse endpoints undrain 10.0.0.7:8000"))
def undrain(
    endpoint: Id,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    config: Config = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Let a drained replica take requests again."""
    _turn(endpoint, "undrain", target_of(config, base_url, api_key, state_dir), as_json)


def _turn(endpoint: str, what: str, target: Target, as_json: bool) -> None:
    from urllib.parse import quote

    with operating(target, _NOTE) as gateway:
        tell(gateway.admin("POST", f"/admin/endpoints/{quote(endpoint, safe='')}/{what}"), as_json, _print_table)


def _print_table(answer: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("ENDPOINT", "MODEL", "ENGINE", "STATE"):
        table.add_column(title, overflow="fold")
    for title in ("IN FLIGHT", "SLOTS", "RUNNING", "WAITING", "KV", "PREFIX", "TTFT", "TPOT"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("WHY", overflow="fold")
    for row in answer.get("endpoints", []):
        cells = [str(row.get(name)) for name in ("id", "model", "engine", "state", "in_flight", "slots")]
        cells += [_number(row.get("running")), _number(row.get("waiting"))]
        cells += [_percent(row.get("kv_used")), _percent(row.get("prefix_hits"))]
        cells += [_milliseconds(row.get("ttft_s")), _milliseconds(row.get("tpot_s")), row.get("reason") or ""]
        table.add_row(*(Text(cell) for cell in cells))
    wide = None if sys.stdout.isatty() else 500  # a pipe has no width
    Console(width=wide).print(table)


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{1000 * value:.0f} ms"
