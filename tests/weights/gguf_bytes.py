"""GGUF files written by hand, sound or broken on purpose. Layout: ggml/docs/gguf.md."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def value(given: object) -> bytes:
    """Type number and value, as `u32`, `f32`, `bool`, text or list by what is given; bytes stand for themselves."""
    match given:
        case bytes():
            return given
        case bool():
            return struct.pack("<I?", 7, given)
        case int():
            return struct.pack("<II", 4, given)
        case float():
            return struct.pack("<If", 6, given)
        case str():
            return struct.pack("<I", 8) + text(given)
        case [str(), *_]:
            return struct.pack("<IIQ", 9, 8, len(given)) + b"".join(map(text, given))
        case [*_]:
            return struct.pack("<IIQ", 9, 4, len(given)) + struct.pack(f"<{len(given)}I", *given)
    raise TypeError(type(given))


def tensor(name: str, dimensions: Sequence[int], *, kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, kind, offset)


LLAMA: dict[str, object] = {
    "general.architecture": "llama",
    "general.name": "Tiny",
    "general.file_type": 7,
    "llama.context_length": 512,
    "llama.block_count": 4,
    "llama.embedding_length": 64,
    "llama.attention.head_count": 8,
    "llama.rope.freq_base": 10000.0,
    "tokenizer.ggml.tokens": ["<s>", "a", "", "ü"],
    "tokenizer.ggml.token_type": [1, 1, 1, 1],
    "tokenizer.ggml.add_bos_token": True,
    "tokenizer.chat_template": "{{ messages }}",
}
TENSORS = (tensor("token_embd.weight", [64, 4], kind=8), tensor("output_norm.weight", [64], offset=288))


def header(
    metadata: Mapping[str, object] = LLAMA,
    tensors: Sequence[bytes] = TENSORS,
    *,
    version: int = 3,
    tensors_count: int | None = None,
    entries_count: int | None = None,
) -> bytes:
    return b"".join(
        (
            b"GGUF",
            struct.pack("<I", version),
            struct.pack("<Q", len(tensors) if tensors_count is None else tensors_count),
            struct.pack("<Q", len(metadata) if entries_count is None else entries_count),
            *(text(key) + value(given) for key, given in metadata.items()),
            *tensors,
        )
    )


def model(metadata: Mapping[str, object] = LLAMA, *, data_bytes: int = 272 + 16 + 256) -> bytes:
    """A whole file: the header, padding to 32 bytes and the tensors' data."""
    start = header(metadata)
    return start + bytes(-len(start) % 32) + bytes(data_bytes)
