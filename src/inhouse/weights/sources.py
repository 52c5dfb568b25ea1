"""One source line of a model → a checked file on this machine, fetched if need be.

A new kind of source is one file with a function `(source, wanted) -> Path` and one line in `SOURCES`.
"""

from __future__ import annotations

import difflib
import importlib.resources
import re
from collections.abc import Callable
from pathlib import Path

from inhouse.errors import WeightsError
from inhouse.weights import gguf
from inhouse.weights.splits import parts
from inhouse.weights.wanted import Progress, Wanted

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://.*", re.DOTALL)


def resolve(source: str, *, base: Path, progress: Progress, offline: bool = False) -> Path:
    """The file to give to an engine; of a split model the first part, with the others beside it.

    `base` is the folder that relative paths start from. `progress` may be called from another thread. With `offline`
    only what is on this machine is used. Raises `WeightsError`.
    """
    scheme = "demo" if source == "demo" else match[1] if (match := _SCHEME.fullmatch(source)) else "path"
    fetch = SOURCES.get(scheme)
    if fetch is None:
        raise WeightsError(
            f"no model can be fetched from '{scheme}://' (in '{source}')",
            hint="a source is a path to a .gguf file, hf://org/repo/file.gguf, or demo",
        )
    return fetch(source, Wanted(base, progress, offline))


def demo(source: str, wanted: Wanted) -> Path:
    """The small model that comes with the package."""
    path = Path(str(importlib.resources.files("inhouse.weights") / "demo.gguf"))
    if not path.is_file():
        raise WeightsError(
            f"the demo model is not in this installation ({path} is missing)",
            hint="install inhouse again, or name a model of your own as source",
        )
    gguf.check(path)
    return path


def local(source: str, wanted: Wanted) -> Path:
    """A file that is there already; of a split model, all of its parts."""
    try:
        named = wanted.base / Path(source).expanduser()
    except RuntimeError as error:
        raise WeightsError(f"the home folder in '{source}' is not known: {error}") from error
    files = [named.with_name(part) for part in parts(named.name)]
    for file in files:
        _check_regular(file, named)
        gguf.check(file)
    return files[0]


def fetched(source: str, wanted: Wanted) -> Path:
    """A file of the Hugging Face hub."""
    from inhouse.weights import hub

    return hub.fetch(source, wanted)


def _check_regular(file: Path, named: Path) -> None:
    try:
        if file.is_file():
            return
        if file.is_dir():
            raise WeightsError(f"{file} is a folder, not a model file", hint=_near(file, ""))
        if file.exists():
            raise WeightsError(f"{file} is not a regular file", hint="name a .gguf file")
    except (OSError, ValueError) as error:
        raise WeightsError(f"{file} cannot be looked at: {error}", hint="check the path and its permissions") from error
    if file.name != named.name:
        raise WeightsError(
            f"{named} is a part of a split model, and {file.name} is missing", hint=_near(file.parent, "")
        )
    raise WeightsError(f"there is no file {file}", hint=_near(file.parent, file.name))


def _near(folder: Path, name: str) -> str:
    """The models in the folder, those of a similar name before others."""
    try:
        there = sorted(entry.name for entry in folder.iterdir() if entry.suffix == ".gguf")
    except OSError:
        return f"the folder {folder} does not exist or cannot be read"
    if not there:
        return f"there is no .gguf file in {folder}"
    return f"in {folder} there is: " + ", ".join(difflib.get_close_matches(name, there, n=5, cutoff=0.5) or there[:5])


SOURCES: dict[str, Callable[[str, Wanted], Path]] = {
    "demo": demo,
    "path": local,
    "hf": fetched,
}
"""Scheme → what fetches it."""
