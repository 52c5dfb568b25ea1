"""Headers of GGUF files: sound ones are read, others end in a WeightsError and nothing worse."""

from __future__ import annotations

import io
import itertools
import struct
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.weights import gguf_bytes

from inhouse.errors import WeightsError
from inhouse.weights import gguf


def read(raw: bytes) -> gguf.GgufHeader:
    return gguf.read_header(io.BytesIO(raw), len(raw), label="test.gguf")


@pytest.mark.parametrize("version", [2, 3])
def test_a_header_says_what_the_model_is(version: int) -> None:
    """Metadata and tensors come out as they were written."""
    header = read(gguf_bytes.header(version=version))
    assert header.version == version
    assert header.architecture == "llama"
    assert header.name == "Tiny"
    assert header.context_tokens == 512
    assert header.layers == 4
    assert header.embedding == 64
    assert header.vocabulary == 4
    assert header.parameters == 64 * 4 + 64
    assert header.file_type == "Q8_0"
    assert header.has_chat_template
    assert header.tensors_count == 2
    assert header.splits_count == 1
    assert header.scalars["llama.attention.head_count"] == 8
    assert header.scalars["tokenizer.ggml.add_bos_token"] is True
    assert "tokenizer.ggml.tokens" not in header.scalars


def test_the_reference_writer_is_understood(tmp_path: Path) -> None:
    """A file of the `gguf` package, llama.cpp's own writer, reads as it was meant, every type of value included."""
    reference = pytest.importorskip("gguf")
    numpy = pytest.importorskip("numpy")
    writer = reference.GGUFWriter(tmp_path / "m.gguf", "qwen3")
    writer.add_name("Écrit")
    writer.add_context_length(40960)
    writer.add_block_count(2)
    writer.add_embedding_length(32)
    writer.add_token_list(["<a>", "b" * 3000, "c"])
    writer.add_token_scores([0.0, 1.0, 2.0])
    for kind in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"):
        getattr(writer, f"add_{kind}")(f"x.{kind}", 7)
    writer.add_float64("x.float64", 0.5)
    writer.add_bool("x.bool", False)
    writer.add_tensor("token_embd.weight", numpy.zeros((3, 32), dtype=numpy.float16))
    writer.add_tensor("output_norm.weight", numpy.ones(32, dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = gguf.read_gguf(tmp_path / "m.gguf")
    assert (header.architecture, header.name, header.context_tokens) == ("qwen3", "Écrit", 40960)
    assert (header.vocabulary, header.parameters, header.has_chat_template) == (3, 3 * 32 + 32, False)
    assert header.scalars["x.int64"] == 7
    assert header.scalars["x.float64"] == 0.5
    assert header.scalars["x.bool"] is False
    assert header.file_bytes == (tmp_path / "m.gguf").stat().st_size


def test_a_file_that_is_too_short_for_its_tensors_is_cut(tmp_path: Path) -> None:
    """One byte less than the tensors need is an error with both numbers; exactly enough is fine."""
    raw = gguf_bytes.model()
    (tmp_path / "m.gguf").write_bytes(raw)
    assert gguf.read_gguf(tmp_path / "m.gguf").file_bytes == len(raw)
    (tmp_path / "m.gguf").write_bytes(raw[:-1])
    with pytest.raises(WeightsError, match=rf"cut short: it has {len(raw) - 1} bytes, its header promises {len(raw)}"):
        gguf.read_gguf(tmp_path / "m.gguf")


def test_a_header_cut_anywhere_is_an_error() -> None:
    """No prefix of a header passes for a whole one."""
    raw = gguf_bytes.header()
    for end in range(len(raw)):
        with pytest.raises(WeightsError):
            read(raw[:end])


@given(edits=st.lists(st.tuples(st.integers(0), st.binary(min_size=1, max_size=9)), min_size=1, max_size=6))
def test_changed_bytes_are_read_or_refused(edits: list[tuple[int, bytes]]) -> None:
    """Whatever bytes are overwritten, the answer is a header or a WeightsError."""
    raw = bytearray(gguf_bytes.header())
    for at, patch in edits:
        at %= len(raw)
        raw[at : at + len(patch)] = patch
    with suppress(WeightsError):
        read(bytes(raw))


@given(raw=st.binary(max_size=200))
def test_random_bytes_after_the_magic_are_read_or_refused(raw: bytes) -> None:
    with suppress(WeightsError):
        read(b"GGUF\x03\0\0\0" + raw)


def test_every_count_and_length_may_lie() -> None:
    """With 2^64-1 or 2^31 in the place of any eight bytes, nothing large is allocated."""
    raw = gguf_bytes.header()
    tracemalloc.start()
    try:
        for lie, at in itertools.product((2**64 - 1, 2**31, 2**63), range(8, len(raw) - 8)):
            with suppress(WeightsError):
                read(raw[:at] + struct.pack("<Q", lie) + raw[at + 8 :])
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


class Watched(io.BytesIO):
    """Counts the bytes that are taken from it."""

    taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        raw = super().read(size)
        self.taken += len(raw)
        return raw


def test_large_lists_are_stepped_over() -> None:
    """Of a list of numbers nothing is read but its ends; a list of texts is walked without being kept."""
    numbers = struct.pack("<IIQ", 9, 4, 4 * 2**20) + bytes(16 * 2**20)
    texts = struct.pack("<IIQ", 9, 8, 50_000) + gguf_bytes.text("token") * 50_000
    raw = gguf_bytes.header({"a.numbers": numbers, "tokenizer.ggml.tokens": texts, "general.name": "end"})
    stream = Watched(raw)
    tracemalloc.start()
    try:
        header = gguf.read_header(stream, len(raw), label="test.gguf")
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()
    assert header.name == "end"
    assert header.vocabulary == 50_000
    assert stream.taken < 4 * 2**20


REFUSED = {
    "too many tensors": (gguf_bytes.header(tensors_count=100_001), "100001 tensors, at most 100000"),
    "too many entries": (gguf_bytes.header(entries_count=65_537), "65537 metadata entries"),
    "a key twice": (
        gguf_bytes.header({"general.name": "x"}, (), entries_count=2).replace(
            b"x", b"x" + gguf_bytes.text("general.name")
        )
        + gguf_bytes.value("y"),
        "'general.name' stands in it twice",
    ),
    "a list of lists": (gguf_bytes.header({"a": struct.pack("<IIQ", 9, 9, 1)}), "unknown type 9"),
    "a type that is none": (gguf_bytes.header({"a": struct.pack("<I", 13)}), "unknown type 13"),
    "too many dimensions": (gguf_bytes.header({}, [gguf_bytes.tensor("t", [1] * 5)]), "5 dimensions, 4 are possible"),
    "too large a tensor": (gguf_bytes.header({}, [gguf_bytes.tensor("t", [2**40, 2**40])]), "impossibly large"),
    "an architecture that is none": (gguf_bytes.header({"general.architecture": "a\x1b[31m"}), "not a plain word"),
    "a context that is a text": (
        gguf_bytes.header({"general.architecture": "a", "a.context_length": "many"}),
        "a.context_length is not a whole number",
    ),
    "an odd alignment": (gguf_bytes.header({"general.alignment": 33}), "alignment of 33 bytes"),
    "more texts than are there": (gguf_bytes.header({"a": struct.pack("<IIQ", 9, 8, 9_000_000)}), "at most 8000000"),
    "more numbers than are there": (gguf_bytes.header({"a": struct.pack("<IIQ", 9, 4, 2**62)}), "ends before"),
    "too long a text": (gguf_bytes.header({"a": "x" * (2**20 + 1)}), "1048577 bytes for 'a'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_right_is_named(case: str) -> None:
    """The error says which part of the header is wrong, and what to do."""
    raw, told = REFUSED[case]
    with pytest.raises(WeightsError, match=r"test.gguf is not a sound GGUF file") as caught:
        read(raw)
    assert told in caught.value.message
    assert caught.value.hint == "copy or download it again"


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"", "it is empty"),
        (b"GGUF", "download it again"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"PK\x03\x04rest", "zip archive"),
        (b"<!doctype html>", "web page"),
        (b'{"error": "x"}', "web page or JSON"),
        (b"\x80\x02checkpoint", "convert_hf_to_gguf"),
        (b"GGUF\x01\0\0\0", "versions 2 and 3"),
        (b"GGUF\0\0\0\x03", "little-endian"),
    ],
)
def test_what_is_no_gguf_file_is_guessed_at(tmp_path: Path, raw: bytes, told: str) -> None:
    """The hint follows from the first bytes; the cheap look and the whole reading agree."""
    (tmp_path / "m.gguf").write_bytes(raw)
    for look in (gguf.check, gguf.read_gguf):
        with pytest.raises(WeightsError) as caught:
            look(tmp_path / "m.gguf")
        assert told in str(caught.value.hint)
        assert str(tmp_path / "m.gguf") in caught.value.message


def test_a_name_cannot_write_to_the_terminal() -> None:
    """A model's name is shown to people, so control characters are taken out."""
    assert read(gguf_bytes.header({"general.name": "evil\x1b[2Jname\n"}, ())).name == "evil[2Jname"
