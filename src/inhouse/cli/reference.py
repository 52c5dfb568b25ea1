"""Writes docs/reference/cli.md: `python -m inhouse.cli.reference > docs/reference/cli.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import typer

HEAD = """\
# The command line: `inhouse`

Every command with its options, as `--help` shows them. This page is generated from `src/inhouse/cli/`.

Exit codes: 0 done, 1 failed, 2 used wrongly (options, variables, `inhouse.yaml`), 130 stopped by Ctrl-C.
`inhouse --install-completion` makes the shell complete commands and options.
"""


def page() -> str:
    """The whole page."""
    from inhouse.cli.commands import app_of

    root: Any = typer.main.get_command(app_of())
    return "\n".join([HEAD, *_sections(root, typer.Context(root, info_name="inhouse"))])


def _sections(command: Any, context: typer.Context) -> Iterator[str]:
    children = getattr(command, "commands", {})
    if context.parent is not None:
        yield _section(command, context)
    for name, child in children.items():
        yield from _sections(child, typer.Context(child, info_name=name, parent=context))


def _section(command: Any, context: typer.Context) -> str:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    parts = [f"## `{context.command_path}`\n", f"{_text(command.help)}\n", f"```\n{usage}\n```\n"]
    rows = [_row(*record) for param in command.get_params(context) if (record := param.get_help_record(context))]
    parts.append("| argument or option | meaning |\n|---|---|\n" + "".join(rows))
    if command.epilog:
        lines = [line for line in command.epilog.splitlines()[1:] if line]
        parts.append("```sh\n" + "\n".join(lines) + "\n```\n")
    return "\n".join(parts)


def _row(name: str, meaning: str) -> str:
    return f"| `{' '.join(name.split())}` | {' '.join(meaning.split())} |\n"


def _text(help: str | None) -> str:
    paragraphs = (help or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


if __name__ == "__main__":
    sys.stdout.write(page())
