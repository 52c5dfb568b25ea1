"""What the commands that operate a running gateway share: reaching it as an operator, and showing its answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from inhouse.cli.client import Gateway
    from inhouse.cli.reach import Target


def target_of(config: Path | None, base_url: str | None, api_key: str | None, state_dir: Path | None) -> Target:
    from inhouse.cli.reach import Target

    return Target(config, base_url, api_key, state_dir)


@contextmanager
def operating(target: Target, note: str) -> Iterator[Gateway]:
    """The gateway; a key that is made for it has the role `operator` and this note. Raises as `reach` does."""
    from inhouse.cli.reach import reach

    with reach(target, note=note, role="operator") as gateway:
        yield gateway


def tell(answer: dict[str, Any], as_json: bool, printed: Callable[[dict[str, Any]], None]) -> None:
    """As JSON, or as `printed` shows it to a person."""
    if as_json:
        import json

        typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        printed(answer)
