"""The generated page of the engines, docs/reference/engines.md: a part of `reference.py`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from inhouse.engines.abilities import ALL
from inhouse.engines.engine import Spec
from inhouse.engines.http import Address
from inhouse.engines.table import ENGINES

HEAD = """\
# Engines

What the program knows of each engine. How one is chosen and started: [engines](../engines.md). This page is generated
from `src/inhouse/engines/table.py` and the files beside it.

"""
_SPEC = Spec("chat", Path("/models/chat"), context_tokens=8192, slots=16, threads=8)


def page() -> str:
    """The text of the page."""
    return HEAD + "".join([*_rows(), "\n", *_abilities(), "\n", *_commands(), *_traps()])


def _rows() -> Iterator[str]:
    yield "| engine | program | weights | quantisations | ready | metrics | image |\n|---|---|---|---|---|---|---|\n"
    for engine in ENGINES.values():
        started = engine.argv is not None
        cells = (
            f"`{engine.name}`",
            f"`{engine.program}`" if started else "runs elsewhere",
            ", ".join(engine.formats) if started else "",
            ", ".join(engine.quantizations),
            f"`{engine.health.decode()}`",
            ", ".join(f"`{path.decode()}`" for path in engine.metrics) or "none",
            f"`{engine.image.name}`" if engine.image else "",
        )
        yield f"| {' | '.join(cells)} |\n"


def _abilities() -> Iterator[str]:
    yield "## What each can do\n\n"
    yield "Beside chat, text completions and their streams. A flag in a cell is what it takes.\n\n"
    shown = [ability for ability in ALL if ability != "chat"]
    yield f"| engine | {' | '.join(f'`{ability}`' for ability in shown)} | goes on with an answer |\n"
    yield f"|{'---|' * (len(shown) + 2)}\n"
    for engine in ENGINES.values():
        needs = dict(engine.needs)
        cells = [(f"`{needs[one]}`" if one in needs else "yes") if one in engine.abilities else "" for one in shown]
        on = {"": "", "asked": "yes", "always": "yes"}[engine.continuing]
        yield f"| `{engine.name}` | {' | '.join(cells)} | {on} |\n"


def _commands() -> Iterator[str]:
    yield "## How each is started\n\nWith 16 slots of 8,192 tokens, on port 8000; the same in a container.\n\n"
    for engine in ENGINES.values():
        if engine.argv is None or engine.name in ("llamacpp", "transformers"):
            continue
        command = engine.argv(_SPEC, Address(host="0.0.0.0", port=8000))
        told = "".join(f"{name}={shlex.quote(value)} \\\n" for name, value in command.environment)
        yield f"`{engine.name}`: `{engine.install}`\n\n```sh\n{told}{_folded(command.argv)}\n```\n\n"


def _folded(argv: tuple[str, ...]) -> str:
    """A flag and its value to a line."""
    lines: list[str] = []
    for word in map(shlex.quote, argv):
        if word.startswith("--") or not lines:
            lines.append(word)
        else:
            lines[-1] += f" {word}"
    return " \\\n  ".join(lines)


def _traps() -> Iterator[str]:
    yield "## What goes wrong\n\n`inhouse config check` tells those that the configuration is in danger of.\n\n"
    for engine in ENGINES.values():
        yield f"`{engine.name}`, {engine.title}:\n\n" + "".join(f"- {trap.what}.\n" for trap in engine.traps) + "\n"
