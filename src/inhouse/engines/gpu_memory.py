"""How much memory an engine takes on each of its GPUs. Pure.

The parts, as vLLM and SGLang take them; TGI and TensorRT-LLM differ in the constants (`OnGpu`):

- weights: as the files have them, split evenly; less where they are quantised while they are loaded;
- computing: the vectors of one pass of `pass_tokens`, and the scores of all words for each slot;
- fixed: CUDA's own context, libraries, graphs;
- cache: whatever is left of `gpu_share`. It must hold one whole context, or the engine refuses to start; what it holds
  beyond that decides how many of the slots really run at once.

A key or value takes two bytes; heads are split over the GPUs, and repeated where there are fewer heads than GPUs. None
of this was measured: it is meant to tell what cannot work before it is tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

GIB = 1 << 30
_VALUE_BYTES = 2
_SCORE_BYTES = 4
_LIVE_VECTORS = 6
"""Of a hidden vector's length, alive at once in a pass."""
SHARE_MAX = 0.92
"""Beyond it nothing is left for what is in nobody's account."""
_LOADED_SHARE = {"bitsandbytes": 0.28, "fp8": 0.52}
"""What is left of 16-bit weights; awq and gptq have their files small already."""


class Layer(Protocol):
    @property
    def kv_heads(self) -> int: ...
    @property
    def key_length(self) -> int: ...
    @property
    def value_length(self) -> int: ...
    @property
    def window_tokens(self) -> int | None: ...
    @property
    def keeps_kv(self) -> bool: ...


class Model(Protocol):
    """What a header says of a model, as far as a GPU's memory is concerned."""

    @property
    def attention(self) -> Sequence[Layer] | None: ...
    @property
    def embedding(self) -> int | None: ...
    @property
    def feed_forward(self) -> int | None: ...
    @property
    def vocabulary(self) -> int | None: ...
    @property
    def quantisation(self) -> str | None: ...
    @property
    def weights_bytes(self) -> int: ...


class Asked(Protocol):
    """What of a spec matters here."""

    @property
    def context_tokens(self) -> int: ...
    @property
    def slots(self) -> int: ...
    @property
    def gpus(self) -> int: ...
    @property
    def gpu_share(self) -> float: ...
    @property
    def quantization(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class OnGpu:
    """What one engine differs in."""

    pass_tokens: int = 8192
    fixed_bytes: int = 3 * GIB // 2


@dataclass(frozen=True, slots=True)
class Parts:
    """Bytes on one GPU."""

    weights: int
    computing: int
    fixed: int
    context: int | None
    """The cache of one whole context; None where the header does not say what a layer keeps."""

    @property
    def least(self) -> int:
        """Without which it does not start."""
        return self.weights + self.computing + self.fixed + (self.context or 0)


def parts(engine: OnGpu, spec: Asked, model: Model) -> Parts:
    """Of the spec on each of its GPUs."""
    share = _LOADED_SHARE.get(spec.quantization or "", 1.0) if model.quantisation in _WHOLE else 1.0
    hidden, wide = model.embedding or 0, (model.feed_forward or 0) // spec.gpus
    scores = spec.slots * (model.vocabulary or 0) * _SCORE_BYTES
    return Parts(
        weights=int(model.weights_bytes * share / spec.gpus),
        computing=engine.pass_tokens * (_LIVE_VECTORS * hidden + 2 * wide) * _VALUE_BYTES + scores,
        fixed=engine.fixed_bytes,
        context=None if model.attention is None else cache_bytes(model.attention, spec.context_tokens, spec.gpus),
    )


def cache_bytes(layers: Sequence[Layer], tokens: int, gpus: int) -> int:
    """What keys and values of so many tokens of one request take on each GPU."""
    found = 0
    for layer in layers:
        if layer.keeps_kv:
            kept = tokens if layer.window_tokens is None else min(tokens, layer.window_tokens)
            found += kept * -(-layer.kv_heads // gpus) * (layer.key_length + layer.value_length) * _VALUE_BYTES
    return found


def misfit(engine: OnGpu, spec: Asked, model: Model, cards: Sequence[int | None]) -> str:
    """Why it cannot run on GPUs of these sizes, with the ways out; "" where it can, or where no GPU was seen."""
    if not cards:
        return ""
    if len(cards) < spec.gpus:
        return f"`gpus` is {spec.gpus}, and engines see {len(cards)} here"
    sizes = sorted((size for size in cards if size is not None), reverse=True)[: spec.gpus]
    need, share = parts(engine, spec, model).least, min(spec.gpu_share, SHARE_MAX)
    if not sizes or need <= sizes[-1] * share:
        return ""
    may = sizes[-1] * share
    return (
        f"it needs {_shown(need)} on each GPU, and may take {_shown(may)} of {_shown(sizes[-1])}: "
        "lower the model's `context`, take weights that are quantised, or split it over more `gpus`"
    )


def _shown(size: float) -> str:
    return f"{size / GIB:.1f} GiB"


_WHOLE = (None, "BF16", "F16", "F32")
