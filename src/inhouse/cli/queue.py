"""`inhouse queue`: what waits and runs in queues in Redis, and the jobs that were given up. It asks Redis itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from inhouse.cli.options import AsJson, Config, examples

if TYPE_CHECKING:
    from inhouse.config import Stack
    from inhouse.store.queue import Queue
    from inhouse.store.queue_dead import Letter
    from inhouse.store.redis_calls import Commands

_T = TypeVar("_T")
EXAMPLES = examples("inhouse queue show", "inhouse queue dead list", "inhouse queue dead replay 5f0c1a2b")
DEAD_EXAMPLES = examples(
    "inhouse queue dead list",
    "inhouse queue dead show 5f0c1a2b --show-content",
    "inhouse queue dead replay 5f0c1a2b",
    "inhouse queue dead drop --all",
)

app = typer.Typer(
    name="queue", help="Look at queues in Redis, and at jobs that were given up.", no_args_is_help=True, epilog=EXAMPLES
)
dead = typer.Typer(
    name="dead", help="List, show, replay and drop jobs that were given up.", no_args_is_help=True, epilog=DEAD_EXAMPLES
)
app.add_typer(dead)

Url = Annotated[str | None, typer.Option("--queue", metavar="URL", help="The Redis of the queues (`queue.url`).")]
Model = Annotated[str | None, typer.Option("--model", metavar="NAME", help="The model; else all that are queued.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The job, or the beginning of its id.")]
Content = Annotated[bool, typer.Option("--show-content", help="Print prompts and answers too: they may be private.")]


@app.command(epilog=examples("inhouse queue show", "inhouse queue show --json"))
def show(config: Config = None, queue: Url = None, model: Model = None, as_json: AsJson = False) -> None:
    """Show what each queue has: workers and their slots, jobs that wait and run, dead letters."""
    stack = _stack(config, queue, model)

    async def look(client: Commands, one: Queue) -> dict[str, Any]:
        pending = [await client.execute_command("ZCARD", one.key(f"pending:{name}")) for name in _CLASSES]
        return {
            "model": one.model,
            "gateways": await client.execute_command("ZCARD", one.key("gateways")),
            "workers": await client.execute_command("ZCARD", one.key("workers")),
            "running": await client.execute_command("ZCARD", one.key("running")),
            "pending": sum(pending),
            "dead": await client.execute_command("XLEN", one.key("dead")),
        }

    rows = [_ask(stack, name, look) for name in _models(stack, model)]
    _print(rows, as_json, tuple(rows[0]))


@dead.command("list", epilog=examples("inhouse queue dead list", "inhouse queue dead list --json"))
def list_(
    config: Config = None,
    queue: Url = None,
    model: Model = None,
    limit: Annotated[int, typer.Option(help="At most so many of each model, newest first.", min=1)] = 100,
    as_json: AsJson = False,
) -> None:
    """List the jobs that were given up, newest first: whose they were, why, after how many attempts. No content."""
    from inhouse.store.queue_dead import letters

    stack = _stack(config, queue, model)
    rows = []
    for name in _models(stack, model):
        rows += [_facts(name, one) for one in _ask(stack, name, lambda client, one: letters(client, one, limit))]
    if rows or as_json:
        _print(rows, as_json, ("id", "model", "tenant", "at", "attempts", "pieces", "why"))
    else:
        typer.echo("No dead letters.")


@dead.command("show", epilog=DEAD_EXAMPLES)
def show_dead(
    id: Id,
    config: Config = None,
    queue: Url = None,
    model: Model = None,
    show_content: Content = False,
    as_json: AsJson = False,
) -> None:
    """Show one of them; what was asked only with --show-content."""
    stack = _stack(config, queue, model)
    name, letter = _find(stack, model, id)
    facts = _facts(name, letter)
    if show_content:
        facts["body"] = _body(stack, name, letter.payload)
    _print_one(facts, as_json)


@dead.command(epilog=DEAD_EXAMPLES)
def replay(
    id: Id,
    config: Config = None,
    queue: Url = None,
    model: Model = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait for its end.", min=1)] = 120.0,
    show_content: Content = False,
    as_json: AsJson = False,
) -> None:
    """Give one of them to a worker once more, and tell how it ended. It is dropped where it was answered.

    Its client is long gone: this shows whether what was wrong is mended.
    """
    from inhouse.store.queue_dead import drop, replay

    stack = _stack(config, queue, model)
    name, letter = _find(stack, model, id)
    kind, data = _ask(stack, name, lambda client, one: replay(client, one, letter, wait))
    facts: dict[str, Any] = {"id": letter.id, "model": name, "answered": kind == "e"}
    if kind == "e":
        _ask(stack, name, lambda client, one: drop(client, one, letter))
        if show_content:
            facts["answer"] = b"".join(_opened(stack, name, piece) for piece in data).decode(errors="replace")
    else:
        facts["error"] = _error(stack, name, kind, data) if kind else f"it was not over after {wait:g} s"
    _print_one(facts, as_json)
    if kind != "e":
        raise typer.Exit(1)


@dead.command("drop", epilog=DEAD_EXAMPLES)
def drop_dead(
    id: Annotated[str | None, typer.Argument(metavar="ID", help="The job, or the beginning of its id.")] = None,
    config: Config = None,
    queue: Url = None,
    model: Model = None,
    all_: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
) -> None:
    """Forget one of them, or all."""
    from inhouse.store.queue_dead import drop

    stack = _stack(config, queue, model)
    if (id is None) != all_:
        raise typer.BadParameter("name one, or say --all")
    if id is not None:
        name, letter = _find(stack, model, id)
        _ask(stack, name, lambda client, one: drop(client, one, letter))
        typer.echo(f"Dropped {letter.id}.")
        return
    for name in _models(stack, model):
        _ask(stack, name, lambda client, one: client.execute_command("DEL", one.key("dead")))
    typer.echo("Dropped all.")


_CLASSES = ("interactive", "standard", "batch")


def _stack(config: Path | None, queue: str | None, model: str | None) -> Stack:
    from inhouse.cli.worker import queued_stack

    named = {model: {"queued": True}} if model and queue else None
    return queued_stack(config, {"queue.url": queue, "models": named})


def _models(stack: Stack, model: str | None) -> list[str]:
    names = [name for name, spec in stack.models.items() if spec.queued and model in (None, name)]
    if not names:
        raise typer.BadParameter(f"{model!r} is no queued model of this stack", param_hint="--model")
    return names


def _ask(stack: Stack, model: str, question: Callable[[Commands, Queue], Awaitable[_T]]) -> _T:
    """One question to the Redis of a model's queue. Raises StateError where it cannot be asked."""
    from inhouse.errors import StateError
    from inhouse.runtime_queue import queue_of
    from inhouse.store.queue import plain
    from inhouse.store.redis_link import link_of

    link = link_of(stack.queue, os.environ, "queue")

    async def ask() -> _T:
        from redis.exceptions import RedisError

        client = plain(link.connect())
        try:
            return await question(client, queue_of(stack, model))
        except (RedisError, OSError) as error:
            raise StateError(f"the queue at {link.shown} cannot be asked: {type(error).__name__}") from None
        finally:
            await client.aclose()

    return asyncio.run(ask())


def _find(stack: Stack, model: str | None, id: str) -> tuple[str, Letter]:
    from inhouse.errors import StateError
    from inhouse.store.queue_dead import letters

    most = stack.queue.dead_max * 2
    found = []
    for name in _models(stack, model):
        every = _ask(stack, name, lambda client, one: letters(client, one, most))
        found += [(name, one) for one in every if one.id.startswith(id)]
    if len(found) == 1:
        return found[0]
    told = "several dead letters begin" if found else "no dead letter begins"
    raise StateError(f"{told} with '{id}'", hint="`inhouse queue dead list` shows them")


def _facts(model: str, letter: Letter) -> dict[str, Any]:
    from datetime import UTC, datetime

    at = datetime.fromtimestamp(letter.at_s, UTC).isoformat(timespec="seconds")
    facts = {"id": letter.id, "model": model, "tenant": letter.tenant, "priority": letter.priority, "at": at}
    return facts | {
        "attempts": letter.attempts,
        "pieces": letter.pieces,
        "tokens": letter.tokens,
        "why": letter.why,
        "bytes": len(letter.payload),
    }


def _opened(stack: Stack, model: str, data: bytes) -> bytes:
    from inhouse.runtime_queue import sealer_of

    return sealer_of(stack, model, os.environ).open(data)


def _body(stack: Stack, model: str, payload: bytes) -> str:
    from inhouse.wire.queued import parse_order

    return parse_order(_opened(stack, model, payload)).body.decode(errors="replace")


def _error(stack: Stack, model: str, kind: str, data: list[bytes]) -> str:
    from inhouse.wire.queued import parse_error

    return parse_error(_opened(stack, model, data[0]) if kind == "x" else data[0]).message


def _print(rows: list[dict[str, Any]], as_json: bool, columns: tuple[str, ...]) -> None:
    if as_json:
        _print_one({"rows": rows}, as_json=True)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.upper(), overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(row[column])) for column in columns))
    console = Console()
    Console(width=None if console.is_terminal else 500).print(table)


def _print_one(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        import json

        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    for name, value in facts.items():
        typer.echo(f"{name:<9} {value}")
