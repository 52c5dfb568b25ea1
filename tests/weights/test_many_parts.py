"""Hostile models of many small files: each is within the limits of one file, all together are refused in time."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.weights import gguf_bytes, safetensors_bytes

from inhouse.errors import WeightsError
from inhouse.weights import folder_model, gguf, safetensors
from inhouse.weights.folders import Folder
from inhouse.weights.header import Header
from inhouse.weights.look import read_file

FILES = 1_000
MIB = 2**20


class Repeated:
    """A folder of files that are all the same but for `config.json`, and how many of them were opened."""

    def __init__(self, names: str, raw: bytes) -> None:
        self.opened = 0
        self._raw = raw
        config = b'{"model_type":"llama"}'
        parts = {names.format(at, FILES): len(raw) for at in range(1, FILES + 1)}
        self._config = config
        self.folder = Folder("m", "m", {**parts, "config.json": len(config)}, self._open)

    @contextmanager
    def _open(self, name: str) -> Iterator[io.BytesIO]:
        self.opened += 1
        yield io.BytesIO(self._config if name == "config.json" else self._raw)


def refused(told: str, read: Callable[[], Header], bytes_max: int) -> None:
    """It ends in an error that tells the limit, and takes no more memory meanwhile."""
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError, match=f"with it the model claims {told} are accepted"):
            read()
        assert tracemalloc.get_traced_memory()[1] < bytes_max
    finally:
        tracemalloc.stop()


NUMBERS = struct.pack("<IIQ", 9, 10, 1024) + struct.pack("<1024Q", *range(2**40, 2**40 + 1024))
GGUF: dict[str, tuple[bytes, str, int]] = {
    "tensors": (
        gguf_bytes.header({}, [gguf_bytes.tensor(f"blk.{at}", [2**33, 0, 2**35, 2**34]) for at in range(2_000)]),
        "102000 tensors, at most 100000",
        51,
    ),
    "names": (
        gguf_bytes.header({}, [gguf_bytes.tensor(f"{at:0512}", [0]) for at in range(600)]),
        "16896000 bytes of tensors' names, at most 16777216",
        55,
    ),
    "texts": (gguf_bytes.header({"a": "x" * MIB}, ()), "16777232 bytes of metadata, at most 16777216", 16),
    "lists": (
        gguf_bytes.header({f"a.{at}": NUMBERS for at in range(20)}, ()),
        r"\d+ bytes of metadata, at most 16777216",
        21,
    ),
    "entries": (
        gguf_bytes.header({f"{at}": True for at in range(4_000)}, ()),
        "68000 metadata entries, at most 65536",
        17,
    ),
}


@pytest.mark.parametrize("kind", GGUF)
def test_a_split_model_has_the_limits_of_one_file(kind: str) -> None:
    """No part is opened after the one that passes a limit."""
    raw, told, opened = GGUF[kind]
    model = Repeated("m-{:05}-of-{:05}.gguf", raw)
    refused(told, lambda: folder_model.gguf_file(model.folder, "m-00001-of-01000.gguf"), 64 * MIB)
    assert model.opened == opened


def test_a_split_model_on_this_machine_has_the_limits_of_one_file(tmp_path: Path) -> None:
    """What a gateway reads before it serves it."""
    raw, told, _ = GGUF["entries"]
    first = tmp_path / f"m-00001-of-{FILES:05}.gguf"
    first.write_bytes(raw + bytes(32))
    for at in range(2, FILES + 1):
        os.link(first, tmp_path / f"m-{at:05}-of-{FILES:05}.gguf")
    refused(told, lambda: read_file(first), 64 * MIB)


def tensors(count: int, name: str, shape: list[int]) -> bytes:
    entry = {"dtype": "U8", "shape": shape, "data_offsets": [0, 0]}
    return safetensors_bytes.header({name.format(at): entry for at in range(count)})


def test_shards_have_a_limit_of_tensors_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are not read: neither what they claim nor what is kept of them."""
    monkeypatch.setattr(safetensors, "MODEL_TENSORS_MAX", 50_000)
    model = Repeated("model-{:05}-of-{:05}.safetensors", tensors(1_000, "t{}", [0, *range(2**40, 2**40 + 15)]))
    refused(r"\d+ tensors, at most 50000", lambda: folder_model.safetensors_model(model.folder), 80 * MIB)
    assert model.opened < 51 + 2 + 2 * folder_model.SHARDS_AT_ONCE


def test_shards_have_a_limit_of_json_together() -> None:
    """Long names, of letters that take four bytes each in memory."""
    model = Repeated("model-{:05}-of-{:05}.safetensors", tensors(1_700, "{:0511}\U0001f600", [0]))
    limit = safetensors.MODEL_JSON_BYTES_MAX
    refused(rf"\d+ bytes of JSON, at most {limit}", lambda: folder_model.safetensors_model(model.folder), 5 * limit)
    assert model.opened < 100


def test_a_model_within_the_limits_of_one_file_may_have_many() -> None:
    """A thousand files of few tensors are one model."""
    shards = Repeated("model-{:05}-of-{:05}.safetensors", tensors(90, "t{}", [0]))
    assert len(folder_model.safetensors_model(shards.folder).tensors) == 90 * FILES
    part = gguf_bytes.header(
        {"general.architecture": "llama", "split.count": FILES},
        [gguf_bytes.tensor(f"blk.{at}", [0]) for at in range(90)],
    )
    split = Repeated("m-{:05}-of-{:05}.gguf", part)
    assert len(folder_model.gguf_file(split.folder, "m-00001-of-01000.gguf").tensors) == 90 * FILES
    assert 90 * FILES < gguf.TENSORS_MAX
