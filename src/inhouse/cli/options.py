"""Options that several commands share, so that they read and mean the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="The stack's file (INHOUSE_CONFIG); else ./inhouse.yaml."),
]
StateDir = Annotated[
    Path | None,
    typer.Option("--state-dir", metavar="FOLDER", help="Folder for keys and history (INHOUSE_STATE_DIR)."),
]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url", metavar="URL", help="The gateway to speak to (INHOUSE_BASE_URL); else the configured one."
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option("--api-key", metavar="KEY", help="The key to present (INHOUSE_API_KEY); else one is made, if local."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def examples(*lines: str) -> str:
    """The end of a command's help. Blank lines keep each example on a line of its own."""
    return "\n\n".join(("Examples:", *lines))
