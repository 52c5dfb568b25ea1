"""How much memory llama.cpp takes, from the header of the weights and the flags that it is started with. Pure.

What is predicted is what it holds once it has been used for everything: a full context in each slot, an embedding of a
whole pass, a prompt cache that is full. Right after the start it holds less.

The parts, as b11549 makes them (`src/llama-kv-cache*.cpp`, `llama-context.cpp`, `ggml-cpu/repack.cpp`):

- weights: mapped from the file, all of it;
- repacked: a copy of matrices in an order that the CPU likes better, beside the mapped ones;
- cache: keys and values, for each layer `cells × (row of keys + row of values)`; cells are the context of all slots, of
  layers with a window only window + pass for each slot, in multiples of 256;
- computing: the tensors of one pass. Five vectors and the masks live through it; at its widest there are besides three
  of the feed-forward's length, or the scores of all words;
- outputs: embeddings have the scores of all words written for each of their tokens;
- checkpoints: of layers with a window, what a slot needs to go back in its conversation;
- prompts: what other conversations have left, up to a limit;
- adapters: their files, read into memory (added by `llamacpp`);
- the program itself and the vocabulary. These two are measured (`benchmarks/memory`), not derived.

Not here: memory of GPUs (`llamacpp_gpu`), and models of which the header does not say what they keep.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Protocol

KIB, MIB = 1 << 10, 1 << 20
PAD_CELLS = 256
PROGRAM_BYTES = {"wheel": 34 * MIB, "binary": 16 * MIB}
"""Python with the wheel's library, or llama-server; with threads, buffers of connections, small allocations."""
WORD_BYTES = 340
"""Of the vocabulary: its text, its place in tables, its merge."""
CANDIDATE_BYTES = 12
"""A word's score while a token is chosen, for each slot."""
SLOT_BYTES = 384 * KIB
CHECKPOINT_STEP_TOKENS = 8192
"""Checkpoints that are closer make room for the next one before their number is full."""
CACHE_KINDS = {"f32": (1, 4), "f16": (1, 2), "bf16": (1, 2), "q8_0": (32, 34), "q5_1": (32, 24), "q5_0": (32, 22),
               "q4_1": (32, 20), "q4_0": (32, 18), "iq4_nl": (32, 18)}  # fmt: skip
"""Elements of a block, and its bytes."""


class Layer(Protocol):
    @property
    def heads(self) -> int: ...
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


class Matrix(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def bytes(self) -> int: ...


class Model(Protocol):
    """What a header says of a model, as far as memory is concerned."""

    @property
    def attention(self) -> Sequence[Layer] | None: ...
    @property
    def embedding(self) -> int | None: ...
    @property
    def feed_forward(self) -> int | None: ...
    @property
    def expert_feed_forward(self) -> int | None: ...
    @property
    def experts_used(self) -> int | None: ...
    @property
    def vocabulary(self) -> int | None: ...
    @property
    def tensors(self) -> Sequence[Matrix]: ...


@dataclass(frozen=True, slots=True)
class Flags:
    """The flags that decide how much memory is taken, with llama-server's defaults."""

    ctx_size: int = 4096
    """Tokens of all slots together."""
    parallel: int = 1
    batch_size: int = 2048
    ubatch_size: int = 512
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    kv_unified: bool = False
    swa_full: bool = False
    mmap: bool = True
    repack: bool = True
    embeddings: bool = False
    cache_ram_mib: int = 8192
    ctx_checkpoints: int = 32
    flash_attn: bool = True


_SHORT = {
    "-c": "--ctx-size", "-np": "--parallel", "-b": "--batch-size", "-ub": "--ubatch-size", "-ctk": "--cache-type-k",
    "-ctv": "--cache-type-v", "-kvu": "--kv-unified", "-cram": "--cache-ram", "-ctxcp": "--ctx-checkpoints",
    "--swa-checkpoints": "--ctx-checkpoints", "-fa": "--flash-attn", "--embedding": "--embeddings",
    "-nr": "--no-repack", "-lm": "--load-mode",
}  # fmt: skip
_NUMBERS = {
    "--ctx-size": "ctx_size", "--parallel": "parallel", "--batch-size": "batch_size", "--ubatch-size": "ubatch_size",
    "--cache-ram": "cache_ram_mib", "--ctx-checkpoints": "ctx_checkpoints",
}  # fmt: skip
_SWITCHES = {
    "--kv-unified": ("kv_unified", True),
    "--no-kv-unified": ("kv_unified", False),
    "--swa-full": ("swa_full", True),
    "--no-mmap": ("mmap", False),
    "--no-repack": ("repack", False),
    "--embeddings": ("embeddings", True),
}


def read_flags(argv: Iterable[str]) -> Flags:
    """From the very command that starts it; the last of a flag counts, and what is not known here is passed over."""
    found: dict[str, int | bool | str] = {}
    words = [*argv, ""]
    for word, value in pairwise(words):
        flag = _SHORT.get(word, word)
        if flag in _SWITCHES:
            name, switched = _SWITCHES[flag]
            found[name] = switched
        elif flag in _NUMBERS and value.lstrip("-").isdecimal():
            found[_NUMBERS[flag]] = int(value)
        elif flag in ("--cache-type-k", "--cache-type-v") and value.lower() in CACHE_KINDS:
            found[flag[2:].replace("-", "_")] = value.lower()
        elif flag == "--flash-attn":
            found["flash_attn"] = value != "off"
        elif flag == "--load-mode":
            found["mmap"] = value != "none"
    return Flags(**found)  # type: ignore[arg-type]  # each name has the type that its flag was read as


@dataclass(frozen=True, slots=True)
class Parts:
    """Bytes of one engine process. `weights` are shared by all processes that map the same file."""

    weights: int = 0
    repacked: int = 0
    cache: int = 0
    computing: int = 0
    outputs: int = 0
    checkpoints: int = 0
    prompts: int = 0
    adapters: int = 0
    program: int = 0

    @property
    def total(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))

    def of(self, replicas: int) -> int:
        """What so many processes take that map the same file."""
        return self.weights + replicas * (self.total - self.weights)


def predict(model: Model, flags: Flags, features: Iterable[str] = (), *, wheel: bool = True) -> Parts | None:
    """What one process takes; None where the header does not say what the model keeps of each token.

    `features` are the CPU's, by the words of `cpu.FEATURES`. The wheel is built for AVX2 whatever else there is.
    """
    if model.attention is None:
        return None
    has = frozenset(features) & ({"AVX2", "NEON", "dot product", "int8 matrices"} if wheel else frozenset(features))
    embedding, words = model.embedding or 0, model.vocabulary or 0
    ubatch, every_cells = ubatch_tokens(flags), _cells(flags)
    windowed, seeing_all = _kinds(model.attention)
    window, window_cells = _window(windowed, flags)
    outputs = (
        max(flags.parallel, min(ubatch, every_cells) if flags.embeddings else 1)
        * (words + embedding * flags.embeddings)
        * 4
    )
    a_checkpoint = 0 if flags.swa_full else min(window, every_cells) * _rows(windowed, flags)
    places = flags.ctx_checkpoints - (every_cells <= CHECKPOINT_STEP_TOKENS)
    copies = [repacked_bytes(matrix, has) if flags.repack else 0 for matrix in model.tensors]
    words_copied = _words_copied(model.tensors, has) if flags.repack else 0
    return Parts(
        weights=kept_bytes(model.tensors, copies, mapped=flags.mmap),
        repacked=sum(copies) + words_copied,
        cache=cache_bytes(model.attention, flags),
        computing=_computing(model, flags, ubatch, every_cells if seeing_all else 0, window_cells),
        outputs=outputs,
        checkpoints=a_checkpoint * max(0, places) * flags.parallel,
        prompts=max(0, flags.cache_ram_mib) * MIB,
        program=PROGRAM_BYTES["wheel" if wheel else "binary"]
        + words * (WORD_BYTES + CANDIDATE_BYTES * flags.parallel)
        + SLOT_BYTES * flags.parallel,
    )


def cache_bytes(layers: Iterable[Layer], flags: Flags) -> int:
    """Keys and values of these layers, for all slots."""
    windowed, seeing_all = _kinds(layers)
    streams = 1 if flags.kv_unified else flags.parallel
    _, window_cells = _window(windowed, flags)
    return streams * (_cells(flags) * _rows(seeing_all, flags) + window_cells * _rows(windowed, flags))


def _kinds(layers: Iterable[Layer]) -> tuple[list[Layer], list[Layer]]:
    """Those with a window, and those that see everything."""
    keeping = [layer for layer in layers if layer.keeps_kv]
    return [one for one in keeping if one.window_tokens], [one for one in keeping if not one.window_tokens]


def ubatch_tokens(flags: Flags) -> int:
    return min(flags.ubatch_size, flags.batch_size, _cells(flags) * (1 if flags.kv_unified else flags.parallel))


def _window(windowed: Sequence[Layer], flags: Flags) -> tuple[int, int]:
    """The widest window, and the cells that a layer with one keeps in each stream."""
    window = max((layer.window_tokens or 0 for layer in windowed), default=0)
    return window, _window_cells(flags, window, ubatch_tokens(flags)) if windowed else 0


def _words_copied(tensors: Sequence[Matrix], features: frozenset[str]) -> int:
    """Of the vocabulary's matrix, where it is used at both ends: looked up as it lies, multiplied by as a copy."""
    if any(matrix.name == "output.weight" for matrix in tensors):
        return 0
    return sum(_copied(matrix, features) for matrix in tensors if matrix.name == "token_embd.weight")


def kept_bytes(tensors: Sequence[Matrix], copies: Sequence[int], *, mapped: bool) -> int:
    """What is held of the file. Mapped, all from the first matrix that is used as it lies there to the last one."""
    if not mapped:
        return sum(matrix.bytes for matrix, copy in zip(tensors, copies, strict=True) if not copy)
    used = [at for at, copy in enumerate(copies) if not copy]
    return sum(matrix.bytes for matrix in tensors[used[0] : used[-1] + 1]) if used else 0


def _cells(flags: Flags) -> int:
    """Tokens that a layer without a window keeps, in each stream."""
    total = _padded(flags.ctx_size)
    return total if flags.kv_unified else _padded(total // max(1, flags.parallel))


def _window_cells(flags: Flags, window: int, ubatch: int) -> int:
    every = _cells(flags)
    if flags.swa_full:
        return every
    return _padded(min(every, window * (flags.parallel if flags.kv_unified else 1) + ubatch))


def _padded(tokens: int) -> int:
    return -(-tokens // PAD_CELLS) * PAD_CELLS


def _rows(layers: Iterable[Layer], flags: Flags) -> int:
    """Bytes of one token's keys and values, in all of these layers."""
    return sum(
        _row(flags.cache_type_k, layer.kv_heads * layer.key_length)
        + _row(flags.cache_type_v, layer.kv_heads * layer.value_length)
        for layer in layers
    )


def _row(kind: str, elements: int) -> int:
    block, size = CACHE_KINDS[kind]
    return -(-elements // block) * size


def _computing(model: Model, flags: Flags, ubatch: int, every_cells: int, window_cells: int) -> int:
    embedding, words = model.embedding or 0, model.vocabulary or 0
    masks = _masks(flags, ubatch, every_cells + window_cells)
    lasting = 5 * embedding * ubatch * 4
    dense = model.feed_forward or 0
    chosen = (model.expert_feed_forward or dense) * (model.experts_used or 0)
    scored = ubatch if flags.embeddings else flags.parallel
    widest = max(3 * max(dense if not model.experts_used else 0, chosen) * ubatch, words * scored)
    layers = model.attention or ()
    attending = 2 * max(
        (layer.heads * layer.key_length + layer.kv_heads * layer.value_length for layer in layers), default=0
    )
    if not flags.flash_attn:
        attending += every_cells * max((layer.heads for layer in layers), default=0)
    return masks + lasting + max(widest, attending * ubatch) * 4


def inputs_bytes(model: Model, flags: Flags) -> int:
    """What a pass begins with, where the machine hands it over to GPUs: masks, and vectors of its words."""
    windowed, seeing_all = _kinds(model.attention or ())
    cells = (_cells(flags) if seeing_all else 0) + _window(windowed, flags)[1]
    ubatch = ubatch_tokens(flags)
    return _masks(flags, ubatch, cells) + 4 * (model.embedding or 0) * ubatch * 4


def _masks(flags: Flags, ubatch: int, cells: int) -> int:
    return cells * ubatch * (2 if flags.flash_attn else 4)


_AVX2 = frozenset(("Q4_0", "Q4_K", "IQ4_NL", "MXFP4"))
_AMX = {"F16": 0, "Q4_0": 0, "Q4_1": 0, "Q8_0": 4, "Q4_K": 4, "Q5_K": 4, "Q6_K": 0, "IQ4_XS": 2}
"""Kinds that AMX takes, and what a block of them grows by."""
_INT8_MATRICES = {"Q4_0": 4, "Q4_K": 8, "Q5_K": 8, "Q6_K": 8, "Q8_0": 4}
_DOT_PRODUCT = {**_INT8_MATRICES, "IQ4_NL": 4, "MXFP4": 4}
_BLOCKS = {"Q8_0": 32, "Q4_K": 256, "Q5_K": 256, "IQ4_XS": 256}
LOOKED_UP = ("token_embd.", "per_layer_token_embd.", "position_embd.", "token_types.")
"""Tables of which single rows are taken: they stay as they are."""


def repacked_bytes(matrix: Matrix, features: frozenset[str]) -> int:
    """What the copy of a matrix takes that the CPU multiplies by; 0 where it is used as it lies in the file."""
    if not matrix.name.endswith(".weight") or matrix.name.startswith(LOOKED_UP):
        return 0
    return _copied(matrix, features)


def _copied(matrix: Matrix, features: frozenset[str]) -> int:
    if len(matrix.shape) not in (2, 3):
        return 0
    rows = matrix.shape[1]
    if "AMX" in features and matrix.kind in _AMX and len(matrix.shape) == 2:
        row_blocks = matrix.shape[0] // _BLOCKS.get(matrix.kind, 32)
        return matrix.bytes + rows * row_blocks * _AMX[matrix.kind]
    if "AVX2" in features:
        multiple = 8 if matrix.kind in _AVX2 or (matrix.kind == "Q2_K" and "AVX-512" in features) else 0
    elif "int8 matrices" in features and matrix.kind in _INT8_MATRICES:
        multiple = _INT8_MATRICES[matrix.kind]
    elif "dot product" in features:
        multiple = _DOT_PRODUCT.get(matrix.kind, 0)
    else:
        multiple = 0
    return matrix.bytes if multiple and rows % multiple == 0 else 0
