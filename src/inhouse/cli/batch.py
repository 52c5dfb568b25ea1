"""`inhouse batch`: many requests at once, worked off in the gaps that others leave."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inhouse.cli.operating import target_of, tell
from inhouse.cli.options import ApiKey, AsJson, BaseUrl, Config, StateDir, examples
from inhouse.errors import InhouseError

if TYPE_CHECKING:
    from inhouse.cli.client import Gateway
    from inhouse.cli.reach import Target

_NOTE = "inhouse batch"
_LOOK_S = 1.0
_OVER = ("completed", "failed", "expired", "cancelled")
EXAMPLES = examples(
    "inhouse batch submit requests.jsonl --wait",
    "inhouse batch status batch_6c1f0e",
    "inhouse batch results batch_6c1f0e --out results.jsonl",
)
app = typer.Typer(
    name="batch", help="Send, watch and fetch batches of requests.", no_args_is_help=True, epilog=EXAMPLES
)
Id = Annotated[str, typer.Argument(metavar="ID", help="The batch, as `submit` and `list` name it.")]


@app.command(epilog=examples("inhouse batch submit requests.jsonl", "inhouse batch submit texts.jsonl --wait --json"))
def submit(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="JSONL: {custom_id, method, url, body} in each line.", exists=True, dir_okay=False
        ),
    ],
    endpoint: Annotated[
        str | None, typer.Option(metavar="PATH", help="What to ask for; else the `url` of the first line.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end; Ctrl-C leaves it running.")] = False,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    config: Config = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Upload a file of requests and start them.

    The exit code is 1 where --wait was given and the batch did not complete, or some of its requests failed.
    """
    with _reached(target_of(config, base_url, api_key, state_dir)) as gateway:
        with _bar("uploading", file.stat().st_size, as_json=as_json) as sent:
            uploaded = gateway.upload(file, "batch", sent)
        asked = {"input_file_id": uploaded["id"], "endpoint": endpoint or _first_url(file), "completion_window": "24h"}
        batch = gateway.admin("POST", "/v1/batches", asked)
        if wait:
            batch = _followed(gateway, batch, as_json=as_json)
    tell(batch, as_json, _print)
    if not wait and not as_json:
        typer.echo(f"watch it: inhouse batch status {batch['id']} --wait", err=True)
    raise typer.Exit(1 if wait and not _good(batch) else 0)


@app.command(epilog=examples("inhouse batch status batch_6c1f0e", "inhouse batch status batch_6c1f0e --wait"))
def status(
    batch: Id,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end.")] = False,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    config: Config = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Show how far a batch is."""
    with _reached(target_of(config, base_url, api_key, state_dir)) as gateway:
        found = gateway.admin("GET", f"/v1/batches/{_quoted(batch)}")
        if wait:
            found = _followed(gateway, found, as_json=as_json)
    tell(found, as_json, _print)


@app.command("list", epilog=examples("inhouse batch list", "inhouse batch list --json"))
def list_(
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    config: Config = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """List the newest batches of the tenant, 100 at most."""
    with _reached(target_of(config, base_url, api_key, state_dir)) as gateway:
        found = gateway.admin("GET", "/v1/batches?limit=100")
    tell(found, as_json, _print_list)


@app.command(epilog=examples("inhouse batch results batch_6c1f0e", "inhouse batch results batch_6c1f0e --errors"))
def results(
    batch: Id,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write them there; else print them.")] = None,
    errors: Annotated[bool, typer.Option("--errors", help="Those that failed, in place of the answers.")] = False,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    config: Config = None,
    state_dir: StateDir = None,
) -> None:
    """Fetch the results of a batch: JSONL, by `custom_id`."""
    with _reached(target_of(config, base_url, api_key, state_dir)) as gateway:
        found = gateway.admin("GET", f"/v1/batches/{_quoted(batch)}")
        file_id = found["error_file_id" if errors else "output_file_id"]
        if file_id is None:
            over = found["status"] in _OVER
            what = "request failed" if errors else "request was answered"
            hint = "see --errors, or `inhouse batch status`" if over else "wait for it: `inhouse batch status --wait`"
            raise InhouseError(f"the batch is {found['status']}, and no {what}", hint=hint)
        if out is None:
            for chunk in gateway.content(file_id):
                sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
            return
        part = out.with_name(f"{out.name}.part")
        with part.open("wb") as file:
            for chunk in gateway.content(file_id):
                file.write(chunk)
        part.replace(out)
        typer.echo(f"wrote {out}", err=True)


@app.command(epilog=examples("inhouse batch cancel batch_6c1f0e"))
def cancel(
    batch: Id,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    config: Config = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Cancel a batch; what is done by then can be fetched."""
    with _reached(target_of(config, base_url, api_key, state_dir)) as gateway:
        found = gateway.admin("POST", f"/v1/batches/{_quoted(batch)}/cancel", {})
    tell(found, as_json, _print)


@contextmanager
def _reached(target: Target) -> Iterator[Gateway]:
    from inhouse.cli.reach import reach

    with reach(target, note=_NOTE) as gateway:
        yield gateway


def _followed(gateway: Gateway, batch: dict[str, Any], *, as_json: bool) -> dict[str, Any]:
    """The batch once it is over, with a bar meanwhile."""
    path = f"/v1/batches/{_quoted(batch['id'])}"
    with _bar("requests", None, as_json=as_json) as moved:
        while batch["status"] not in _OVER:
            time.sleep(_LOOK_S)
            batch = gateway.admin("GET", path)
            counts = batch["request_counts"]
            moved(counts["completed"] + counts["failed"], counts["total"] or None)
    return batch


@contextmanager
def _bar(name: str, total: int | None, *, as_json: bool) -> Iterator[Any]:
    """What to tell how far it is, and of how much: shown on a terminal only."""
    if as_json or not sys.stderr.isatty():
        yield lambda done, total=None: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, total=total)
        yield lambda done, total=total: progress.update(task, completed=done, total=total)


def _first_url(file: Path) -> str:
    import json

    with file.open("rb") as lines:
        first = lines.readline(1024 * 1024)
    try:
        return str(json.loads(first)["url"])
    except (ValueError, KeyError, TypeError):
        raise InhouseError(
            f"the first line of {file} names no `url`", hint="name the endpoint with --endpoint, or correct the file"
        ) from None


def _quoted(id: str) -> str:
    from urllib.parse import quote

    return quote(id, safe="")


def _good(batch: dict[str, Any]) -> bool:
    return batch["status"] == "completed" and not batch["request_counts"]["failed"]


def _line(batch: dict[str, Any]) -> None:
    counts = batch["request_counts"]
    done = counts["completed"] + counts["failed"]
    failed = f", {counts['failed']} failed" if counts["failed"] else ""
    typer.echo(f"{batch['id']}  {batch['status']:<12}  {done}/{counts['total']}{failed}  {batch['endpoint']}")


def _print_list(found: dict[str, Any]) -> None:
    for batch in found["data"]:
        _line(batch)


def _print(batch: dict[str, Any]) -> None:
    _line(batch)
    for problem in (batch.get("errors") or {}).get("data", [])[:20]:
        where = f"line {problem['line']}: " if problem.get("line") else ""
        typer.echo(f"  {where}{problem['message']}")
    if batch["output_file_id"]:
        typer.echo(f"  answers: inhouse batch results {batch['id']}")
    if batch["error_file_id"]:
        typer.echo(f"  failures: inhouse batch results {batch['id']} --errors")
