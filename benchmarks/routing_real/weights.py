"""A model of random weights in a given shape: it says nothing, at the speed and with the memory of one that does.

The tokenizer and the chat template are those of the demo model in the package. Needs `gguf`, of the development set.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

_BLOCK = 32
"""Weights that share a scale in Q8_0: two bytes of scale, a byte each."""
_SCALE = 0.0003
_DEMO = "demo.gguf"


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a model of the llama family. Lengths in numbers; a head of keys and values for each head of queries."""

    width: int
    layers: int
    heads: int
    inner: int
    context_tokens: int

    @property
    def kv_bytes(self) -> int:
        """What one token takes in the cache of keys and values, in 16 bits."""
        return 2 * 2 * self.width * self.layers


def write(path: Path, shape: Shape, seed: int = 0) -> None:
    """Writes it as Q8_0."""
    demo = gguf.GGUFReader(str(importlib.resources.files("inhouse.weights") / _DEMO))
    writer = gguf.GGUFWriter(path, "llama")
    for name, field in demo.fields.items():
        if name.startswith("tokenizer."):
            inner = field.types[1] if len(field.types) > 1 else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    writer.add_name("random")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    vocabulary = len(demo.fields["tokenizer.ggml.tokens"].data)
    writer.add_vocab_size(vocabulary)
    writer.add_context_length(shape.context_tokens)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.inner)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    chance = np.random.default_rng(seed)
    for name, rows, columns in _tensors(shape, vocabulary):
        if rows:
            weights = _random(chance, rows, columns)
            writer.add_tensor(f"{name}.weight", weights, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(f"{name}.weight", np.ones(columns, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensors(shape: Shape, vocabulary: int) -> Iterator[tuple[str, int, int]]:
    """(name, rows, columns); no rows: a vector of ones. There is no `output`: it is tied to the embedding."""
    yield "token_embd", vocabulary, shape.width
    yield "output_norm", 0, shape.width
    for layer in range(shape.layers):
        block = f"blk.{layer}"
        yield f"{block}.attn_norm", 0, shape.width
        yield f"{block}.ffn_norm", 0, shape.width
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield f"{block}.{name}", shape.width, shape.width
        for name in ("ffn_gate", "ffn_up"):
            yield f"{block}.{name}", shape.inner, shape.width
        yield f"{block}.ffn_down", shape.width, shape.inner


def _random(chance: np.random.Generator, rows: int, columns: int) -> NDArray[np.uint8]:
    """Blocks of Q8_0 as bytes, a row of weights each."""
    blocks = rows * columns // _BLOCK
    scales = np.full((blocks, 1), _SCALE, np.float16).view(np.uint8)
    values = chance.integers(0, 256, (blocks, _BLOCK), np.uint8)
    return np.concatenate((scales, values), axis=1).reshape(rows, -1)
