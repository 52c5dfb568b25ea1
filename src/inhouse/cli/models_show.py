"""`inhouse models show`: what a model is, of its files' headers alone, here or far away."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inhouse.cli.options import AsJson, Config, examples

if TYPE_CHECKING:
    from inhouse.weights.header import AttentionLayer, Header

EXAMPLES = examples(
    "inhouse models show demo",
    "inhouse models show gemma-3-1b",
    "inhouse models show ./model.gguf --json",
    "inhouse models show hf://Qwen/Qwen3-0.6B",
    "inhouse models show hf://ggml-org/gemma-3-1b-it-GGUF/gemma-3-1b-it-Q4_K_M.gguf",
)


def show(
    model: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE|NAME", help="A source, or the name of a model of inhouse.yaml or of the catalogue."
        ),
    ],
    config: Config = None,
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor as well.")] = False,
    template: Annotated[bool, typer.Option("--template", help="Print the chat template, and nothing else.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a model is, without fetching or loading its weights.

    Architecture, parameters, layers and what they keep, quantisation, context, tokenizer, chat template, licence. Of a
    file far away only the header travels, some megabytes at most.
    """
    from inhouse.weights.look import look

    source, quant, folder = _source(model, config)
    header = look(source, base=Path.cwd(), quant=quant, cache=folder)
    if template:
        typer.echo(header.chat_template or "", nl=not (header.chat_template or "").endswith("\n"))
    elif as_json:
        import json

        typer.echo(json.dumps(document(source, header, tensors=tensors), indent=2, ensure_ascii=False))
    else:
        _print(source, header, tensors=tensors)


def _source(model: str, config: Path | None) -> tuple[str, str | None, Path | None]:
    """Source, quantisation and the cache's folder. A name of the stack stands for its source, one of the catalogue for
    the file that suits this machine; anything else is a source itself."""
    import os

    from inhouse.cli.this_machine import this_machine
    from inhouse.config import load
    from inhouse.config.model_catalogue import catalogue
    from inhouse.config.sources import parse_source
    from inhouse.engines.table import ENGINES
    from inhouse.weights.catalogue import expand
    from inhouse.weights.wanted import ANY

    stack = load(config, environ=os.environ, flags={})
    spec = stack.models.get(model)
    source, quant, forms = model, None, ANY
    if spec is not None and spec.source is not None:
        source, quant, forms = spec.source, spec.quant, ENGINES[spec.engine].formats
    try:
        line = parse_source(source)
    except ValueError:
        return source, quant, stack.weights.folder  # pages of the hub, folders, safetensors: looking knows more
    if line.kind != "name" or Path(source).exists():
        return source, quant, stack.weights.folder
    entries = catalogue(stack.weights.catalogue)
    choice = expand(line, entries, this_machine(), quant=quant, forms=forms)
    return choice.source, choice.quantisation, stack.weights.folder


def document(source: str, header: Header, *, tensors: bool) -> dict[str, Any]:
    """For scripts: every field by its name in `Header`, and sums."""
    import dataclasses

    found = {field.name: getattr(header, field.name) for field in dataclasses.fields(header) if field.name != "tensors"}
    found["attention"] = header.attention and [dataclasses.asdict(layer) for layer in header.attention]
    found["tensors"] = len(header.tensors)
    found["weights_bytes"] = header.weights_bytes
    found["types"] = [dataclasses.asdict(usage) for usage in header.usage()]
    if tensors:
        found["tensors"] = [dataclasses.asdict(tensor) for tensor in header.tensors]
    return {"source": source, **found}


def _print(source: str, header: Header, *, tensors: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for title, value in _rows(source, header):
        table.add_row(title, Text(value))
    console = Console(width=None if sys.stdout.isatty() else 500)  # a pipe has no width
    console.print(table)
    types = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("TYPE", "TENSORS", "PARAMETERS", "BYTES"):
        types.add_column(title, justify="left" if title == "TYPE" else "right")
    for usage in header.usage():
        types.add_row(usage.kind, f"{usage.tensors:,}", f"{usage.elements:,}", f"{usage.bytes:,}")
    console.print()
    console.print(types)
    if tensors:
        listed = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("TENSOR", "TYPE", "SHAPE", "BYTES"):
            listed.add_column(title, justify="right" if title == "BYTES" else "left", overflow="fold")
        for tensor in header.tensors:
            listed.add_row(Text(tensor.name), tensor.kind, " × ".join(map(str, tensor.shape)), f"{tensor.bytes:,}")
        console.print()
        console.print(listed)


def _rows(source: str, header: Header) -> list[tuple[str, str]]:
    from inhouse.weights.text import printable

    rows: list[tuple[str, object]] = [
        ("source", source),
        ("name", header.name),
        ("architecture", header.architecture),
        ("parameters", f"{header.parameters:,}"),
        ("quantisation", header.quantisation),
        ("weights", f"{_size(header.weights_bytes)} in {header.files} file{'s' if header.files > 1 else ''}"),
        ("layers", header.layers),
        ("heads", _differing(header, header.heads, "heads")),
        ("heads for keys and values", _differing(header, header.kv_heads, "kv_heads")),
        ("head size", _head_size(header)),
        ("sliding window", _windows(header)),
        ("keys and values", _kept(header)),
        ("embedding size", _count(header.embedding)),
        ("feed-forward size", _count(header.feed_forward)),
        ("experts", _experts(header)),
        ("vocabulary", _count(header.vocabulary)),
        ("context", header.context_tokens and f"{header.context_tokens:,} tokens"),
        ("tokenizer", header.tokenizer),
        ("pooling", header.pooling),
        ("chat template", header.chat_template and f"{len(header.chat_template):,} characters (--template prints it)"),
        ("licence", " ".join(filter(None, (header.licence, header.licence_url))) or None),
    ]
    shown = {"experts", "pooling", "sliding window"}  # those that most models lack are left out
    return [
        (title, "-" if value in (None, 0) else printable(str(value), 500))
        for title, value in rows
        if value is not None or title not in shown
    ]


def _count(number: int | None) -> str | None:
    return None if number is None else f"{number:,}"


def _differing(header: Header, same: int | None, field: str) -> str | None:
    if same is not None or header.attention is None:
        return None if same is None else str(same)
    values = sorted({getattr(layer, field) for layer in header.attention})
    return f"{values[0]} to {values[-1]}, by layer"


def _head_size(header: Header) -> str | None:
    if header.attention is None:
        return None
    sizes = sorted({(layer.key_length, layer.value_length) for layer in header.attention if layer.heads})
    return ", ".join(f"{key}" if key == value else f"{key} for keys, {value} for values" for key, value in sizes)


def _windows(header: Header) -> str | None:
    if header.attention is None or not header.sliding_window:
        return None
    windowed = sum(1 for layer in header.attention if layer.window_tokens)
    return f"{header.sliding_window:,} tokens in {windowed} of {len(header.attention)} layers"


def _kept(header: Header) -> str:
    """What a token takes in the cache, at 16 bits an element."""
    if header.attention is None:
        return f"unknown: {header.attention_unknown}"
    everywhere = sum(map(_kv_bytes, header.attention))
    within = sum(_kv_bytes(layer) for layer in header.attention if layer.window_tokens)
    if not everywhere:
        return "none are kept"
    text = f"{_size(everywhere)} per token at 16 bits"
    return f"{text}, {_size(within)} of it within the window only" if within else text


def _kv_bytes(layer: AttentionLayer) -> int:
    return 2 * layer.kv_heads * (layer.key_length + layer.value_length) if layer.keeps_kv else 0


def _experts(header: Header) -> str | None:
    if not header.experts:
        return None
    used = f", {header.experts_used} for each token" if header.experts_used else ""
    size = f", {header.expert_feed_forward:,} wide" if header.expert_feed_forward else ""
    return f"{header.experts}{used}{size}"


def _size(count: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:,.2f} {unit}" if count < 10 * size else f"{count / size:,.1f} {unit}"
    return f"{count} bytes"
