"""`inhouse keys`: make, list, rotate and revoke the keys that clients send. A key's text is shown once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inhouse.cli.options import AsJson, Config, examples

if TYPE_CHECKING:
    from inhouse.config import Reading
    from inhouse.errors import ApiError
    from inhouse.store.stores import Stores
    from inhouse.tenancy.desk import KeyDesk
    from inhouse.tenancy.keys import Rights

app = typer.Typer(
    name="keys",
    help="Make, list, rotate and revoke API keys.",
    no_args_is_help=True,
    epilog=examples(
        "inhouse keys create --note 'build server' --expires '30 d'",
        "inhouse keys create --tenant acme --role developer --model chat --limit tokens_per_day=50000",
        "KEY=$(inhouse keys create --note laptop)",
        "inhouse keys list --all",
        "inhouse keys rotate k4w7qd2mzp --grace '1 h'",
        "inhouse keys revoke k4w7qd2mzp",
        "inhouse keys hash < ci.key",
    ),
)

StateDir = Annotated[
    Path | None,
    typer.Option("--state-dir", metavar="FOLDER", help="Where the keys are kept (INHOUSE_STATE_DIR)."),
]
Expires = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="How long it lives, such as '30 d', or until when, such as 2027-01-31."),
]
KeyOrId = Annotated[str, typer.Argument(metavar="ID", help="The key's id; the whole key works too.")]

_OPTIONS = {
    "tenant": "--tenant",
    "roles": "--role",
    "models": "--model",
    "limits": "--limit",
    "expires": "--expires",
    "grace": "--grace",
    "note": "--note",
}


@app.command(
    epilog=examples(
        "inhouse keys create --note 'build server' --expires '30 d'",
        "inhouse keys create --tenant acme --model chat --limit tokens_per_day=50000 --limit concurrent_requests=2",
        "inhouse keys create --role auditor --note accounting",
        "KEY=$(inhouse keys create --note laptop)",
    )
)
def create(
    note: Annotated[str, typer.Option(help="What the key is for, shown in lists.")] = "",
    tenant: Annotated[str, typer.Option(metavar="NAME", help="The tenant that it belongs to.")] = "default",
    role: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE", help="admin, operator, developer or auditor; again for more. Else developer."),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A model that it may use; again for more. Else all.")
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A limit, such as tokens_per_day=50000; again for more."),
    ] = None,
    expires: Expires = None,
    state_dir: StateDir = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once; only its hash is kept.

    Standard output carries the key alone, so that a script can take it. Limits are those of `inhouse.yaml`, by the
    same names; what the file says of tenant and key holds beside them.
    """
    import time

    from inhouse.errors import BadRequest
    from inhouse.tenancy import wanted
    from inhouse.tenancy.desk import Listed, shown

    now = time.time()
    reading = _reading(state_dir, config)
    try:
        lifetime_s = None if expires is None else wanted.lifetime_s(expires, now=now)
        rights = _rights(reading, tenant, role or [], model or [], limit or [])
        minted = _desk(reading).create(note=note, lifetime_s=lifetime_s, rights=rights, now=now, by=_by())
    except BadRequest as error:
        raise _as_option(error) from None
    if as_json:
        _print_json({"key": minted.key, **shown(Listed(minted.record), now)})
        return
    from inhouse.cli.keys_table import when

    typer.echo(minted.key)
    until = f"until {when(minted.record.expires_at)}" if minted.record.expires_at else "until it is revoked"
    _remark(f"Key {minted.record.id}, valid {until}. It is not shown again; only its hash is kept.")
    _remark_unnamed(reading, tenant)


@app.command("list", epilog=examples("inhouse keys list", "inhouse keys list --all --json"))
def list_(
    everything: Annotated[bool, typer.Option("--all", help="Also those that are revoked or expired.")] = False,
    tenant: Annotated[str | None, typer.Option(metavar="NAME", help="Only those of this tenant.")] = None,
    state_dir: StateDir = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List keys: those that inhouse.yaml declares, then those made by command. Secrets are never shown.

    Models and limits are those in force, of the key and of inhouse.yaml together.
    """
    import time

    from inhouse.tenancy.desk import shown

    now = time.time()
    reading = _reading(state_dir, config)
    known = [listed for listed in _desk(reading).list() if tenant in (None, listed.key.tenant)]
    chosen = [listed for listed in known if everything or listed.key.live(now)]
    hidden = len(known) - len(chosen)
    if as_json:
        _print_json([shown(listed, now) for listed in chosen])
        return
    if chosen:
        from inhouse.cli.keys_table import print_table

        print_table(chosen, now, reading.stack.currency)
    else:
        whose = "" if tenant is None else f" of '{tenant}'"
        typer.echo(f"No live keys{whose} in {_stores(reading).where}. `inhouse keys create` makes one.")
    if hidden:
        _remark(f"{hidden} revoked or expired; --all shows them.")


@app.command(
    epilog=examples(
        "inhouse keys rotate k4w7qd2mzp",
        "inhouse keys rotate k4w7qd2mzp --grace 0",
        "KEY=$(inhouse keys rotate k4w7qd2mzp --grace '1 h' --expires '90 d')",
    )
)
def rotate(
    key_id: KeyOrId,
    grace: Annotated[
        str, typer.Option(metavar="TIME", help="How long the old key is accepted beside the new one; 0 ends it now.")
    ] = "15 min",
    expires: Annotated[
        str | None, typer.Option(metavar="TIME", help="A new lifetime, from now; else it ends when it did.")
    ] = None,
    state_dir: StateDir = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Give a key a new secret and print it, this once. Id, tenant, roles, models, limits and use stay.

    The old one is accepted for a while, to bring the new one to its place. Did the old one leak? `--grace 0`.
    """
    import time

    from inhouse.cli.keys_table import when
    from inhouse.errors import BadRequest
    from inhouse.tenancy import wanted
    from inhouse.tenancy.desk import Listed, shown

    now = time.time()
    try:
        lifetime_s = None if expires is None else wanted.lifetime_s(expires, now=now)
        grace_s = wanted.grace_s(grace)
        desk = _desk(_reading(state_dir, config))
        minted = desk.rotate(key_id, grace_s=grace_s, lifetime_s=lifetime_s, now=now, by=_by())
    except BadRequest as error:
        raise _as_option(error) from None
    if as_json:
        _print_json({"key": minted.key, **shown(Listed(minted.record), now)})
        return
    typer.echo(minted.key)
    old = f"is accepted until {when(minted.record.old_until)}" if grace_s else "is refused within 2 seconds"
    _remark(f"Key {minted.record.id} has a new secret, not shown again. The old one {old}.")


@app.command(epilog=examples("inhouse keys revoke k4w7qd2mzp"))
def revoke(key_id: KeyOrId, state_dir: StateDir = None, config: Config = None, as_json: AsJson = False) -> None:
    """Revoke a key. It holds in every running gateway within 2 seconds."""
    import time

    from inhouse.cli.keys_table import when
    from inhouse.tenancy.desk import Listed, shown

    now = time.time()
    key = _desk(_reading(state_dir, config)).revoke(key_id, now=now, by=_by())
    if as_json:
        _print_json(shown(Listed(key), now))
    elif key.revoked_at == now:
        typer.echo(f"Key {key.id} is revoked; running gateways refuse it within 2 seconds.")
    else:
        typer.echo(f"Key {key.id} was revoked already, on {when(key.revoked_at)}; nothing changed.")


@app.command("hash", epilog=examples("inhouse keys hash", "inhouse keys hash < ci.key"))
def hash_() -> None:
    """Print the hash of a key, to declare it in inhouse.yaml without its text.

    The key is read from standard input, or asked for on a terminal; never from an argument, which others could see.
    """
    from inhouse.errors import StackError
    from inhouse.tenancy.declared import hash_text

    if sys.stdin.isatty():
        from getpass import getpass

        text = getpass("Key: ")
    else:
        text = sys.stdin.read()
    try:
        typer.echo(hash_text(text))
    except ValueError as error:
        raise StackError(str(error), where="standard input") from None


def _reading(state_dir: Path | None, config: Path | None) -> Reading:
    import os

    from inhouse.config import read

    return read(config, environ=os.environ, flags={"state_dir": state_dir})


def _stores(reading: Reading) -> Stores:
    import os

    from inhouse.store.stores import Stores

    return Stores.of(reading.stack, os.environ)


def _desk(reading: Reading) -> KeyDesk:
    from inhouse.tenancy.desk import KeyDesk

    return KeyDesk(_stores(reading), reading.stack)


def _by() -> str:
    from inhouse.tenancy.key_acts import command_line_user

    return command_line_user()


def _rights(reading: Reading, tenant: str, roles: list[str], models: list[str], limits: list[str]) -> Rights:
    """Models are compared with those of the file, where there is one: `inhouse serve MODEL` may serve another."""
    from inhouse.errors import BadRequest
    from inhouse.tenancy import wanted

    pairs = {}
    for text in limits:
        name, equals, value = text.partition("=")
        if not equals:
            raise BadRequest(f"'{text}' is no limit; expected form: tokens_per_day=50000", param="limits")
        pairs[name.strip()] = value.strip()
    known = reading.stack.models if reading.file is not None else None
    return wanted.rights(tenant=tenant, roles=roles, models=models, limits=pairs, known_models=known)


def _remark_unnamed(reading: Reading, tenant: str) -> None:
    """A tenant may well be one that the file does not name; a typo should still be seen."""
    from difflib import get_close_matches

    named = reading.stack.tenants
    if named and tenant not in named:
        near = get_close_matches(tenant, named, n=1)
        meant = f" Did you mean '{near[0]}'?" if near else ""
        _remark(f"inhouse.yaml does not name the tenant '{tenant}': what holds for it is `tenant_defaults`.{meant}")


def _remark(text: str) -> None:
    typer.secho(text, err=True, dim=True)


def _as_option(error: ApiError) -> Exception:
    """The same mistake, told of the option."""
    from inhouse.errors import StackError

    return StackError(error.message, where=_OPTIONS.get(error.param or ""))


def _print_json(document: object) -> None:
    import json

    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
