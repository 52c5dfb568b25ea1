"""What lies in the cache, by source and version: to look at, to take away, to hash once more.

The cache is shared with other programs of the hub; what they fetched is seen here as well.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from inhouse.config.sources import SourceLine
from inhouse.errors import WeightsError
from inhouse.weights.deliver import disk_told
from inhouse.weights.digest import digest_of_etag
from inhouse.weights.part import bytes_here
from inhouse.weights.shelf import Shelf, hub_folder, hub_shelf, other_folder, other_shelf
from inhouse.weights.splits import parts
from inhouse.weights.wanted import GotFile


@dataclass(frozen=True, slots=True)
class Kept:
    """One version of what one source gave."""

    source: str
    shelf: Shelf
    version: str
    """Empty where only a part of it has come."""
    revisions: tuple[str, ...]
    """Branches and tags that led here when they were last looked at."""
    files: tuple[GotFile, ...]
    partial_bytes: int = 0
    """What an interrupted fetch has left, to go on with."""

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def kept_in(folder: Path | None) -> list[Kept]:
    """All of the cache, sorted by source. Raises `WeightsError` where it cannot be read."""
    found: list[Kept] = []
    with disk_told(hub_folder(folder)):
        for path in _folders(hub_folder(folder)):
            if path.name.startswith("models--"):
                org, _, repo = path.name.removeprefix("models--").partition("--")
                found += _versions(f"hf://{org}/{repo}" if repo else f"hf://{org}", Shelf(path))
        for path in _folders(other_folder(folder)):
            with suppress(OSError, ValueError, KeyError, TypeError):
                found += _versions(str(json.loads((path / "source.json").read_text())["source"]), Shelf(path))
    return sorted(found, key=lambda one: (one.source, one.version))


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def _versions(source: str, shelf: Shelf) -> Iterator[Kept]:
    refs = shelf.folder / "refs"
    leads: dict[str, list[str]] = {}
    for ref in sorted(path for path in refs.rglob("*") if path.is_file()):
        leads.setdefault(ref.read_text().strip(), []).append(ref.relative_to(refs).as_posix())
    partial = sum(bytes_here(part) for part in (shelf.folder / "blobs").glob("*.part"))
    snapshots = _folders(shelf.folder / "snapshots")
    for snapshot in snapshots:
        files = tuple(_file(snapshot / name, name) for name in shelf.names(snapshot.name))
        yield Kept(source, shelf, snapshot.name, tuple(leads.get(snapshot.name, ())), files, partial)
        partial = 0
    if partial and not snapshots:
        yield Kept(source, shelf, "", (), (), partial)


def _file(path: Path, name: str) -> GotFile:
    known = digest_of_etag(path.resolve().name) if path.is_symlink() else None
    return GotFile(name, path, str(known or ""), path.stat().st_size)


def shelf_of(line: SourceLine, folder: Path | None) -> Shelf | None:
    """Where a source's files are kept; None for those that are not fetched."""
    if line.kind in ("demo", "path"):
        return None
    return hub_shelf(folder, line.place) if line.kind == "hf" else other_shelf(folder, line)


def of_source(line: SourceLine, folder: Path | None) -> list[Kept]:
    """What is kept of a source: of the revision and the file that it names, of all where it names none.

    Raises `WeightsError` where there is nothing.
    """
    shelf = shelf_of(line, folder)
    if shelf is None:
        raise WeightsError(
            f"{line.shown} is not in the cache: it lies where it was put", hint="the cache has what is fetched"
        )
    versions = list(_versions(line.shown, shelf)) if shelf.folder.is_dir() else []
    if line.kind == "hf" and line.revision:
        version = shelf.version_of(line.revision)
        versions = [one for one in versions if one.version == version]
    if line.kind == "hf" and line.name:
        names = parts(line.name)
        versions = [_only(one, names) for one in versions if {file.name for file in one.files} & set(names)]
    if not versions:
        raise WeightsError(
            f"nothing of {line.shown} is in the cache", hint="`inhouse models list --cache` shows what is"
        )
    return versions


def _only(one: Kept, names: tuple[str, ...]) -> Kept:
    return Kept(
        one.source, one.shelf, one.version, one.revisions, tuple(file for file in one.files if file.name in names)
    )


def remove(kept: list[Kept]) -> int:
    """Takes these files away, and the bytes that no other version has; returns how many bytes that freed.

    A file that an engine has open stays readable to it. Raises `WeightsError`.
    """
    freed = 0
    for one in kept:
        with disk_told(one.shelf.folder):
            for file in one.files:
                file.path.unlink(missing_ok=True)
            if not one.shelf.names(one.version) or not one.version:
                freed += _forget(one)
            freed += _sweep(one.shelf)
    return freed


def remove_parts(kept: list[Kept]) -> int:
    """Takes away what interrupted fetches have left; returns how many bytes had come. Raises `WeightsError`."""
    freed = 0
    for shelf in {one.shelf.folder: one.shelf for one in kept}.values():
        with disk_told(shelf.folder):
            freed += _drop_parts(shelf)
    return freed


def _forget(one: Kept) -> int:
    """A version without files: its folder, and the names that lead to it; without any version, the shelf's parts."""
    if one.version:
        _remove_tree(one.shelf.snapshot(one.version))
        for revision in one.revisions:
            (one.shelf.folder / "refs" / revision).unlink(missing_ok=True)
    if _folders(one.shelf.folder / "snapshots"):
        return 0
    freed = _drop_parts(one.shelf)
    return freed + _sweep(one.shelf, and_shelf=True)


def _drop_parts(shelf: Shelf) -> int:
    freed = 0
    for part in (shelf.folder / "blobs").glob("*.part"):
        freed += bytes_here(part)
        part.unlink(missing_ok=True)
        part.with_name(f"{part.name}.map").unlink(missing_ok=True)
    return freed


def _sweep(shelf: Shelf, *, and_shelf: bool = False) -> int:
    """Blobs that nothing links to any more."""
    if not (shelf.folder / "blobs").is_dir():
        return 0
    linked = {path.resolve().name for path in (shelf.folder / "snapshots").rglob("*") if path.is_symlink()}
    freed = 0
    for blob in (shelf.folder / "blobs").iterdir():
        if blob.name not in linked and digest_of_etag(blob.name):
            freed += blob.stat().st_size
            blob.unlink(missing_ok=True)
    if and_shelf:
        _remove_tree(shelf.folder)
    return freed


def _remove_tree(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def damaged(file: GotFile, told: Callable[[int], None]) -> str | None:
    """Hashes a file once more: None where it is what its name in the cache says, else what it hashes to.

    Raises OSError, ValueError for a file whose hash is not known.
    """
    blob = file.path.resolve()
    known = digest_of_etag(blob.name)
    if known is None:
        raise ValueError(f"{file.path} does not lie in the cache as a link to its hash")
    found = known.of(blob, told=told)
    return None if found == known else str(found)


def take_away(file: GotFile) -> None:
    """A damaged file: its bytes and its name, so that it is fetched again. Raises OSError."""
    blob = file.path.resolve()
    file.path.unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        os.unlink(blob)
