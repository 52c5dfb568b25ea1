"""`inhouse config`: what is in force, whether it is right, and its schema."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import typer

from inhouse.cli.options import AsJson, Config, examples
from inhouse.errors import StackError

if TYPE_CHECKING:
    from inhouse.config import Reading, Stack

app = typer.Typer(
    name="config",
    help="Show and check what is configured.",
    no_args_is_help=True,
    epilog=examples("inhouse config show", "inhouse config check --config ./inhouse.yaml"),
)


@app.command(epilog=examples("inhouse config show", "INHOUSE_GATEWAY__PORT=9000 inhouse config show --json"))
def show(config: Config = None, as_json: AsJson = False) -> None:
    """Print the stack that is in force, and where each value came from.

    What is printed is itself a valid file. As JSON, sizes are in bytes and durations in seconds.
    """
    reading = _read(config)
    if as_json:
        _print_json(reading.stack.model_dump(mode="json"))
        return
    from inhouse.config.show import render

    typer.echo(f"# file: {reading.file or 'none'}")
    typer.echo(render(reading), nl=False)


@app.command(epilog=examples("inhouse config check", "inhouse config check --config ./inhouse.yaml --json"))
def check(config: Config = None, as_json: AsJson = False) -> None:
    """Check file and environment; print every mistake with its line. Exit code 2 if there are any.

    What is no mistake but may go wrong with an engine is told as well, and changes nothing about the exit code.
    """
    try:
        reading = _read(config)
    except StackError as error:
        if not as_json:
            raise
        from inhouse.cli.failure import parts

        problems = [{"where": where, "message": message, "hint": hint} for where, message, hint in parts(error)]
        _print_json({"ok": False, "problems": problems})
        raise typer.Exit(error.exit_code) from None
    notes = _notes(reading.stack)
    if as_json:
        told = [{"where": where, "message": message} for where, message in notes]
        _print_json({"ok": True, "problems": [], "notes": told})
        return
    from inhouse.config import base_url

    for where, message in notes:
        typer.echo(f"note: {where}: {message}")
    names = ", ".join(reading.stack.models)
    typer.echo(f"ok: {reading.file or 'no file, defaults'}: serves {names} on {base_url(reading.stack)}")


@app.command(epilog=examples("inhouse config schema > inhouse.schema.json"))
def schema() -> None:
    """Print the JSON Schema of inhouse.yaml, for editors."""
    from inhouse.config import schema as stack_schema

    _print_json(stack_schema())


def _notes(stack: Stack) -> list[tuple[str, str]]:
    """What may go wrong with the engines that would be started on this machine."""
    from inhouse.engines.advice import advice
    from inhouse.engines.choices import choose
    from inhouse.engines.hardware import look

    hardware = look(with_gpus=False)
    found = []
    for name, spec in stack.models.items():
        chosen = choose(hardware, replicas=spec.replicas, threads=spec.threads, batch=spec.batch, slots=spec.slots)
        found += [(f"models.{name}", message) for message in advice(name, spec, chosen)]
    return found


def _read(config: Any) -> Reading:
    from inhouse.config import read

    return read(config, environ=os.environ, flags={})


def _print_json(document: object) -> None:
    import json

    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
