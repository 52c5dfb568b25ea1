"""What a GGUF model is: one noun, filled from headers, by the rules that llama.cpp reads them by."""

from __future__ import annotations

import io
import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.weights import gguf_bytes

from inhouse.errors import WeightsError
from inhouse.weights import gguf, gguf_model
from inhouse.weights.header import AttentionLayer, Header, Tensor, Usage
from inhouse.weights.look import read_file


def described(metadata: dict[str, object], tensors: tuple[bytes, ...] = ()) -> Header:
    raw = gguf_bytes.header(metadata, tensors)
    return gguf_model.describe([gguf.read_header(io.BytesIO(raw), len(raw), label="m")], [len(raw)], label="m")


def layered(architecture: str, **facts: object) -> Header:
    """A model of twelve layers; keys of `facts` have `__` for dots."""
    given = {"block_count": 12, "embedding_length": 64, "attention.head_count": 4}
    own = {key.replace("__", "."): value for key, value in facts.items()}
    return described(
        {
            "general.architecture": architecture,
            **{f"{architecture}.{key}": value for key, value in {**given, **own}.items()},
        }
    )


def windows(header: Header) -> str:
    """`w` for each layer with a window, `.` for each that sees all, `-` for each that keeps nothing."""
    assert header.attention is not None, header.attention_unknown
    return "".join("-" if not layer.keeps_kv else "w" if layer.window_tokens else "." for layer in header.attention)


def test_a_model_is_described() -> None:
    """Sizes, experts, words and types of tensors come out as they were written."""
    header = described(
        {
            **gguf_bytes.LLAMA,
            "llama.attention.head_count_kv": 2,
            "llama.feed_forward_length": 128,
            "llama.expert_count": 8,
            "llama.expert_used_count": 2,
            "llama.expert_feed_forward_length": 32,
            "llama.pooling_type": 3,
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "llama-bpe",
            "general.license": "apache-2.0",
            "general.license.link": "https://example.com/licence",
        },
        gguf_bytes.TENSORS,
    )
    assert (header.form, header.architecture, header.name, header.quantisation) == ("gguf", "llama", "Tiny", "Q8_0")
    assert (header.layers, header.embedding, header.feed_forward, header.vocabulary) == (4, 64, 128, 4)
    assert (header.experts, header.experts_used, header.expert_feed_forward) == (8, 2, 32)
    assert (header.heads, header.kv_heads, header.key_length, header.value_length) == (8, 2, 8, 8)
    assert header.attention == (AttentionLayer(8, 2, 8, 8),) * 4
    assert (header.context_tokens, header.sliding_window, header.pooling) == (512, None, "last")
    assert (header.tokenizer, header.chat_template) == ("gpt2 (llama-bpe)", "{{ messages }}")
    assert (header.licence, header.licence_url) == ("apache-2.0", "https://example.com/licence")
    assert header.tensors[0] == Tensor("token_embd.weight", "Q8_0", (64, 4), 4 * 2 * 34)
    assert header.usage() == (Usage("Q8_0", 1, 256, 272), Usage("F32", 1, 64, 256))
    assert (header.parameters, header.weights_bytes) == (320, 528)


@pytest.mark.parametrize(
    ("architecture", "facts", "seen"),
    [
        ("llama", {}, "............"),
        ("llama", {"attention__sliding_window": 4096}, "............"),
        ("phi3", {"attention__sliding_window": 2047}, "............"),
        ("gemma3", {"attention__sliding_window": 512}, "wwwww.wwwww."),
        ("gemma3", {"attention__sliding_window": 0}, "............"),
        ("gemma3", {"attention__sliding_window": 512, "attention__sliding_window_pattern": 3}, "ww.ww.ww.ww."),
        ("gemma3", {"attention__sliding_window": 512, "attention__sliding_window_pattern": [1, 0] * 6}, "w.w.w.w.w.w."),
        ("gemma2", {}, "w.w.w.w.w.w."),
        ("gpt-oss", {"attention__sliding_window": 128}, "w.w.w.w.w.w."),
        ("smallthinker", {"attention__sliding_window": 1}, ".www.www.www"),
        ("llama4", {}, "www.www.www."),
        ("exaone4", {"attention__sliding_window": 4096}, "............"),
        ("exaone4", {"block_count": 64}, "www." * 16),
        ("gemma3n", {"block_count": 25, "attention__sliding_window": 512}, "wwww.wwww.wwww.wwww.-----"),
        (
            "gemma4",
            {
                "attention__sliding_window": 512,
                "attention__sliding_window_pattern": [1, 1, 0] * 4,
                "attention__shared_kv_layers": 6,
            },
            "ww.ww.------",
        ),
        ("glm4moe", {"nextn_predict_layers": 1}, "...........-"),
        ("bert", {}, "------------"),
    ],
)
def test_which_layers_look_at_a_window(architecture: str, facts: dict[str, object], seen: str) -> None:
    """As llama.cpp's own source has it, a pattern in the file before it."""
    assert windows(layered(architecture, **facts)) == seen


def test_layers_of_one_model_may_differ() -> None:
    """Heads by layer and other sizes for layers with a window; what is not the same for all has no one number."""
    header = layered(
        "gemma4",
        attention__head_count_kv=[1, 1, 4] * 4,
        attention__key_length=512,
        attention__value_length=512,
        attention__key_length_swa=256,
        attention__value_length_swa=256,
        attention__sliding_window=1024,
        attention__sliding_window_pattern=[1, 1, 0] * 4,
    )
    assert header.attention is not None
    assert header.attention[:3] == (
        AttentionLayer(4, 1, 256, 256, 1024),
        AttentionLayer(4, 1, 256, 256, 1024),
        AttentionLayer(4, 4, 512, 512),
    )
    assert (header.heads, header.kv_heads, header.key_length, header.sliding_window) == (4, None, None, 1024)


@pytest.mark.parametrize(
    ("architecture", "facts", "reason"),
    [
        ("mamba", {}, "keep a state"),
        ("qwen3next", {}, "keep a state"),
        ("lfm2", {}, "keep a state"),
        ("made-up", {"ssm__state_size": 16}, "keep a state"),
        ("deepseek2", {"attention__kv_lora_rank": 512}, "compressed form"),
        ("made-up", {"attention__sliding_window": 512}, "does not say which"),
        ("made-up", {"attention__head_count": [4] * 11}, "11 entries for 12 layers"),
        ("made-up", {"attention__head_count": 0.5}, "not a number"),
        ("made-up", {"attention__key_length": 2**25}, "not a number up to"),
        ("made-up", {"attention__head_count": [0] * 12}, "how large a head is"),
        ("made-up", {"block_count": 0}, "how many layers"),
        ("made-up", {"block_count": 2**31}, "not a number up to 1024"),
    ],
)
def test_what_it_keeps_is_unknown_rather_than_wrong(architecture: str, facts: dict[str, object], reason: str) -> None:
    header = layered(architecture, **facts)
    assert header.attention is None
    assert reason in (header.attention_unknown or "")
    assert (header.heads, header.kv_heads, header.sliding_window) == (None, None, None)


def test_a_file_without_metadata_is_described_as_far_as_it_goes() -> None:
    header = described({}, gguf_bytes.TENSORS)
    assert (header.architecture, header.layers, header.attention, header.chat_template) == (None, None, None, None)
    assert header.parameters == 320


def write_split(folder: Path, *, count: int = 2) -> Path:
    """A model in two files; the second has tensors only."""
    for at, (metadata, tensors) in enumerate(
        [
            ({**gguf_bytes.LLAMA, "split.count": count}, gguf_bytes.TENSORS),
            ({"split.no": 1, "split.count": count}, (gguf_bytes.tensor("output.weight", [64, 4], kind=1),)),
        ]
    ):
        start = gguf_bytes.header(metadata, tensors)
        raw = start + bytes(-len(start) % 32) + bytes(544)
        (folder / f"m-{at + 1:05}-of-00002.gguf").write_bytes(raw)
    return folder / "m-00002-of-00002.gguf"


def test_a_split_model_is_the_sum_of_its_parts(tmp_path: Path) -> None:
    """Whichever part is named."""
    header = read_file(write_split(tmp_path))
    assert (header.files, header.architecture, header.parameters) == (2, "llama", 320 + 256)
    assert header.file_bytes == sum(file.stat().st_size for file in tmp_path.iterdir())
    assert [tensor.name for tensor in header.tensors][-1] == "output.weight"


def test_a_split_model_whose_names_were_changed_is_refused(tmp_path: Path) -> None:
    """A sum that leaves parts out would be too small."""
    part = write_split(tmp_path, count=3).rename(tmp_path / "renamed.gguf")
    with pytest.raises(WeightsError, match=r"consists of 3 files, and here there are 1"):
        read_file(part)


def test_tensors_of_an_unknown_type_are_named(tmp_path: Path) -> None:
    """A newer file than this release: the type has its number as name."""
    header = described({}, (gguf_bytes.tensor("t", [32], kind=99),))
    assert header.tensors == (Tensor("t", "type 99", (32,), 0),)


KEYS = (
    *("block_count", "embedding_length", "context_length", "feed_forward_length", "nextn_predict_layers"),
    *("attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.value_length"),
    *("attention.key_length_swa", "attention.sliding_window", "attention.sliding_window_pattern"),
    *("attention.shared_kv_layers", "expert_count", "expert_used_count", "pooling_type"),
)
VALUES = st.one_of(
    st.integers(0, 2**32 - 1),
    st.integers(0, 40),
    st.floats(width=32),
    st.booleans(),
    st.lists(st.integers(0, 2**32 - 1), max_size=16),
    st.lists(st.integers(0, 3), min_size=12, max_size=12),
    st.text(max_size=8),
)
ARCHITECTURES = (
    *("llama", "gemma2", "gemma3", "gemma3n", "gemma4", "gpt-oss", "llama4", "exaone4", "smallthinker", "bert"),
    *("mamba", "made-up", "modern-bert", "laguna"),
)


@given(architecture=st.sampled_from(ARCHITECTURES), facts=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=8))
def test_whatever_a_file_claims_it_is_described_or_refused(architecture: str, facts: dict[str, object]) -> None:
    """Either what each layer keeps, one for each, or why that is unknown."""
    try:
        header = layered(architecture, **facts)
    except WeightsError:
        return
    assert (header.attention is None) == (header.attention_unknown is not None)
    if header.attention is not None:
        assert len(header.attention) == header.layers
        assert all(0 <= layer.kv_heads <= 65_536 and layer.key_length <= 2**24 for layer in header.attention)


def test_hostile_lists_and_tensors_take_little_memory() -> None:
    """Thousands of lists of large numbers, and a hundred thousand tensors of long names, are refused in time."""
    numbers = struct.pack("<IIQ", 9, 10, 1024) + struct.pack("<1024Q", *range(2**40, 2**40 + 1024))
    lists = gguf_bytes.header({f"a.{at}": numbers for at in range(2_000)}, ())
    names = gguf_bytes.header({}, [gguf_bytes.tensor(f"{at:0512}", [1]) for at in range(40_000)])
    for raw in (lists, names):
        stream = io.BytesIO(raw)
        tracemalloc.start()
        try:
            with pytest.raises(WeightsError, match="take more than 16777216 bytes"):
                gguf.read_header(stream, len(raw), label="m")
            assert tracemalloc.get_traced_memory()[1] < 48 * 2**20
        finally:
            tracemalloc.stop()
