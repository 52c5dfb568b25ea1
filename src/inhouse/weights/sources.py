"""One source line of a model → checked files on this machine, fetched if need be.

A new kind of source is one file with a function `(line, wanted) -> Got`, one line in `SOURCES` and its form in
`config/sources.py`.
"""

from __future__ import annotations

import difflib
import importlib.resources
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from inhouse.config.sources import SOURCE_FORMS, SourceLine, parse_source
from inhouse.errors import WeightsError
from inhouse.weights.choose import INDEX
from inhouse.weights.kept import got, pick
from inhouse.weights.splits import parts
from inhouse.weights.wanted import Got, Progress, Wanted


def resolve(source: str, *, base: Path, progress: Progress, offline: bool = False) -> Path:
    """The file to give to an engine; of a split model the first part, with the others beside it.

    `base` is the folder that relative paths start from. `progress` may be called from another thread. With `offline`
    only what is on this machine is used. Raises `WeightsError`.
    """
    return obtain(source, Wanted(base, progress, offline)).path


def obtain(source: str, wanted: Wanted) -> Got:
    """The files of a model, whole and checked. Raises `WeightsError`.

    Nobody is asked for what is pinned, by commit or digest, and here.
    """
    line = line_of(source)
    if is_pinned(line, wanted) and not (wanted.offline or wanted.papers or wanted.into):
        with suppress(WeightsError):
            return SOURCES[line.kind](line, replace(wanted, offline=True))
    return SOURCES[line.kind](line, wanted)


def line_of(source: str) -> SourceLine:
    """Raises `WeightsError`."""
    try:
        return parse_source(source)
    except ValueError as error:
        raise WeightsError(f"'{source}' names no weights: {error}", hint=f"a source is {SOURCE_FORMS}") from None


def is_here(source: str) -> bool:
    """Whether it lies on this machine by its nature, so that nothing has to be fetched."""
    return line_of(source).kind in ("demo", "path")


def is_pinned(line: SourceLine, wanted: Wanted) -> bool:
    """Whether the same source can never mean other bytes."""
    return wanted.sha256 is not None or bool(re.fullmatch(r"[0-9a-f]{40}|sha256:[0-9a-f]{64}", line.revision))


def demo(line: SourceLine, wanted: Wanted) -> Got:
    """The small model that comes with the package."""
    path = Path(str(importlib.resources.files("inhouse.weights") / "demo.gguf"))
    if not path.is_file():
        raise WeightsError(
            f"the demo model is not in this installation ({path} is missing)",
            hint="install inhouse again, or name a model of your own as source",
        )
    return got(line, path.parent, [path.name], "", wanted)


def named(line: SourceLine, wanted: Wanted) -> Got:
    """What a name of the catalogue stands for on this machine."""
    from inhouse.config.model_catalogue import catalogue
    from inhouse.weights.catalogue import expand

    entries = catalogue(wanted.spec.catalogue)
    choice = expand(line, entries, wanted.machine, quant=wanted.quant, forms=wanted.forms)
    return obtain(choice.source, replace(wanted, quant=choice.quantisation))


def local(line: SourceLine, wanted: Wanted) -> Got:
    """A file that is there already, of a split model all of its parts; or a folder with a model in it."""
    try:
        named = wanted.base / Path(line.place).expanduser()
    except RuntimeError as error:
        raise WeightsError(f"the home folder in '{line.place}' is not known: {error}") from error
    if _is_folder(named):
        names = [path.relative_to(named).as_posix() for path in _files(named)]
        return got(line, named, pick(line, names, wanted, lambda: named / INDEX), "", wanted)
    names = list(parts(named.name))
    for name in names:
        _check_regular(named.with_name(name), named)
    return got(line, named.parent, names, "", wanted)


def fetched(line: SourceLine, wanted: Wanted) -> Got:
    """Files of the Hugging Face hub."""
    from inhouse.weights import hub

    return hub.fetch(line, wanted)


def downloaded(line: SourceLine, wanted: Wanted) -> Got:
    """A file of a web server."""
    from inhouse.weights import web

    return web.fetch(line, wanted)


def from_bucket(line: SourceLine, wanted: Wanted) -> Got:
    """Files in S3, or in what speaks its protocol."""
    from inhouse.weights import s3

    return s3.fetch(line, wanted)


def from_registry(line: SourceLine, wanted: Wanted) -> Got:
    """Files in a container registry."""
    from inhouse.weights import oci

    return oci.fetch(line, wanted)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir() and path.suffix != ".gguf"
    except (OSError, ValueError):
        return False


def _files(folder: Path) -> list[Path]:
    """Those in the folder and one level below it."""
    try:
        return sorted(path for pattern in ("*", "*/*") for path in folder.glob(pattern) if path.is_file())
    except OSError as error:
        raise WeightsError(f"{folder} cannot be looked at: {error.strerror}") from error


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


SOURCES: dict[str, Callable[[SourceLine, Wanted], Got]] = {
    "demo": demo,
    "name": named,
    "path": local,
    "hf": fetched,
    "https": downloaded,
    "s3": from_bucket,
    "oci": from_registry,
}
"""Kind of source → what fetches it."""
