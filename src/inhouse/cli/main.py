"""`inhouse`: the commands, and the one place where a failure becomes a message and an exit code.

Exit codes: 0 done, 1 failed, 2 used wrongly (flags, variables, `inhouse.yaml`), 75 weights that cannot be reached just
now, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import sys
from io import TextIOWrapper
from typing import Annotated, NoReturn

import typer

from inhouse import __version__
from inhouse.cli import (
    audit,
    batch,
    chat,
    config,
    doctor,
    door,
    endpoints,
    engine,
    explain,
    fake_engine,
    gateway,
    init,
    keys,
    models,
    pull,
    queue,
    render,
    route,
    serve,
    store,
    tenants,
    transformers_engine,
    usage,
    version,
    worker,
)
from inhouse.cli.options import examples
from inhouse.errors import InhouseError

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
app.command(epilog=serve.EXAMPLES)(serve.serve)
app.command(epilog=gateway.EXAMPLES)(gateway.gateway)
app.command(epilog=worker.EXAMPLES)(worker.worker)
app.command(epilog=door.EXAMPLES)(door.door)
app.command(epilog=chat.EXAMPLES)(chat.chat)
app.command(epilog=pull.EXAMPLES)(pull.pull)
app.add_typer(batch.app, name="batch")
app.add_typer(keys.app, name="keys")
app.add_typer(tenants.app, name="tenants")
app.command(epilog=usage.EXAMPLES)(usage.usage)
app.command(epilog=explain.EXAMPLES)(explain.explain)
app.add_typer(audit.app, name="audit")
app.add_typer(models.app, name="models")
app.add_typer(endpoints.app, name="endpoints")
app.add_typer(queue.app, name="queue")
app.add_typer(route.app, name="route")
app.add_typer(store.app, name="store")
app.add_typer(config.app, name="config")
app.add_typer(doctor.app, name="doctor")
app.command(epilog=init.EXAMPLES)(init.init)
app.add_typer(engine.app, name="engine")
app.command(epilog=render.EXAMPLES)(render.render)
app.command("fake-engine", epilog=fake_engine.EXAMPLES, context_settings=fake_engine.CONTEXT)(fake_engine.command())
app.command("transformers-engine", epilog=transformers_engine.EXAMPLES)(transformers_engine.transformers_engine)
app.command(epilog=version.EXAMPLES)(version.version)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"inhouse {__version__}")
        raise typer.Exit


@app.callback()
def _inhouse(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Serve your own language models behind an OpenAI-compatible API."""


def run() -> NoReturn:
    """The entry point: runs the command that the arguments name, and leaves with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal of another time shows ? instead of ending the program
    try:
        app(prog_name="inhouse")
    except InhouseError as error:
        from inhouse.cli.failure import tell

        tell(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)
