"""What every source is told beside its own line, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from inhouse.config.model import ModelSpec
from inhouse.config.sources import SourceLine
from inhouse.config.weights import WeightsSpec
from inhouse.weights.catalogue import Form as Form
from inhouse.weights.catalogue import Machine

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are here and those that there will be, if known. What was here before counts as done."""

ANY: tuple[Form, ...] = ("gguf", "safetensors")


def silent(done_bytes: int, total_bytes: int | None) -> None:
    """A progress that nobody looks at."""


@dataclass(frozen=True, slots=True)
class Wanted:
    base: Path
    """Where relative paths start."""
    progress: Progress
    offline: bool = False
    """Use only what is on this machine."""
    forms: tuple[Form, ...] = ("gguf",)
    """What the engine reads, what it reads best in front: the first of them that there is is taken."""
    quant: str | None = None
    """Which of several quantisations, such as `Q4_K_M`; None takes the best middle that there is."""
    sha256: str | None = None
    """What the files must hash to, whatever the place says (`digest.digest_of_all`)."""
    papers: bool = False
    """Licence and model card too, for those who hand the files on."""
    into: Path | None = None
    """A folder to put the files into, in place of the cache."""
    spec: WeightsSpec = field(default_factory=WeightsSpec)
    machine: Machine = field(default_factory=Machine)
    """Where the model will run, for names that have several files."""


def wanted_of(
    model: ModelSpec, spec: WeightsSpec, forms: tuple[Form, ...], progress: Progress, machine: Machine | None = None
) -> Wanted:
    """What the stack says of a model's weights, for an engine that reads these forms."""
    return Wanted(
        Path.cwd(), progress, spec.offline, forms, model.quant, model.sha256, spec=spec, machine=machine or Machine()
    )


@dataclass(frozen=True, slots=True)
class GotFile:
    name: str
    path: Path
    digest: str
    """`sha256:…`, or `git:…` for small files of the hub."""
    size: int


@dataclass(frozen=True, slots=True)
class Got:
    line: SourceLine
    """Where they are from; of a name of the catalogue, what it stood for."""
    path: Path
    """What to give to an engine: the first .gguf file, or the folder."""
    files: tuple[GotFile, ...]
    version: str
    """Commit, digest or ETag; empty for files that were there."""
