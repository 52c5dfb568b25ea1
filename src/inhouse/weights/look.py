"""What a model is, of its files' headers, without loading its weights."""

from __future__ import annotations

from pathlib import Path

from inhouse.weights import gguf, gguf_model
from inhouse.weights.header import Header
from inhouse.weights.splits import parts


def read_file(path: Path) -> Header:
    """Of a GGUF file, with the other parts beside it if it is split. Raises `WeightsError`."""
    files = [path.with_name(part) for part in parts(path.name)]
    headers = [gguf.read_gguf(file) for file in files]
    return gguf_model.describe(headers, [file.stat().st_size for file in files], label=str(path))
