"""Where the files of a bundle go: into the cache, as if they had been fetched, or into a folder as they are."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO

from inhouse.errors import WeightsError
from inhouse.weights import bundle
from inhouse.weights.bundle import Bundled
from inhouse.weights.cache import shelf_of
from inhouse.weights.deliver import check_free, disk_told
from inhouse.weights.lock import alone
from inhouse.weights.shelf import Shelf, hub_folder
from inhouse.weights.wanted import Progress


def into_cache(stream: IO[bytes], folder: Path | None, reserve: int, progress: Progress) -> list[Bundled]:
    """Raises `WeightsError`."""
    places: dict[str, Path] = {}
    sizes: dict[str, int] = {}
    shelves: list[tuple[Bundled, Shelf]] = []
    root = hub_folder(folder)

    def begin(models: list[Bundled]) -> None:
        for model in models:
            shelf = shelf_of(model.line, folder)
            if shelf is None or not model.version:
                raise WeightsError(
                    f"{model.name} was no fetched model but {model.source}",
                    hint="unbundle it into a folder: --to FOLDER",
                )
            shelves.append((model, shelf))
            for file in model.files:
                sizes[file.sha256] = file.bytes
                places[file.sha256] = shelf.blob(file.digest.partition(":")[2])
        _check_room(root, sizes, places, reserve)

    def place(sha256: str) -> Path | None:
        return None if places[sha256].is_file() else places[sha256]

    with disk_told(root), alone(root / ".locks" / "unbundle.lock", waiting=nothing):
        models = bundle.read(stream, begin, place, _counted(progress, sizes))
        for model, shelf in shelves:
            for file in model.files:
                blob = shelf.blob(file.digest.partition(":")[2])
                if not blob.is_file():  # the same bytes are of another model too
                    _copy(places[file.sha256], blob)
                shelf.link(model.version, file.name, blob)
            shelf.remember(_revision(model), model.version)
            if model.line.kind != "hf":
                shelf.remember_source(model.line)
    return models


def into_folder(stream: IO[bytes], to: Path, reserve: int, progress: Progress) -> list[Bundled]:
    """A folder per model below `to`, with real files. Raises `WeightsError`."""
    places: dict[str, Path] = {}
    sizes: dict[str, int] = {}

    def begin(models: list[Bundled]) -> None:
        for model in models:
            for file in model.files:
                sizes[file.sha256] = file.bytes
                places.setdefault(file.sha256, home(to, model) / file.name)
        _check_room(to, sizes, places, reserve)

    with disk_told(to), alone(to / ".unbundle.lock", waiting=nothing):
        models = bundle.read(stream, begin, lambda sha256: places[sha256], _counted(progress, sizes))
        for model in models:
            for file in model.files:
                there = home(to, model) / file.name
                if there != places[file.sha256]:
                    _copy(places[file.sha256], there)
    return models


def home(to: Path, model: Bundled) -> Path:
    """The folder of a model below `to`."""
    slug = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in model.name).strip("-.")
    return to / (slug or "model")


def _revision(model: Bundled) -> str:
    """What the source says when it is resolved offline."""
    line = model.line
    if line.kind == "hf":
        return line.revision or "main"
    return line.revision.removeprefix("sha256:") or "latest"


def _copy(given: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    fresh = to.with_name(f"{to.name}.{os.getpid()}.unbundled")
    shutil.copyfile(given, fresh)
    os.replace(fresh, to)


def nothing() -> None:
    """While another unbundles, there is nothing to tell."""


def _counted(progress: Progress, total: dict[str, int]) -> Callable[[int], None]:
    done = 0

    def told(count: int) -> None:
        nonlocal done
        done += count
        progress(done, sum(total.values()))

    return told


def _check_room(folder: Path, sizes: dict[str, int], places: dict[str, Path], reserve: int) -> None:
    needed = sum(size for sha256, size in sizes.items() if not places[sha256].is_file())
    check_free("the bundle", folder, needed, reserve)
