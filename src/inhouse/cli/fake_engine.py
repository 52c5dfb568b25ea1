"""`inhouse fake-engine`: a stand-in for an engine, and `inhouse-fake-engine`, the same as a program of its own.

Its options are made from the table in `fake/settings.py`, so that a setting is written down once. llama-server's own
flags are taken as well: those that mean something here have its names, the rest is passed over, so that the program
can stand wherever a llama-server does.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, Any, NoReturn

import typer

from inhouse.cli.options import examples
from inhouse.fake.settings import Settings

EXAMPLES = examples(
    "inhouse fake-engine --port 9000",
    "inhouse fake-engine --ttft-s 0.03 --prefill-tokens-per-s 4000 --tokens-per-s 40 --tokens-per-s-total 800",
    "inhouse fake-engine --port 9000 --parallel 8 --queue-max 0 --error-rate 0.05 --stall-rate 0.01",
    "inhouse fake-engine --port 9000 --metrics-as vllm --load-s 20 --control-port 9001",
)
_OWN = ("slots", "context_tokens")  # under llama-server's names
CONTEXT = {"ignore_unknown_options": True, "allow_extra_args": True}


def _fake_engine(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on, or the path of a unix socket.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 picks a free one.")] = 0,
    control_port: Annotated[
        int | None, typer.Option(help="A port of its own for /fake/…, which no failure reaches; 0 picks one.")
    ] = None,
    alias: Annotated[str, typer.Option(metavar="NAME", help="The model's name.")] = "fake",
    parallel: Annotated[
        int | None, typer.Option("--parallel", "-np", help="Requests that run at once (4).", min=1)
    ] = None,
    ctx_size: Annotated[
        int | None, typer.Option("--ctx-size", "-c", help="Tokens of all requests that run at once (4096 each).")
    ] = None,
    **given: Any,
) -> None:
    """Run a stand-in for an engine, to try things with.

    It speaks like llama-server and OpenAI's API, takes as long as told and fails as told: for trying out what stands
    before an engine, without one. Without options everything takes no time. Flags of llama-server that mean nothing
    here are passed over. Every setting can be changed at run time by `POST /fake/settings`.
    """
    from inhouse.fake.program import Place, run
    from inhouse.fake.settings import WrongSetting, changed

    changes = {name: value for name, value in given.items() if value is not None}
    slots = parallel or Settings().slots
    changes["slots"] = slots
    if ctx_size:
        changes["context_tokens"] = ctx_size // slots
    try:
        settings = changed(Settings(), changes)
    except WrongSetting as error:
        raise typer.BadParameter(str(error)) from None
    control = None if control_port is None else Place("127.0.0.1", control_port)
    run(settings, model=alias, place=Place(host, port), control=control)


def command() -> Callable[..., None]:
    """The command with an option for each setting."""
    own = inspect.signature(_fake_engine, eval_str=True).parameters
    parameters = [one for one in own.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    for one in fields(Settings):
        if one.name in _OWN:
            continue
        flag = f"--{one.name.replace('_', '-')}"
        shown = one.default if one.metadata["among"] or type(one.default) is bool else f"{one.default:g}"
        option = typer.Option(flag, help=f"{one.metadata['about']} ({shown})", show_default=False)
        kind: Any = type(one.default) | None
        parameters.append(
            inspect.Parameter(
                one.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option]
            )
        )

    def fake_engine(**given: Any) -> None:
        _fake_engine(**given)

    fake_engine.__doc__ = _fake_engine.__doc__
    fake_engine.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    fake_engine.__annotations__ = {one.name: one.annotation for one in parameters}
    return fake_engine


def program() -> NoReturn:
    """`inhouse-fake-engine`, to be named where a llama-server could be: `engine_binary: inhouse-fake-engine`."""
    from inhouse.cli.main import run

    sys.argv.insert(1, "fake-engine")
    run()
