"""`inhouse keys`: make, list and revoke the keys that clients send. A key's text is shown once, when it is made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from inhouse.store.contract import Key
    from inhouse.store.sqlite import SqliteStore

app = typer.Typer(
    name="keys",
    help="Make, list and revoke API keys.",
    no_args_is_help=True,
    epilog="Examples:\n\n"
    "inhouse keys create --note 'build server' --expires '30 d'\n\n"
    "KEY=$(inhouse keys create --note laptop)\n\n"
    "inhouse keys list --all\n\n"
    "inhouse keys revoke k4w7qd2mzp",
)

StateDir = Annotated[
    Path | None,
    typer.Option("--state-dir", metavar="FOLDER", help="Where the keys are kept (INHOUSE_STATE_DIR)."),
]
Config = Annotated[
    Path | None, typer.Option("--config", "-c", metavar="FILE", help="The stack's file (INHOUSE_CONFIG).")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@app.command(
    epilog="Examples:\n\n"
    "inhouse keys create --note 'build server' --expires '30 d'\n\n"
    "KEY=$(inhouse keys create --note laptop)"
)
def create(
    note: Annotated[str, typer.Option(help="What the key is for, shown in lists.")] = "",
    expires: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="How long it lives, such as '30 d' or '12 h'; else until revoked."),
    ] = None,
    state_dir: StateDir = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once; only its hash is kept.

    Standard output carries the key alone, so that a script can take it.
    """
    import time

    from inhouse.tenancy import keys

    lifetime_s = None if expires is None else _seconds(expires)
    now = time.time()
    with _store(state_dir, config) as store:
        minted = keys.mint(store, note=note, lifetime_s=lifetime_s, now=now)
    if as_json:
        _print_json({"key": minted.key, **_shown(minted.record, now)})
        return
    typer.echo(minted.key)
    until = f"until {_when(minted.record.expires_at)}" if minted.record.expires_at else "until it is revoked"
    typer.secho(
        f"Key {minted.record.id}, valid {until}. It is not shown again; only its hash is kept.", err=True, dim=True
    )


@app.command("list", epilog="Examples:\n\ninhouse keys list\n\ninhouse keys list --all --json")
def list_(
    everything: Annotated[bool, typer.Option("--all", help="Also those that are revoked or expired.")] = False,
    state_dir: StateDir = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List keys, the oldest first. Secrets are never shown; nobody has them."""
    import time

    now = time.time()
    with _store(state_dir, config) as store:
        known = store.list()
        folder = store.path.parent
    chosen = [key for key in known if everything or key.live(now)]
    hidden = len(known) - len(chosen)
    if as_json:
        _print_json([_shown(key, now) for key in chosen])
        return
    if chosen:
        _print_table(chosen, now)
    else:
        typer.echo(f"No live keys in {folder}. `inhouse keys create` makes one.")
    if hidden:
        typer.secho(f"{hidden} revoked or expired; --all shows them.", err=True, dim=True)


@app.command(epilog="Examples:\n\ninhouse keys revoke k4w7qd2mzp")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id; the whole key works too.")],
    state_dir: StateDir = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a key. It holds in every running gateway within 2 seconds."""
    import time

    from inhouse.tenancy import keys

    now = time.time()
    with _store(state_dir, config) as store:
        key = keys.revoke(store, key_id, now=now)
    if as_json:
        _print_json(_shown(key, now))
    elif key.revoked_at == now:
        typer.echo(f"Key {key.id} is revoked; running gateways refuse it within 2 seconds.")
    else:
        typer.echo(f"Key {key.id} was revoked already, on {_when(key.revoked_at)}; nothing changed.")


def _store(state_dir: Path | None, config: Path | None) -> SqliteStore:
    import os

    from inhouse.store.sqlite import SqliteStore

    if state_dir is None:
        from inhouse.config import load, state_folder

        state_dir = state_folder(load(config, environ=os.environ, flags={}), os.environ)
    return SqliteStore(state_dir.expanduser())


def _seconds(text: str) -> float:
    from inhouse.config.units import parse_duration
    from inhouse.errors import StackError

    try:
        seconds = parse_duration(text)
        if seconds <= 0:
            raise ValueError("a key has to live for some time")
    except ValueError as error:
        raise StackError(
            f"'{text}' is no lifetime: {error}", where="--expires", hint="such as '30 d' or '12 h'"
        ) from None
    return seconds


def _print_table(keys: list[Key], now: float) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("ID", "NOTE", "TENANT", "MADE", "EXPIRES", "STATE"):
        table.add_column(title, no_wrap=title in ("ID", "STATE"))
    for key in keys:
        state = _state(key, now)
        style = "" if state == "live" else "dim"
        cells = (key.id, key.note, key.tenant, _when(key.created_at), _when(key.expires_at) or "never", state)
        table.add_row(*(Text(cell) for cell in cells), style=style)
    Console().print(table)


def _shown(key: Key, now: float) -> dict[str, Any]:
    return {
        "id": key.id,
        "note": key.note,
        "tenant": key.tenant,
        "roles": sorted(key.roles),
        "state": _state(key, now),
        "created_at": _iso(key.created_at),
        "expires_at": _iso(key.expires_at),
        "revoked_at": _iso(key.revoked_at),
    }


def _state(key: Key, now: float) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "live" if key.live(now) else "expired"


def _when(at: float | None) -> str:
    from datetime import datetime

    return "" if at is None else datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M")


def _iso(at: float | None) -> str | None:
    from datetime import UTC, datetime

    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def _print_json(document: object) -> None:
    import json

    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
