"""`inhouse version`: what is installed here, for a bug report."""

from __future__ import annotations

import typer

from inhouse import __version__
from inhouse.cli.options import AsJson, examples
from inhouse.compiled import COMPILED

EXAMPLES = examples("inhouse version", "inhouse version --json")


def version(as_json: AsJson = False) -> None:
    """Print versions and platform, for a bug report."""
    import platform
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        engine = installed("xllamacpp")
    except PackageNotFoundError:
        engine = "not installed"
    facts = {
        "inhouse": __version__,
        "build": "compiled" if COMPILED else "interpreted",
        "python": platform.python_version(),
        "xllamacpp": engine,
        "platform": platform.platform(),
    }
    if as_json:
        import json

        typer.echo(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        typer.echo(f"{name:<10} {value}")
