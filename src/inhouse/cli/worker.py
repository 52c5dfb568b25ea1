"""`inhouse worker`: an engine behind a queue. It opens no door; what it needs is a way out to Redis."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inhouse.cli.options import Config, examples
from inhouse.cli.serve import name_of

if TYPE_CHECKING:
    from inhouse.config import Stack

EXAMPLES = examples(
    "inhouse worker --config ./inhouse.yaml",
    "inhouse worker --queue redis://10.0.0.5:6379/0",
    "inhouse worker ./model.gguf --name chat --queue env:QUEUE_URL --slots 8",
    "inhouse worker --config ./inhouse.yaml --model chat --health-port 8081",
)


def worker(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="`demo`, a .gguf file or hf://org/repo/file.gguf, in place of the configured models.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What the gateway calls MODEL; else its file's name.")
    ] = None,
    config: Config = None,
    queue: Annotated[
        str | None, typer.Option(metavar="URL", help="The Redis between gateways and workers (`queue.url`).")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="NAME", help="Of the queued models, only this; may be repeated."),
    ] = None,
    slots: Annotated[int | None, typer.Option(help="Jobs at once, per model (4).")] = None,
    context: Annotated[int | None, typer.Option(help="Tokens of one request, prompt and answer (4096).")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads of the engine (every core).")] = None,
    engine_binary: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A llama-server of your own, in place of the one included.")
    ] = None,
    health_port: Annotated[
        int | None, typer.Option(help="A port for /health/live, /health/ready and /metrics; 0 picks one.")
    ] = None,
    health_host: Annotated[str, typer.Option(help="Address of that port.")] = "127.0.0.1",
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON lines, for scripts.")] = False,
    log_level: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error (info).")
    ] = None,
) -> None:
    """Run engines for a queue until Ctrl-C.

    Takes jobs of models with `queued: true` from Redis, one for each free slot, and sends the tokens back. Nothing
    connects to it, so it may stand behind NAT, on a spot machine or in another region. SIGTERM lets what runs end, for
    up to `gateway.drain`, and hands the rest back to the queue.
    """
    from inhouse.cli.announce import Announcer
    from inhouse.gateway.worker import work

    flags: dict[str, object] = {
        "models": {name or name_of(model): {"source": model, "queued": True}} if model else None,
        "queue.url": queue,
        "models.*.slots": slots,
        "models.*.context": context,
        "models.*.threads": threads,
        "models.*.engine_binary": engine_binary,
        "log.level": log_level,
    }
    if name and not model:
        raise typer.BadParameter("needs MODEL; configured models have their names in the file", param_hint="--name")
    stack = queued_stack(config, flags)
    unknown = [one for one in only or () if one not in stack.models or not stack.models[one].queued]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is no queued model of this stack", param_hint="--model")
    health = None if health_port is None else (health_host, health_port)
    with Announcer(stack, chat=[], as_json=as_json) as announcer:
        code = work(stack, environ=os.environ, report=announcer, only=frozenset(only or ()), health=health)
    raise typer.Exit(code)


def queued_stack(config: Path | None, flags: dict[str, object]) -> Stack:
    """The stack; where none of its models says that it is queued, all are. Raises StackError."""
    from inhouse.config import load

    stack = load(config, environ=os.environ, flags=flags)
    if any(spec.queued for spec in stack.models.values()):
        return stack
    return load(config, environ=os.environ, flags={**flags, "models.*.queued": True})
