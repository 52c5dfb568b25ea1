"""A tree of rendered files and a folder: what differs, and writing it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path

from inhouse.deploy import steps
from inhouse.deploy.compose.watch import ALLOY_HEAD
from inhouse.deploy.helm import pages
from inhouse.deploy.tree import HEAD, File
from inhouse.errors import RenderError


def write(files: Sequence[File], folder: Path) -> tuple[list[Path], list[Path]]:
    """Writes what differs; removes what an earlier stack had made there. Returns both lists. Raises RenderError.

    A file that was written by somebody else is neither removed nor overwritten.
    """
    written, gone = [], []
    try:
        for file in files:
            path = folder / file.path
            there = path.read_text() if path.exists() else None
            if there == file.text:
                continue
            if there is not None and not there.startswith(_HEADS):
                raise RenderError(
                    f"{path} was not made by `inhouse render` and would be overwritten",
                    hint="move it away, or render into another folder with --out",
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file.text)
            written.append(path)
        for path in _stale(files, folder):
            path.unlink()
            gone.append(path)
    except (OSError, UnicodeDecodeError) as error:
        raise RenderError(
            f"{folder} cannot be written: {error}", hint="name a folder of your own with --out"
        ) from error
    return written, gone


def diff(files: Sequence[File], folder: Path) -> Iterator[str]:
    """Lines of a unified diff from the folder to the files; none where they are the same. Raises RenderError."""
    try:
        for file in files:
            path = folder / file.path
            there = path.read_text() if path.exists() else ""
            yield from _unified(there, file.text, f"{path}" if there else "/dev/null", file.path)
        for path in _stale(files, folder):
            yield from _unified(path.read_text(), "", str(path), "/dev/null")
    except (OSError, UnicodeDecodeError) as error:
        raise RenderError(
            f"{folder} cannot be read: {error}", hint="name a folder that `inhouse render` wrote"
        ) from error


def _unified(before: str, after: str, old: str, new: str) -> Iterator[str]:
    return difflib.unified_diff(before.splitlines(), after.splitlines(), old, new, lineterm="")


def _stale(files: Sequence[File], folder: Path) -> list[Path]:
    """Files of ours that the stack does not make any more."""
    kept = {folder / file.path for file in files}
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and path not in kept]
    return [path for path in found if _ours(path)]


_HEADS = (HEAD, steps.HEAD, ALLOY_HEAD, *pages.HEADS)


def _ours(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(200).decode(errors="replace").startswith(_HEADS)
