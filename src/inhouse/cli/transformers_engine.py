"""`inhouse transformers-engine`: a server on Hugging Face's transformers, and the same as a program of its own,
`inhouse-transformers-engine`, to be named as `engine_binary` where torch lies in another environment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from inhouse.cli.options import examples
from inhouse.hf_engine.settings import Device, Dtype, Quantize, Task

EXAMPLES = examples(
    "inhouse transformers-engine ./my-model --port 9000",
    "inhouse transformers-engine ./my-model --quantize nf4 --batch-max 16",
    "inhouse transformers-engine ./all-minilm-l6-v2 --task embed",
)


def transformers_engine(
    folder: Annotated[Path, typer.Argument(metavar="MODEL_FOLDER", help="A folder as save_pretrained writes it.")],
    host: Annotated[str, typer.Option(help="Address to listen on, or the path of a unix socket.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 picks a free one.", min=0, max=65535)] = 0,
    alias: Annotated[str | None, typer.Option(metavar="NAME", help="The model's name; else its folder's.")] = None,
    quantize: Annotated[Quantize, typer.Option(help="Load the weights in 4 bits (nf4) or 8 (int8).")] = "none",
    dtype: Annotated[Dtype, typer.Option(help="Precision; auto is that of the weights.")] = "auto",
    device: Annotated[Device, typer.Option(help="Where it computes; auto is a GPU if there is one.")] = "auto",
    task: Annotated[Task, typer.Option(help="What the model is for; auto finds out.")] = "auto",
    context: Annotated[
        int | None, typer.Option(help="Tokens of a prompt and its answer; else as many as the model has.", min=1)
    ] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads; else one for each core.", min=1)] = None,
    batch_max: Annotated[int, typer.Option(help="Requests that are computed together.", min=1, max=1024)] = 8,
    batch_wait: Annotated[
        float, typer.Option(help="Seconds that a request may wait for companions.", min=0.0, max=60.0)
    ] = 0.005,
    prefill_tokens: Annotated[
        int, typer.Option(help="Tokens of prompts that are computed between two tokens of an answer.", min=1)
    ] = 2048,
    queue_max: Annotated[int, typer.Option(help="Requests that may wait; one more is told 429.", min=0)] = 64,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that the model's folder brings along.")
    ] = False,
) -> None:
    """Run our own engine on Hugging Face's transformers.

    It serves a model's folder with OpenAI's API and /generate. Requests that wait are computed together, and new ones
    join a batch that runs. Needs the extra: pip install 'inhouse[transformers]'.
    """
    from inhouse.hf_engine.batching import Rules
    from inhouse.hf_engine.program import run
    from inhouse.hf_engine.settings import Settings

    settings = Settings(
        folder=folder.expanduser(),
        name=alias or folder.resolve().name,
        quantize=quantize,
        dtype=dtype,
        device=device,
        task=task,
        context_tokens=context,
        threads=threads,
        queue_max=queue_max,
        trust_remote_code=trust_remote_code,
        rules=Rules(rows_max=batch_max, wait_s=batch_wait, prefill_tokens_max=prefill_tokens),
    )
    run(settings, host, port)


def program() -> NoReturn:
    """`inhouse-transformers-engine`."""
    from inhouse.cli.main import run

    sys.argv.insert(1, "transformers-engine")
    run()
