"""`inhouse route`: where the names of the running gateway lead, and how that is changed while it serves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inhouse.cli.operating import operating, target_of, tell
from inhouse.cli.options import ApiKey, AsJson, BaseUrl, Config, StateDir, examples

if TYPE_CHECKING:
    from inhouse.cli.reach import Target

_NOTE = "inhouse route"
EXAMPLES = examples(
    "inhouse route list",
    "inhouse route show chat",
    "inhouse route switch chat chat-v2",
    "inhouse route back chat",
    "inhouse route canary chat pause",
)

app = typer.Typer(
    name="route", help="Show, switch and weigh routes, and decide over canaries.", no_args_is_help=True, epilog=EXAMPLES
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The route, or one of its aliases.")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="A model of this gateway.")]
ACTS = ("start", "pause", "resume", "rollback", "promote")


@app.command("list", epilog=examples("inhouse route list", "inhouse route list --json"))
def list_(
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    config: Config = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """List every route: what its models have of its requests now, and how its canary stands."""
    with operating(target_of(config, base_url, api_key, state_dir), _NOTE) as gateway:
        tell(gateway.admin("GET", "/admin/routes"), as_json, _print_table)


@app.command(epilog=examples("inhouse route show chat", "inhouse route show chat --json"))
def show(
    name: Name,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    config: Config = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Show one route: its models and weights, its canary with the figures of its window, and what changed it last."""
    with operating(target_of(config, base_url, api_key, state_dir), _NOTE) as gateway:
        tell(gateway.admin("GET", _path(name)), as_json, _print_route)


@app.command(epilog=examples("inhouse route switch chat chat-v2"))
def switch(
    name: Name,
    model: Model,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    config: Config = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Send all requests of a route to one model, at once; those that run go on where they are.

    It holds, restarts included, until `inhouse route back`, or until the route is changed in inhouse.yaml.
    """
    _change(target_of(config, base_url, api_key, state_dir), f"{_path(name)}/switch", {"model": model}, as_json)


@app.command(epilog=examples("inhouse route back chat"))
def back(
    name: Name,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    config: Config = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Undo the last switch of a route; a second time undoes that."""
    _change(target_of(config, base_url, api_key, state_dir), f"{_path(name)}/back", None, as_json)


@app.command(epilog=examples("inhouse route weight chat large 25%", "inhouse route weight chat chat-v2 5%"))
def weight(
    name: Name,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="One of the route's models, or its canary.")],
    percent: Annotated[str, typer.Argument(metavar="PERCENT", help="Its share, such as 25%.")],
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    config: Config = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Give a model of a route another share; the others have the rest, in the proportions that they had.

    A canary whose weight is set by hand is not judged until `inhouse route canary NAME resume`.
    """
    body = {"model": model, "weight": percent}
    _change(target_of(config, base_url, api_key, state_dir), f"{_path(name)}/weight", body, as_json)


@app.command(epilog=examples("inhouse route canary chat start", "inhouse route canary chat rollback"))
def canary(
    name: Name,
    act: Annotated[str, typer.Argument(metavar="ACT", help=f"One of: {', '.join(ACTS)}.")],
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    config: Config = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Decide over the canary of a route.

    start: the trial begins again at its first weight. pause: its weight stays, the guard holds on. resume: it may grow
    again. rollback: it gets nothing any more. promote: it gets everything.
    """
    if act not in ACTS:
        raise typer.BadParameter(f"'{act}' is not one of: {', '.join(ACTS)}", param_hint="ACT")
    _change(target_of(config, base_url, api_key, state_dir), f"{_path(name)}/canary/{act}", None, as_json)


def _path(name: str) -> str:
    from urllib.parse import quote

    return f"/admin/routes/{quote(name, safe='')}"


def _change(target: Target, path: str, body: dict[str, Any] | None, as_json: bool) -> None:
    with operating(target, _NOTE) as gateway:
        tell(gateway.admin("POST", path, body), as_json, _print_route)


def _print_table(answer: dict[str, Any]) -> None:
    rows = answer.get("routes", [])
    if not rows:
        typer.echo("there are no routes; add one under `routes` in inhouse.yaml")
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        stands = f"; canary {row['canary']['state']}" if row["canary"] else ""
        typer.echo(f"{row['name']:<{width}}  {_shares(row)}{stands} ({row['why']})")


def _print_route(row: dict[str, Any]) -> None:
    for line in told(row):
        typer.echo(line)


def told(row: dict[str, Any]) -> Iterator[str]:
    """A route in lines for people. Pure but for the time zone."""
    from datetime import datetime

    yield f"{row['name']}: {_shares(row)}"
    yield f"  why         {row['why']}"
    for title, name in (
        ("aliases", "aliases"),
        ("tenants", "tenants"),
        ("by size", "prompt_tokens"),
        ("fallback", "fallback"),
    ):
        if row[name]:
            yield f"  {title:<11} {', '.join(row[name])}"
    trial = row["canary"]
    if trial is not None:
        yield f"  canary      {trial['model']}: {trial['state']} at {trial['weight']:g}%: {trial['reason']}"
        yield f"              window of {trial['window_s']:g} s, in this process; {trial['min_requests']} requests each"
        for version in ("stable", "canary"):
            yield f"              {version:<7} {_figures(trial[version])}"
    for event in row["events"]:
        at = datetime.fromtimestamp(event["time"]).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        what = " ".join(str(part) for part in (event["change"], event["model"], _percent(event["weight"])) if part)
        yield f"  {at}  {what}, by {event['by']}" + (f": {event['reason']}" if event["reason"] else "")


def _shares(row: dict[str, Any]) -> str:
    return ", ".join(f"{share['model']} {share['weight']:g}%" for share in row["models"])


def _percent(weight: float | None) -> str:
    return "" if weight is None else f"{weight:g}%"


def _figures(version: dict[str, Any]) -> str:
    return (
        f"{version['requests']} requests, {version['failed']} failed, TTFT p95 {_ms(version['ttft_p95_s'])}, "
        f"TPOT p95 {_ms(version['tpot_p95_s'])}"
    )


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.1f} ms"
