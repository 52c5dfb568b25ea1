"""What may go wrong with the engines of a stack, told before they are started. Pure.

By the stack alone: weights are not looked at, so what only they would tell is not told here.
"""

from __future__ import annotations

from pathlib import Path

from inhouse.config import ModelSpec
from inhouse.config.sources import parse_source
from inhouse.engines.choices import Choices
from inhouse.engines.specs import UNKNOWN, spec_of
from inhouse.engines.table import ENGINES
from inhouse.errors import WeightsError


def advice(model: str, said: ModelSpec, chosen: Choices) -> list[str]:
    """Sentences, each with its way out. `chosen` is for the machine that the engines run on."""
    engine = ENGINES[said.engine]
    if said.source is None or engine.argv is None:
        return []
    try:
        spec = spec_of(model, said, _weights(said.source, engine.formats), UNKNOWN, chosen)
    except WeightsError as error:
        return [error.message if error.hint is None else f"{error.message}: {error.hint}"]
    return [trap.what for trap in engine.traps if trap.applies is not None and trap.applies(spec)]


def _weights(source: str, formats: tuple[str, ...]) -> Path:
    """A name that has the form of what will be there. Of a whole repository an engine is given what it reads."""
    if source == "demo":
        return Path("demo.gguf")
    whole = "://" in source and not source.partition("@")[0].endswith(".gguf")
    if whole or parse_source(source).kind == "name":
        return Path("model.gguf" if "safetensors" not in formats else "model")
    return Path(source.partition("@")[0] if "://" in source else source)
