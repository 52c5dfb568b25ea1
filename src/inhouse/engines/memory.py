"""What the replicas of a model are planned with, by the memory model of their engine. Pure but for sizes of files.

An engine without a memory model is planned with the size of its weights, where it holds them in this machine's memory,
and a flat amount for itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from inhouse.engines.engine import Engine, Spec
from inhouse.engines.http import Address
from inhouse.engines.llamacpp import adapters
from inhouse.engines.llamacpp_memory import Model

FLAT_BYTES = 1 << 30
"""Of an engine of which no more is known."""
_SOCKET = Address(socket="/engine.sock")


def planned_bytes(
    engine: Engine, spec: Spec, model: Model | None, file_bytes: int, features: Iterable[str], replicas: int
) -> int:
    """All replicas together. `model` is what the header says, None where there is none to be read."""
    if engine.memory is not None and engine.argv is not None and model is not None:
        parts = engine.memory(spec, engine.argv(spec, _SOCKET).argv, model, features)
        return parts.of(replicas)
    return replicas * (FLAT_BYTES + (file_bytes if engine.cpu else 0))


def fitted(
    engine: Engine,
    spec: Spec,
    model: Model | None,
    file_bytes: int,
    features: Iterable[str],
    replicas: int,
    budget_bytes: int | None,
) -> Spec:
    """The spec with so many slots that it fits, where it would not with those that were chosen for it."""
    slots = spec.slots
    while slots > 1 and budget_bytes is not None:
        tried = replace(spec, slots=slots)
        if planned_bytes(engine, tried, model, file_bytes, features, replicas) <= budget_bytes:
            return tried
        slots //= 2
    return replace(spec, slots=slots)


def with_adapters(spec: Spec) -> Spec:
    """With the bytes of the adapters that its flags name; of one that is not there the engine will speak."""
    files = (file for file in adapters(spec.extra_args) if file.is_file())
    return replace(spec, adapter_bytes=sum(file.stat().st_size for file in files))


def size_of(weights: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if weights.is_dir():
        return sum(file.stat().st_size for file in weights.rglob("*") if file.is_file())
    return weights.stat().st_size
