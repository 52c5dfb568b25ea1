"""`inhouse serve`: options to a stack, then the gateway until it is told to stop. What it prints: `announce.py`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inhouse.cli.options import Config, StateDir, examples

if TYPE_CHECKING:
    from inhouse.config import Stack

EXAMPLES = examples(
    "inhouse serve",
    "inhouse serve gemma-3-1b",
    "inhouse serve ./gemma-3-1b-it-Q4_K_M.gguf --slots 8",
    "inhouse serve hf://ggml-org/gemma-3-1b-it-GGUF/gemma-3-1b-it-Q4_K_M.gguf --name gemma",
    "inhouse serve --config ./inhouse.yaml --host 0.0.0.0 --port 9000",
)


def serve(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="`demo`, a name such as gemma-3-1b, a .gguf file or hf://org/repo, in place of the configured models.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What clients call MODEL; else its file's name.")
    ] = None,
    config: Config = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option("--port", "-p", help="Port to listen on (8080); 0 picks one.")] = None,
    slots: Annotated[int | None, typer.Option(help="Requests at once, per model (4).")] = None,
    context: Annotated[int | None, typer.Option(help="Tokens of one request, prompt and answer (4096).")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads of the engine (every core).")] = None,
    engine_binary: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A llama-server of your own, in place of the one included.")
    ] = None,
    state_dir: StateDir = None,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Answer without keys; only where no other machine can reach it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON lines, for scripts.")] = False,
    log_level: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error (info).")
    ] = None,
) -> None:
    """Serve models until Ctrl-C.

    Serves the configured models, or MODEL, behind an OpenAI-compatible API; with neither, the small demo model that
    comes along. The first start makes a key and prints it, this once.
    """
    from inhouse.cli.announce import Announcer
    from inhouse.config import load
    from inhouse.gateway.server import serve as serve_until_told

    flags: dict[str, object] = {
        "models": {name or name_of(model): {"source": model}} if model else None,
        "gateway.host": host,
        "gateway.port": port,
        "models.*.slots": slots,
        "models.*.context": context,
        "models.*.threads": threads,
        "models.*.engine_binary": engine_binary,
        "state_dir": state_dir,
        "auth.enabled": False if no_auth else None,
        "log.level": log_level,
    }
    if name and not model:
        raise typer.BadParameter("needs MODEL; configured models have their names in the file", param_hint="--name")
    stack = load(config, environ=os.environ, flags=flags)
    chat = chat_command(stack, config, given_address=host is not None or port is not None, state_dir=state_dir)
    with Announcer(stack, chat=chat, as_json=as_json) as announcer:
        code = serve_until_told(stack, environ=os.environ, report=announcer)
    raise typer.Exit(code)


def name_of(source: str) -> str:
    """What clients call a model from there: `demo`, a name of the catalogue, or the file's name without its ending."""
    if "/" not in source and not source.endswith(".gguf"):
        source = source.partition(":")[0]  # gemma-3-1b:Q8_0
    stem = re.sub(r"@[^/]*$", "", source).rstrip("/").rpartition("/")[2]
    stem = re.sub(r"(-\d{5}-of-\d{5})?\.gguf$", "", stem)
    return re.sub(r"[^A-Za-z0-9._:-]+", "-", stem)[:128] or "model"


def chat_command(stack: Stack, config: Path | None, *, given_address: bool, state_dir: Path | None) -> list[str]:
    """`inhouse chat` with what it needs to find this very gateway; `{url}` where the address goes."""
    command = ["inhouse", "chat"]
    if config is not None:
        command += ["--config", str(config)]
    if given_address or stack.gateway.port == 0:
        command += ["--base-url", "{url}"]
    if state_dir is not None:
        command += ["--state-dir", str(state_dir)]
    return command
