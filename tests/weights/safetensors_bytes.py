"""Safetensors files written by hand, sound or broken on purpose, and a small model's folder."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

BYTES = {"BF16": 2, "F32": 4, "I32": 4, "U8": 1}


def header(entries: Mapping[str, object], *, length: int | None = None) -> bytes:
    raw = json.dumps(entries).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw


def shard(tensors: Mapping[str, tuple[str, list[int]]], *, metadata: Mapping[str, str] | None = None) -> bytes:
    """A whole file; the data are zeros."""
    entries: dict[str, object] = {"__metadata__": metadata or {"format": "pt"}}
    end = 0
    for name, (kind, shape) in tensors.items():
        size = BYTES[kind]
        for length in shape:
            size *= length
        entries[name] = {"dtype": kind, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    return header(entries) + bytes(end)


CONFIG: dict[str, object] = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 32,
    "max_position_embeddings": 2048,
    "sliding_window": None,
}
SHARDS: tuple[dict[str, tuple[str, list[int]]], ...] = (
    {
        "model.embed_tokens.weight": ("BF16", [32, 64]),
        "model.layers.0.self_attn.k_proj.weight": ("BF16", [32, 64]),
        "model.layers.0.input_layernorm.weight": ("F32", [64]),
    },
    {"model.layers.1.self_attn.k_proj.weight": ("BF16", [32, 64])},
)


def files(config: Mapping[str, object] = CONFIG) -> dict[str, bytes]:
    """A repository in two shards, with what people lay beside them."""
    return {
        "README.md": b"---\nlicense: other\nlicense_name: tiny-terms\nlicense_link: https://example.com/t\n---\n",
        "config.json": json.dumps(config).encode(),
        "tokenizer_config.json": json.dumps({"tokenizer_class": "Qwen2Tokenizer", "chat_template": "{{ m }}"}).encode(),
        "model-00001-of-00002.safetensors": shard(SHARDS[0]),
        "model-00002-of-00002.safetensors": shard(SHARDS[1]),
    }


def write(folder: Path, contents: Mapping[str, bytes]) -> Path:
    for name, raw in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
    return folder
