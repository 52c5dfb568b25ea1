"""The commands by their names, and a `typer` app of all of them or of the one that is called.

A gateway lives long: whatever its process has loaded, it carries as long. So only the command that is called is loaded;
all of them are where none is, for help and completion.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Annotated

import typer

from inhouse import __version__
from inhouse.cli.options import examples

COMMANDS: dict[str, str] = {
    "serve": "serve",
    "gateway": "gateway",
    "worker": "worker",
    "door": "door",
    "chat": "chat",
    "pull": "pull",
    "batch": "batch",
    "keys": "keys",
    "tenants": "tenants",
    "usage": "usage",
    "explain": "explain",
    "audit": "audit",
    "models": "models",
    "endpoints": "endpoints",
    "queue": "queue",
    "route": "route",
    "store": "store",
    "config": "config",
    "doctor": "doctor",
    "init": "init",
    "engine": "engine",
    "render": "render",
    "fake-engine": "fake_engine",
    "transformers-engine": "transformers_engine",
    "version": "version",
}
"""In the order of --help → the module: a function of that name with its EXAMPLES, or `app`, a family of commands."""


def app_of(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """An app with these commands."""
    app = typer.Typer(
        name="inhouse",
        # drawing boxes costs 0.1 s, and in a pipe they are in the way
        rich_markup_mode="rich" if sys.stdout.isatty() else None,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        epilog=examples(
            "inhouse serve", "inhouse chat", "inhouse serve ./model.gguf --slots 8", "inhouse keys create --note laptop"
        ),
    )
    app.callback()(_inhouse)
    for name in names:
        module = import_module(f"inhouse.cli.{COMMANDS[name]}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name)
            continue
        made = module.command() if hasattr(module, "command") else getattr(module, COMMANDS[name])
        app.command(name, epilog=module.EXAMPLES, context_settings=getattr(module, "CONTEXT", None))(made)
    return app


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"inhouse {__version__}")
        raise typer.Exit


def _inhouse(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Serve your own language models behind an OpenAI-compatible API."""
