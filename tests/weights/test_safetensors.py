"""Headers of safetensors files: sound ones are read, others end in a WeightsError and nothing worse."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.weights import safetensors_bytes

from inhouse.errors import WeightsError
from inhouse.weights import safetensors
from inhouse.weights.header import Tensor

SOUND = safetensors_bytes.shard(safetensors_bytes.SHARDS[0])


def read(raw: bytes) -> tuple[Tensor, ...]:
    return safetensors.read_shard(io.BytesIO(raw), len(raw), label="test.safetensors")


def test_tensors_are_as_they_were_written() -> None:
    assert read(SOUND) == (
        Tensor("model.embed_tokens.weight", "BF16", (32, 64), 4096),
        Tensor("model.layers.0.self_attn.k_proj.weight", "BF16", (32, 64), 4096),
        Tensor("model.layers.0.input_layernorm.weight", "F32", (64,), 256),
    )


def test_the_reference_writer_is_understood(tmp_path: Path) -> None:
    """A file of the `safetensors` package reads as it was meant, metadata of any name included."""
    import numpy
    from safetensors.numpy import save_file

    arrays = {"a": numpy.zeros((3, 5), dtype=numpy.float16), "b": numpy.zeros((), dtype=numpy.int64)}
    save_file(arrays, tmp_path / "m.safetensors", metadata={"format": "np", "shape": "odd", "dtype": "odd"})
    found = {tensor.name: tensor for tensor in read((tmp_path / "m.safetensors").read_bytes())}
    assert found == {"a": Tensor("a", "F16", (3, 5), 30), "b": Tensor("b", "I64", (), 8)}


def test_a_file_cut_anywhere_is_an_error() -> None:
    """No prefix passes for a whole file, not even one that only lacks a byte of the data."""
    for end in [*range(len(SOUND) - 4096 - 4096 - 256), len(SOUND) - 1]:
        with pytest.raises(WeightsError):
            read(SOUND[:end])


@given(edits=st.lists(st.tuples(st.integers(0, 500), st.binary(min_size=1, max_size=9)), min_size=1, max_size=6))
def test_changed_bytes_are_read_or_refused(edits: list[tuple[int, bytes]]) -> None:
    raw = bytearray(SOUND)
    for at, patch in edits:
        raw[at : at + len(patch)] = patch
    with suppress(WeightsError):
        read(bytes(raw))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)
ENTRY = st.fixed_dictionaries(
    {}, optional={"dtype": JSON, "shape": JSON, "data_offsets": JSON | st.tuples(st.integers(), st.integers())}
)


@given(entries=st.dictionaries(st.text(max_size=8), ENTRY | JSON, max_size=4))
def test_any_json_is_read_or_refused(entries: dict[str, object]) -> None:
    with suppress(WeightsError):
        read(safetensors_bytes.header(entries) + bytes(64))


def entry(kind: object = "F32", shape: object = (2,), place: object = (0, 8)) -> bytes:
    return safetensors_bytes.header({"t": {"dtype": kind, "shape": shape, "data_offsets": place}}) + bytes(8)


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"", "cut short: it has 0 bytes"),
        (b"GGUF\x03\0\0\0rest", "it is a GGUF file"),
        (struct.pack("<Q", 2**64 - 1) + b"{}", "a header of 18446744073709551615 bytes, at most 2"),
        (struct.pack("<Q", 3) + b"{}", "a header of 3 bytes, at most 2"),
        (struct.pack("<Q", 2) + b"[]", "cannot be read"),
        (struct.pack("<Q", 200_000) + b'{"a":' * 40_000, "cannot be read"),
        (struct.pack("<Q", 2) + b'"\xff', "cannot be read"),
        (entry(kind=""), "has no type"),
        (entry(shape="x"), "has no type, shape"),
        (entry(kind="F" * 33), "too long"),
        (entry(shape=[-2]), "impossible"),
        (entry(shape=[1] * 17), "impossible"),
        (entry(place=[8, 0]), "impossible"),
        (entry(place=[0, 2**63]), "impossible"),
        (entry(shape=[3]), "has 8 bytes for 3 elements of type F32"),
        (entry(kind="Q7", shape=[2**40]), "has 8 bytes for 1099511627776 elements"),
        (entry(shape=[4], place=[0, 16]), "cut short: it has"),
    ],
)
def test_what_cannot_be_right_is_named(raw: bytes, told: str) -> None:
    with pytest.raises(WeightsError) as caught:
        read(raw)
    assert told in caught.value.message
    assert caught.value.message.startswith("test.safetensors is ")


def test_hostile_headers_take_little_memory() -> None:
    """A million empty entries, endless shapes, deep nesting, long names: refused before they are built."""
    hostile = [
        b"{" + b",".join(b'"%d":{}' % at for at in range(1_000_000)) + b"}",
        b'{"t":{"dtype":"U8","shape":[' + b"1," * 4_000_000 + b'1],"data_offsets":[0,1]}}',
        b'{"t":' * 1_000_000,
        json.dumps({"n" * 8_000_000: {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode(),
    ]
    for raw in hostile:
        whole = struct.pack("<Q", len(raw)) + raw + b"\0"
        stream = io.BytesIO(whole)
        tracemalloc.start()
        try:
            with pytest.raises(WeightsError):
                safetensors.read_shard(stream, len(whole), label="test.safetensors")
            assert tracemalloc.get_traced_memory()[1] < 3 * len(raw) + 8 * 2**20
        finally:
            tracemalloc.stop()
