"""`inhouse gateway`: `serve` for models whose engines are workers behind a queue."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from inhouse.cli.options import Config, StateDir, examples

EXAMPLES = examples(
    "inhouse gateway --queue redis://10.0.0.5:6379/0",
    "inhouse gateway --config ./inhouse.yaml --host 0.0.0.0",
    "inhouse gateway --queue env:QUEUE_URL --name chat --name embed",
)


def gateway(
    queue: Annotated[
        str | None, typer.Option(metavar="URL", help="The Redis between gateways and workers (`queue.url`).")
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option("--name", metavar="NAME", help="A model of workers, in place of the configured ones; repeatable."),
    ] = None,
    config: Config = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option("--port", "-p", help="Port to listen on (8080); 0 picks one.")] = None,
    state_dir: StateDir = None,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Answer without keys; only where no other machine can reach it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON lines, for scripts.")] = False,
    log_level: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error (info).")
    ] = None,
) -> None:
    """Serve models of workers behind a queue until Ctrl-C.

    As `inhouse serve`, with engines that are started elsewhere by `inhouse worker`. Models with `queued: true` go
    through the queue; where none says so, all do.
    """
    from inhouse.cli.announce import Announcer
    from inhouse.cli.serve import chat_command
    from inhouse.cli.worker import queued_stack
    from inhouse.gateway.server import serve as serve_until_told

    flags: dict[str, object] = {
        "models": {name: {"queued": True} for name in names} if names else None,
        "queue.url": queue,
        "gateway.host": host,
        "gateway.port": port,
        "state_dir": state_dir,
        "auth.enabled": False if no_auth else None,
        "log.level": log_level,
    }
    stack = queued_stack(config, flags)
    chat = chat_command(stack, config, given_address=host is not None or port is not None, state_dir=state_dir)
    with Announcer(stack, chat=chat, as_json=as_json) as announcer:
        code = serve_until_told(stack, environ=os.environ, report=announcer)
    raise typer.Exit(code)
