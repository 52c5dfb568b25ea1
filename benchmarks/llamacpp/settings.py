"""What all sections are told."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.memory.shapes import Shape, write
from benchmarks.rig.tools import Tools
from inhouse.engines.hardware import Hardware

MODEL = "bench"
KEY = "llamacpp-0123456789-abcdefghijklmnop"
CONTEXT_TOKENS = 512
GEMMA_3_1B = Shape(
    "Gemma-3-1B",
    "gemma3",
    layers=26,
    embedding=1152,
    heads=4,
    kv_heads=1,
    head_length=256,
    feed_forward=6912,
    vocabulary=262144,
    window=512,
    recipe="q4_0",
)


@dataclass(frozen=True, slots=True)
class Settings:
    tools: Tools
    rounds: int
    inhouse: tuple[str, ...]
    given: Path | None
    """A .gguf file in place of random weights."""
    tokens: int
    """Of each answer."""
    native: Path | None
    """The llama-server that was built here; None where there is none."""
    named: bool
    """Whether that is one of one's own, which the gateway has to be told of."""
    hardware: Hardware
    cache: Path
    """Where peers are installed."""

    def weights(self) -> Path:
        """The file that was named, else random weights in Gemma-3-1B's shape, written once for all sections."""
        if self.given is not None:
            return self.given
        file = self.tools.folder / "random.gguf"
        if not file.exists():
            write(GEMMA_3_1B, file)
        return file

    @property
    def threads(self) -> int:
        return self.hardware.usable_cores


def kept(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Of the environment what says where builds lie, which a clean one lacks."""
    return {name: environ[name] for name in ("INHOUSE_CACHE", "XDG_CACHE_HOME") if name in environ}
