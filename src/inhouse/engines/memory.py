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
from inhouse.engines.llamacpp import adapters, fitted_to_gpus
from inhouse.engines.llamacpp_memory import Model
from inhouse.engines.room import Room

FLAT_BYTES = 1 << 30
"""Of an engine of which no more is known."""
_SOCKET = Address(socket="/engine.sock")


def planned(
    engine: Engine, spec: Spec, model: Model | None, file_bytes: int, features: Iterable[str], replicas: int
) -> Room:
    """All replicas together. `model` is what the header says, None where there is none to be read."""
    if engine.memory is not None and engine.argv is not None and model is not None:
        found = engine.memory(spec, engine.argv(spec, _SOCKET).argv, model, features)
        return Room(found.host.of(replicas), replicas * found.gpus.total)
    return Room(replicas * (FLAT_BYTES + (file_bytes if engine.cpu else 0)))


def fitted(
    engine: Engine,
    spec: Spec,
    model: Model | None,
    file_bytes: int,
    features: Iterable[str],
    replicas: int,
    budget: Room,
    *,
    slots_given: bool = False,
) -> Spec:
    """The spec with so many slots that it fits, where it would not with those that were chosen for it.

    Where one slot is still too many for GPUs, they get fewer layers, and it as many slots as then fit.
    """
    facts = (model, file_bytes, tuple(features), replicas)

    def fits(tried: Spec) -> bool:
        return budget.covers(planned(engine, tried, *facts))

    every = [spec.slots >> halvings for halvings in range(1 if slots_given else spec.slots.bit_length())]
    halved = [replace(spec, slots=slots) for slots in every]
    found = next((tried for tried in halved if fits(tried)), None)
    if found is None and spec.on_gpu and engine.argv is not None and model is not None:
        share = budget.gpu_bytes // replicas
        halved = [fitted_to_gpus(tried, engine.argv(tried, _SOCKET).argv, model, share) for tried in halved]
        found = next((tried for tried in halved if fits(tried)), None)
    return found or halved[-1]


def with_adapters(spec: Spec) -> Spec:
    """With the bytes of the adapters that its flags name; of one that is not there the engine will speak."""
    files = (file for file in adapters(spec.extra_args) if file.is_file())
    return replace(spec, adapter_bytes=sum(file.stat().st_size for file in files))


def size_of(weights: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if weights.is_dir():
        return sum(file.stat().st_size for file in weights.rglob("*") if file.is_file())
    return weights.stat().st_size
