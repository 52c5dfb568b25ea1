"""Which engine stands in for the one in the package on this machine, if any does."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from inhouse.config import ModelSpec
from inhouse.engines import gpus
from inhouse.engines.hardware import Hardware
from inhouse.engines.native import PACKAGE, PROGRAM, Recipe, cache_folder, recipe
from inhouse.engines.native_cuda import capabilities, usable, visible
from inhouse.engines.native_edits import digest
from inhouse.errors import EngineBuildError


@dataclass(frozen=True, slots=True)
class Built:
    """A build in the cache; `told` is what was written down of it."""

    program: Path
    told: dict[str, object] = field(default_factory=dict)


def found(cache: Path, recipe: Recipe) -> Built | None:
    """The build of this recipe, where it has been made and checked, with the changes that are made today."""
    return _in_use(cache / recipe.folder)


def _in_use(folder: Path) -> Built | None:
    built = _in(folder)
    return built if built is not None and built.told.get("edits", "") in (None, digest()) else None


def _in(folder: Path) -> Built | None:
    try:
        told = json.loads((folder / "build.json").read_text())
    except (OSError, ValueError):
        return None
    program = folder / PROGRAM
    return Built(program, told) if isinstance(told, dict) and os.access(program, os.X_OK) else None


def cache_here(environ: Mapping[str, str]) -> Path:
    try:
        return cache_folder(environ, Path.home())
    except RuntimeError as error:
        raise EngineBuildError(f"no folder for builds: {error}", hint="INHOUSE_CACHE names one") from None


def recipe_here(hardware: Hardware, *, portable: bool = False, cuda: Iterable[str] = ()) -> Recipe:
    """Of the llama.cpp that is installed. Raises EngineBuildError where it cannot be built here."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        installed = version(PACKAGE)
    except PackageNotFoundError:
        raise EngineBuildError(
            f"{PACKAGE} is not installed, whose version would be built", hint=f"pip install {PACKAGE}"
        ) from None
    return recipe(installed, hardware.system, hardware.cpu, portable=portable, cuda=cuda)


def built_here(hardware: Hardware, environ: Mapping[str, str]) -> Built | None:
    """The build that would be used: one for the GPUs, for this CPU, a portable one; None where there is none.

    A container's image brings its own along, and says where by `INHOUSE_ENGINE_FOLDER`: nothing else is looked for.
    """
    if given := environ.get("INHOUSE_ENGINE_FOLDER", ""):
        return _in(Path(given))
    try:
        cache = cache_here(environ)
        if not any(cache.glob("llama.cpp-*")):
            return None  # without asking for versions, which takes memory
        ways = [recipe_here(hardware, portable=portable) for portable in (False, True)]
        for_gpus = _for_gpus(cache, ways[0].version, hardware, environ)
    except (EngineBuildError, OSError):
        return None
    return for_gpus or next((built for way in ways if (built := found(cache, way)) is not None), None)


def _for_gpus(cache: Path, version: str, hardware: Hardware, environ: Mapping[str, str]) -> Built | None:
    """One that has code for each of the GPUs that are here and to be used."""
    folders = sorted(cache.glob(f"llama.cpp-{version}-cuda-*"))
    builds = [built for folder in folders if (built := _in_use(folder)) is not None]
    builds = [built for built in builds if hardware.system.endswith(f" {built.told.get('machine')}")]
    if not builds:
        return None
    here = set(capabilities(visible(usable(hardware.gpus or gpus.look()), environ)))
    return next((built for built in builds if here and here <= set(_words(built.told.get("cuda")))), None)


def _words(told: object) -> list[object]:
    return told if isinstance(told, list) else []


def lies_idle_for_gpus(environ: Mapping[str, str]) -> bool:
    """Whether one was built for GPUs: told to somebody whose engine found none."""
    try:
        return any(cache_here(environ).glob("llama.cpp-*-cuda-*"))
    except (EngineBuildError, OSError):
        return False


def native_for(said: ModelSpec, hardware: Hardware) -> Path | None:
    """The program for a model in place of the engine in the package; None for that one.

    Raises EngineBuildError where the model wants one that is not there.
    """
    if said.engine != "llamacpp" or said.engine_binary is not None or said.engine_build == "package":
        return None
    built = built_here(hardware, os.environ)
    if built is None and said.engine_build == "native":
        raise EngineBuildError(
            "`engine_build: native`, but none is built of this llama.cpp for the CPU or GPUs that are here",
            hint="inhouse engine build, or inhouse engine build --gpu",
        )
    return built.program if built is not None else None
