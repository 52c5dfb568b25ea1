"""Models of random weights in the shapes that decide how much memory an engine takes. They say nothing sensible.

Blocks of quantised weights are random bytes with scales of a sane size, so that a few hundred megabytes take a second
and no quantiser is needed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind

Recipe = Literal["f16", "q8_0", "q4_0", "q4_0_pure", "q4_k_m"]

_DEVIATION = 0.02
_SCALES = {Kind.Q8_0: 73.6, Kind.Q4_0: 4.6, Kind.Q4_K: 7.5 * 18, Kind.Q6_K: 64 * 18.5}
"""How far a random block's values spread, in scales."""
_RECIPES: dict[Recipe, tuple[Kind, Kind, gguf.LlamaFileType]] = {
    "f16": (Kind.F16, Kind.F16, gguf.LlamaFileType.MOSTLY_F16),
    "q8_0": (Kind.Q8_0, Kind.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
    "q4_0": (Kind.Q4_0, Kind.Q8_0, gguf.LlamaFileType.MOSTLY_Q4_0),
    "q4_0_pure": (Kind.Q4_0, Kind.Q4_0, gguf.LlamaFileType.MOSTLY_Q4_0),
    "q4_k_m": (Kind.Q4_K, Kind.Q6_K, gguf.LlamaFileType.MOSTLY_Q4_K_M),
}
"""Most matrices, and those that are quantised less: the vocabulary and, of some recipes, values and the way down."""
_CHAT = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """A model; `window` of None sees everything in every layer."""

    name: str
    architecture: Literal["llama", "gemma3"] = "llama"
    layers: int = 8
    embedding: int = 1024
    heads: int = 16
    kv_heads: int = 16
    head_length: int = 64
    feed_forward: int = 2816
    vocabulary: int = 8192
    window: int | None = None
    experts: int = 0
    tied: bool = True
    """The vocabulary's matrix is used at both ends."""
    recipe: Recipe = "q8_0"
    context: int = 32768


def write(shape: Shape, path: Path) -> None:
    """Writes the model as a GGUF file."""
    writer = gguf.GGUFWriter(path, shape.architecture)
    writer.add_name(f"random {shape.name}")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.embedding)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_length)
    writer.add_value_length(shape.head_length)
    writer.add_rope_dimension_count(shape.head_length)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(500_000.0)
    if shape.window:
        writer.add_sliding_window(shape.window)
    if shape.experts:
        writer.add_expert_count(shape.experts)
        writer.add_expert_used_count(2)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_file_type(_RECIPES[shape.recipe][2])
    _add_words(writer, shape.vocabulary)
    rng = np.random.default_rng(0)
    for name, dims, finer in _tensors(shape):
        if len(dims) == 1:
            writer.add_tensor(f"{name}.weight", np.ones(dims, np.float32))
        else:
            _add_matrix(writer, f"{name}.weight", dims, _RECIPES[shape.recipe][finer], rng)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensors(shape: Shape) -> Iterator[tuple[str, tuple[int, ...], bool]]:
    """Name, dimensions as numpy has them, and whether it is one of those that are quantised less."""
    wide = shape.heads * shape.head_length
    narrow = shape.kv_heads * shape.head_length
    yield "token_embd", (shape.vocabulary, shape.embedding), True
    yield "output_norm", (shape.embedding,), False
    if not shape.tied:
        yield "output", (shape.vocabulary, shape.embedding), True
    gemma = shape.architecture == "gemma3"
    for layer in range(shape.layers):
        at = f"blk.{layer}."
        finer = layer % 3 == 0
        for norm in ("attn_norm", "ffn_norm", *(("post_attention_norm", "post_ffw_norm") if gemma else ())):
            yield at + norm, (shape.embedding,), False
        for norm in ("attn_q_norm", "attn_k_norm") if gemma else ():
            yield at + norm, (shape.head_length,), False
        yield at + "attn_q", (wide, shape.embedding), False
        yield at + "attn_k", (narrow, shape.embedding), False
        yield at + "attn_v", (narrow, shape.embedding), finer and shape.recipe == "q4_k_m"
        yield at + "attn_output", (shape.embedding, wide), False
        stack, ending = ((shape.experts,), "_exps") if shape.experts else ((), "")
        if shape.experts:
            yield at + "ffn_gate_inp", (shape.experts, shape.embedding), False
        yield at + f"ffn_gate{ending}", (*stack, shape.feed_forward, shape.embedding), False
        yield at + f"ffn_up{ending}", (*stack, shape.feed_forward, shape.embedding), False
        yield (
            at + f"ffn_down{ending}",
            (*stack, shape.embedding, shape.feed_forward),
            finer and shape.recipe == "q4_k_m",
        )


def _add_matrix(
    writer: gguf.GGUFWriter, name: str, dims: tuple[int, ...], kind: Kind, rng: np.random.Generator
) -> None:
    if "ffn_gate_inp" in name:
        writer.add_tensor(name, rng.normal(0, _DEVIATION, dims).astype(np.float32))
        return
    if kind is Kind.F16:
        writer.add_tensor(name, (rng.random(dims, np.float32) * 2 * _DEVIATION - _DEVIATION).astype(np.float16))
        return
    block, size = gguf.GGML_QUANT_SIZES[kind]
    count = int(np.prod(dims)) // block
    data = rng.integers(0, 256, (count, size), dtype=np.uint8)
    scales = np.full((count, 1), _DEVIATION / _SCALES[kind], np.float16).view(np.uint8)
    if kind is Kind.Q6_K:
        data[:, 192:208], data[:, 208:210] = 64, scales
    else:
        data[:, :2] = scales
    if kind is Kind.Q4_K:
        data[:, 2:4] = (scales.view(np.float16) * np.float16(7.5)).view(np.uint8)
    writer.add_tensor(name, data.reshape(*dims[:-1], dims[-1] // block * size), raw_dtype=kind)


def _add_words(writer: gguf.GGUFWriter, count: int) -> None:
    """Words of letters that merges lead to, as a byte-level tokenizer has them, so that text becomes about as many
    tokens as it has words."""
    letters = [chr(code) for code in range(33, 127)] + [chr(code) for code in range(161, 256) if code != 173]
    letters += [chr(code) for code in range(256, 256 + 256 - len(letters))]
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    words, merges = list(letters), []
    known = set(words)
    pairs = (
        "".join(pair) for size in (2, 3, 4) for pair in itertools.product("etaoinshrdlucmfwypvbgkqjxz", repeat=size)
    )
    for word in pairs:
        if len(words) + len(special) >= count:
            break
        if word not in known and word[:-1] in known:
            known.add(word)
            words.append(word)
            merges.append(f"{word[:-1]} {word[-1]}")
    kinds = [gguf.TokenType.NORMAL] * len(words) + [gguf.TokenType.CONTROL] * len(special)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(words + special)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(len(words))
    writer.add_eos_token_id(len(words) + 2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(_CHAT)
