"""Which file of a name suits a machine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.config.model_catalogue import CatalogueEntry, FileSpec, catalogue
from inhouse.config.sources import parse_source
from inhouse.errors import WeightsError
from inhouse.weights.catalogue import Choice, Form, Machine, choose, expand, fits, search

LARGE = Machine(memory_bytes=64 * 2**30)
AMX = Machine(memory_bytes=64 * 2**30, amx=True)


def quantisation(name: str, machine: Machine, quant: str | None = None) -> str | None:
    return choose(name, catalogue()[name], machine, quant).quantisation


def test_the_middle_of_quality_and_size_is_taken() -> None:
    """A larger file would be read more slowly."""
    assert quantisation("qwen3-8b", LARGE) == "Q4_K_M"
    assert quantisation("gpt-oss-20b", LARGE) == "MXFP4"
    assert quantisation("qwen3-8b", Machine()) == "Q4_K_M"


def test_rows_that_k_quantisations_do_not_fit_go_to_q4_0_where_that_is_quicker() -> None:
    """Gemma 3 1B has rows of 1,152: its Q4_K_M falls back to a type that AMX has no kernel for."""
    assert quantisation("gemma-3-1b", AMX) == "Q4_0"
    assert quantisation("gemma-3-1b", LARGE) == "Q4_K_M"
    assert quantisation("gemma-3-4b", AMX) == "Q4_K_M"


def test_vectors_are_taken_exactly() -> None:
    assert quantisation("nomic-embed-text", LARGE) == "Q8_0"
    assert quantisation("bge-reranker-v2-m3", LARGE) == "Q8_0"


def test_a_small_memory_takes_the_largest_that_it_has_room_for() -> None:
    """18.7 GB fit into 24 GiB by the rule of thumb, 19.8 GB do not."""
    assert quantisation("qwen3-32b", Machine(24 * 10**9 + 2 * 10**9)) == "Q4_0"


def test_a_model_that_is_too_large_is_told_with_the_way_out() -> None:
    with pytest.raises(WeightsError, match=r"qwen3-32b needs about 23\.1 GiB of memory as Q4_0") as caught:
        quantisation("qwen3-32b", Machine(8 * 2**30))
    assert "this machine has 8.0 GiB" in caught.value.message
    assert "qwen3-32b:Q4_0 tries it all the same" in (caught.value.hint or "")


def test_a_quantisation_that_is_named_is_taken_whatever_the_memory() -> None:
    assert quantisation("qwen3-32b", Machine(2**30), "Q8_0") == "Q8_0"
    with pytest.raises(WeightsError, match="no file of the quantisation Q2_K") as caught:
        quantisation("qwen3-32b", LARGE, "Q2_K")
    assert caught.value.hint == "it has: Q4_0, Q4_K_M, Q6_K, Q8_0"


def test_a_name_becomes_a_source() -> None:
    """With a quantisation behind the name or beside it; an engine that reads safetensors gets the repository."""

    def expanded(text: str, *forms: Form, quant: str | None = None) -> Choice:
        return expand(parse_source(text), catalogue(), LARGE, quant=quant, forms=forms or ("gguf", "safetensors"))

    commit = catalogue()["qwen3-8b"].revision
    assert expanded("qwen3-8b").source == f"hf://Qwen/Qwen3-8B-GGUF/Qwen3-8B-Q4_K_M.gguf@{commit}"
    assert expanded("qwen3-8b:q6_k", quant="Q8_0").quantisation == "Q6_K"
    assert expanded("qwen3-8b", quant="q8_0").quantisation == "Q8_0"
    assert expanded("qwen3-8b:Q6_K", "safetensors", "gguf").quantisation == "Q6_K"
    assert expanded("qwen3-8b", "safetensors", "gguf") == Choice("hf://Qwen/Qwen3-8B", None, None)
    with pytest.raises(WeightsError, match="'qwen3-9b' is no model of the catalogue") as caught:
        expanded("qwen3-9b")
    assert "qwen3-8b" in (caught.value.hint or "")


def test_an_entry_with_one_form_only_says_who_reads_it() -> None:
    files = CatalogueEntry(files={"Q8_0": FileSpec(source="./x.gguf")})
    shards = CatalogueEntry(safetensors="a/b")
    with pytest.raises(WeightsError, match="no safetensors"):
        expand(parse_source("x"), {"x": files}, LARGE, quant=None, forms=("safetensors",))
    with pytest.raises(WeightsError, match="no gguf in the catalogue"):
        expand(parse_source("x"), {"x": shards}, LARGE, quant=None, forms=("gguf",))
    assert (
        expand(parse_source("x"), {"x": files}, LARGE, quant=None, forms=("safetensors", "gguf")).source == "./x.gguf"
    )


@given(
    sizes=st.dictionaries(
        st.sampled_from(["Q2_K", "Q4_0", "Q4_K_M", "Q8_0", "F16"]), st.integers(1, 10**12), min_size=1
    ),
    memory=st.integers(1, 10**12),
    more=st.integers(0, 10**12),
    amx=st.booleans(),
)
def test_what_is_chosen_has_room_and_more_memory_never_hurts(
    sizes: dict[str, int], memory: int, more: int, amx: bool
) -> None:
    files = {name: FileSpec(source=f"./{name}.gguf", bytes=size) for name, size in sizes.items()}
    entry = CatalogueEntry(files=files, odd_rows=True)
    small, large = Machine(memory, amx), Machine(memory + more, amx)
    try:
        chosen = choose("x", entry, small)
    except WeightsError:
        assert not any(fits(size, small) for size in sizes.values())
        return
    assert fits(chosen.bytes, small)
    assert fits(choose("x", entry, large).bytes, large)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("gemma 4", ["gemma-4-e2b", "gemma-4-e4b", "gemma-4-26b-a4b", "gemma-3-4b"]),
        ("rerank", ["bge-reranker-v2-m3", "qwen3-reranker-0.6b"]),
        ("mit", ["phi-4", "phi-4-mini", "deepseek-r1-8b", "bge-small-en", "bge-m3"]),
        ("lama3.2", ["llama-3.2-1b", "llama-3.2-3b"]),
        ("xxxxxxxx", []),
    ],
)
def test_names_are_found_by_words(words: str, expected: list[str]) -> None:
    assert search(words, catalogue())[: len(expected) or 9] == expected


def test_without_words_all_names_are_found() -> None:
    assert search("", catalogue()) == list(catalogue())
