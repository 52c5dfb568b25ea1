"""`inhouse audit`: look at the record of who did what, export it, and see whether anybody changed it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inhouse.cli.options import AsJson, Config, StateDir, examples

if TYPE_CHECKING:
    from inhouse.store.audit_chain import Head
    from inhouse.store.stores import Stores
    from inhouse.telemetry.audit_page import Wanted

EXAMPLES = examples(
    "inhouse audit list --since '1 h' --status 4xx",
    "inhouse audit list --key k4w7qd2mzp --json",
    "inhouse audit verify",
    "inhouse audit export --since 2026-11-01 --until 2026-12-01 > november.jsonl",
)
app = typer.Typer(
    name="audit", help="Look at the audit, export it, and verify it.", no_args_is_help=True, epilog=EXAMPLES
)

Since = Annotated[
    str | None, typer.Option(metavar="TIME", help="Only from then on: '2 h' back, or a moment such as 2026-11-25.")
]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Only before then, in the same forms.")]
Tenant = Annotated[str | None, typer.Option(metavar="NAME", help="Only this tenant.")]
KeyId = Annotated[str | None, typer.Option("--key", metavar="ID", help="Only by this key, or done to it.")]
Model = Annotated[str | None, typer.Option(metavar="NAME", help="Only this model.")]
Status = Annotated[str | None, typer.Option(metavar="STATUS", help="Only this status, such as 429 or 5xx.")]
Kind = Annotated[str | None, typer.Option(metavar="KIND", help="Only `request` or `act`.")]
RequestId = Annotated[str | None, typer.Option("--request", metavar="ID", help="Only the request with this id.")]


@app.command(
    "list",
    epilog=examples(
        "inhouse audit list",
        "inhouse audit list --since '1 h' --status 4xx",
        "inhouse audit list --kind act --limit 20",
        "inhouse audit list --request 0f3a --json",
    ),
)
def list_(
    since: Since = None,
    until: Until = None,
    tenant: Tenant = None,
    key: KeyId = None,
    model: Model = None,
    status: Status = None,
    kind: Kind = None,
    request: RequestId = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many records at most, the newest ones.")] = 50,
    config: Config = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """List records, the newest last. A running gateway writes them within a second."""
    from contextlib import closing

    from inhouse.telemetry.audit_page import decode, page

    wanted = _wanted(since, until, tenant, key, model, status, kind, request)
    stores = _stores(config, state_dir)
    with closing(stores.audit_log()) as log:
        found = page(log.newest(), wanted, limit=limit, looked_at_max=1 << 60)
    lines = found.lines[::-1]
    if as_json:
        typer.echo("[" + ",\n".join(line.decode() for line in lines) + "]")
    elif lines:
        from inhouse.cli.audit_table import print_table

        print_table([decode(line) for line in lines])
    else:
        typer.echo(f"No such records in {stores.audit_where}.")


@app.command(epilog=examples("inhouse audit verify", "inhouse audit verify --head 1204:5f3c… --json"))
def verify(
    head: Annotated[
        str | None,
        typer.Option(metavar="SEQ:HASH", help="A head that was noted elsewhere, and has to be in the chain still."),
    ] = None,
    config: Config = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Check that no record was changed, dropped, added or moved. Exit code 1 where one was.

    Prints the head, the last record's number and hash. Whoever may write the files could make the whole chain anew:
    note the head where they cannot, and hand it over with --head later.
    """
    from contextlib import closing

    stores = _stores(config, state_dir)
    with closing(stores.audit_log()) as log:
        verdict = log.verify(noted=None if head is None else _head(head))
    if as_json:
        import json

        shown = {
            "records": verdict.records,
            "first": verdict.first,
            "head": str(verdict.head),
            "problems": list(verdict.problems),
        }
        typer.echo(json.dumps(shown, indent=2))
    else:
        typer.echo(f"{verdict.records:,} records from number {verdict.first} on in {stores.audit_where}.")
        typer.echo(f"Head: {verdict.head}")
        for problem in verdict.problems[:_PROBLEMS_SHOWN]:
            typer.secho(f"problem: {problem}", fg="red")
        if len(verdict.problems) > _PROBLEMS_SHOWN:
            typer.secho(f"… and {len(verdict.problems) - _PROBLEMS_SHOWN} more; --json has them all", fg="red")
        if not verdict.problems:
            typer.secho("The chain is whole.", fg="green")
    if verdict.problems:
        raise typer.Exit(1)


@app.command(
    epilog=examples(
        "inhouse audit export > audit.jsonl",
        "inhouse audit export --since 2026-11-01 --until 2026-12-01 --format csv > november.csv",
    )
)
def export(
    since: Since = None,
    until: Until = None,
    tenant: Tenant = None,
    key: KeyId = None,
    model: Model = None,
    status: Status = None,
    kind: Kind = None,
    request: RequestId = None,
    form: Annotated[
        str, typer.Option("--format", metavar="FORM", help="jsonl: the lines as they are kept; or csv.")
    ] = "jsonl",
    config: Config = None,
    state_dir: StateDir = None,
) -> None:
    """Write records to standard output, the oldest first, all that are wanted."""
    from contextlib import closing

    from inhouse.errors import StackError
    from inhouse.telemetry.audit_page import matching

    if form not in ("jsonl", "csv"):
        raise StackError(f"there is no format '{form[:32]}'", where="--format", hint="jsonl or csv")
    wanted = _wanted(since, until, tenant, key, model, status, kind, request)
    with closing(_stores(config, state_dir).audit_log()) as log:
        lines = matching(log.oldest(), wanted)
        if form == "csv":
            from inhouse.cli.audit_table import write_csv

            write_csv(lines)
            return
        for line in lines:
            typer.echo(line)


_PROBLEMS_SHOWN = 20


def _stores(config: Path | None, state_dir: Path | None) -> Stores:
    import os

    from inhouse.config import load
    from inhouse.store.stores import Stores

    return Stores.of(load(config, environ=os.environ, flags={"state_dir": state_dir}), os.environ)


def _wanted(
    since: str | None,
    until: str | None,
    tenant: str | None,
    key: str | None,
    model: str | None,
    status: str | None,
    kind: str | None,
    request: str | None,
) -> Wanted:
    from inhouse.errors import StackError
    from inhouse.telemetry.audit_page import Wanted, is_status

    if status is not None and not is_status(status):
        raise StackError(f"'{status[:32]}' is no status", where="--status", hint="three digits such as 429, or 5xx")
    if kind not in (None, "request", "act"):
        raise StackError(f"there is no kind '{kind}'", where="--kind", hint="request or act")
    return Wanted(
        since=_moment(since, "--since"),
        until=_moment(until, "--until"),
        tenant=tenant,
        key=key,
        model=model,
        status=status,
        kind=kind,
        request=request,
    )


def _moment(text: str | None, option: str) -> float | None:
    """`2 h` is so long ago; everything else a moment."""
    import time

    from inhouse.config.units import parse_duration
    from inhouse.errors import StackError
    from inhouse.wire.records import moment

    if text is None:
        return None
    try:
        return time.time() - parse_duration(text)
    except ValueError:
        pass
    try:
        return moment(text)
    except (ValueError, OverflowError):
        raise StackError(
            f"'{text[:64]}' is no time", where=option, hint="such as '2 h', 2026-11-25 or 2026-11-25T10:00:00Z"
        ) from None


def _head(text: str) -> Head:
    from inhouse.errors import StackError
    from inhouse.store.audit_chain import head_from

    found = head_from(text)
    if found is None:
        raise StackError(
            "that is no head", where="--head", hint="a number, a colon and 64 digits, as `verify` prints it"
        )
    return found
