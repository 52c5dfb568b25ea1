"""What of llama.cpp's memory lies on GPUs, and how many of a model's layers they hold. Pure.

As b11549 does it (`src/llama-model.cpp`): of the layers and, as one more behind them, the matrix that scores words, the
last `--n-gpu-layers` go to the GPUs, all where that is not said. A layer's part of the cache lies where it lies. What
looks words up stays with the CPU; where the same matrix scores words, the GPUs have a copy. Beside a GPU the CPU
repacks nothing, and even without a layer there the GPUs compute long prompts.

`FIXED_BYTES` and those below are measured (`benchmarks/memory --gpu`, an H200 with CUDA 13.0), not derived: CUDA takes
them whatever the model. Several GPUs are taken as one: llama.cpp gives each a share of the
layers, and each has the tensors of a pass and the fixed part.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from inhouse.engines.llamacpp_memory import (
    LOOKED_UP,
    MIB,
    Flags,
    Matrix,
    Model,
    Parts,
    cache_bytes,
    inputs_bytes,
    kept_bytes,
    predict,
)

FIXED_BYTES = 612 * MIB
"""On each GPU: CUDA's context, kernels, buffers for quantised passes."""
WHOLE_BYTES = 98 * MIB
"""More of it where cuBLAS multiplies: matrices of 16 bits, experts."""
COPIED_BYTES = 32 * MIB
"""More of it where layers stay with the CPU, and are copied there piece by piece for long prompts."""
HOST_BYTES, HOST_WHOLE_BYTES = 344 * MIB, 100 * MIB
"""The same of the machine's memory: mostly CUDA's libraries."""
_LAYER = re.compile(r"blk\.(\d+)\.")
_LAYERS_FLAGS, _DEVICE_FLAGS = ("-ngl", "--gpu-layers", "--n-gpu-layers"), ("-dev", "--device")
_PLACES_FLAGS = frozenset(
    ("-cmoe", "--cpu-moe", "-ncmoe", "--n-cpu-moe", "-ot", "--override-tensor", "-nkvo", "--no-kv-offload", "-sm",
     "--split-mode", "-ts", "--tensor-split", *_LAYERS_FLAGS)
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class OnGpus:
    """Bytes on all GPUs together, of one process."""

    weights: int = 0
    cache: int = 0
    computing: int = 0
    fixed: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.computing + self.fixed


@dataclass(frozen=True, slots=True)
class Split:
    """One process."""

    host: Parts
    gpus: OnGpus


def layers_told(args: Sequence[str]) -> int | None:
    """What flags of llama-server say of the layers on GPUs; None where they leave it to it, which takes all."""
    found = None
    for flag, value in pairwise((*args, "")):
        if flag in _LAYERS_FLAGS:
            found = int(value) if value.isdecimal() else None
    return found


def places_told(args: Sequence[str]) -> bool:
    """Whether flags of llama-server say what of the model lies where: whoever does is believed."""
    return not _PLACES_FLAGS.isdisjoint(args)


def devices_told(args: Sequence[str]) -> tuple[str, ...] | None:
    """By llama.cpp's names, as in `CUDA0`; none where it is to use none. None where flags leave it all."""
    found = None
    for flag, value in pairwise((*args, "")):
        if flag in _DEVICE_FLAGS:
            found = () if value == "none" else tuple(value.split(","))
    return found


def split(model: Model, flags: Flags, layers: int | None, gpus: int = 1) -> Split | None:
    """Where one process has what, with so many of the layers on GPUs (None: all).

    None where the header does not say what the model keeps of each token.
    """
    whole = predict(model, replace(flags, repack=False), wheel=False)
    if whole is None or model.attention is None:
        return None
    every = layers_of(model)
    there = every + 1 if layers is None else min(layers, every + 1)
    first = every + 1 - there  # so many of the first stay with the CPU
    moved = [matrix.bytes if _lies_at(matrix, every) >= first else 0 for matrix in model.tensors]
    tied = 0
    if there and not any(matrix.name == "output.weight" for matrix in model.tensors):
        tied = sum(matrix.bytes for matrix in model.tensors if matrix.name == "token_embd.weight")
    cache = cache_bytes(model.attention[:first], flags)
    through_cublas = there > 0 and any(_is_for_cublas(matrix) for matrix in model.tensors)
    return Split(
        host=replace(
            whole,
            weights=kept_bytes(model.tensors, moved, mapped=flags.mmap),
            cache=cache,
            computing=inputs_bytes(model, flags),
            program=whole.program + HOST_BYTES + HOST_WHOLE_BYTES * through_cublas,
        ),
        gpus=OnGpus(
            weights=sum(moved) + tied,
            cache=cache_bytes(model.attention, flags) - cache,
            computing=whole.computing * gpus,
            fixed=(FIXED_BYTES + WHOLE_BYTES * through_cublas + COPIED_BYTES * (first > 0)) * gpus,
        ),
    )


def layers_of(model: Model) -> int:
    """By the names of its matrices, whatever its layers keep."""
    return 1 + max((int(found[1]) for matrix in model.tensors if (found := _LAYER.match(matrix.name))), default=-1)


def layers_that_fit(model: Model, flags: Flags, budget_bytes: int, gpus: int = 1) -> int | None:
    """The most of a model's layers that GPUs hold; None for all of them."""
    every = layers_of(model) + 1
    tried: tuple[int | None, ...] = (None, *range(every - 1, 0, -1))
    for layers in tried:
        found = split(model, flags, layers, gpus)
        if found is None or found.gpus.total <= budget_bytes:
            return layers
    return 0


def _is_for_cublas(matrix: Matrix) -> bool:
    return len(matrix.shape) == 3 or (len(matrix.shape) == 2 and matrix.kind in ("F16", "BF16", "F32"))


def _lies_at(matrix: Matrix, layers: int) -> int:
    """The number of the layer that it belongs to; -1 for what looks words up."""
    if matrix.name.startswith(LOOKED_UP):
        return -1
    found = _LAYER.match(matrix.name)
    return layers if found is None else int(found[1])
