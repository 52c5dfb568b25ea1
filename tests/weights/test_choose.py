"""Which files of a repository make up a model, from names as people give them on the hub."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as some

from inhouse.errors import WeightsError
from inhouse.weights.choose import INDEX, PREFERENCE, choose_folder, choose_gguf, choose_papers, quant_of

GEMMA = [
    "gemma-3-1b-it-Q4_0.gguf",
    "gemma-3-1b-it-Q4_K_M.gguf",
    "gemma-3-1b-it-Q8_0.gguf",
    "gemma-3-1b-it-f16.gguf",
    "mmproj-model-f16.gguf",
    "imatrix.gguf",
    "README.md",
]
UNSLOTH = [
    "Qwen3-235B-A22B-UD-Q2_K_XL.gguf",
    *(f"Q4_K_M/Qwen3-235B-A22B-Q4_K_M-0000{number}-of-00003.gguf" for number in (1, 2, 3)),
    *(f"BF16/Qwen3-235B-A22B-BF16-0000{number}-of-00010.gguf" for number in range(1, 10)),
]


@pytest.mark.parametrize(
    ("name", "quant"),
    [
        ("gemma-3-1b-it-Q4_K_M.gguf", "Q4_K_M"),
        ("Q4_K_M/x-BF16-00001-of-00002.gguf", "BF16"),
        ("llama-3.2-3b-instruct-q4_k_m.gguf", "Q4_K_M"),
        ("model.IQ4_XS.gguf", "IQ4_XS"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("Qwen3-UD-Q2_K_XL.gguf", "Q2_K_XL"),
        ("ggml-model-f16.gguf", "F16"),
        ("SEQ4_2.gguf", None),
        ("tiny.gguf", None),
    ],
)
def test_a_name_tells_the_quantisation(name: str, quant: str | None) -> None:
    assert quant_of(name) == quant


def test_without_a_wish_the_middle_is_taken() -> None:
    """Q4_K_M before all else; what is no model of its own never."""
    assert choose_gguf("r", GEMMA, None) == ["gemma-3-1b-it-Q4_K_M.gguf"]
    assert choose_gguf("r", ["a-Q8_0.gguf", "a-f16.gguf", "mmproj-Q4_0.gguf"], None) == ["a-Q8_0.gguf"]
    assert choose_gguf("r", ["whatever.gguf", "README.md"], None) == ["whatever.gguf"]


def test_a_wish_is_met_or_the_nearest_is_named() -> None:
    assert choose_gguf("r", GEMMA, "q8_0") == ["gemma-3-1b-it-Q8_0.gguf"]
    with pytest.raises(WeightsError) as caught:
        choose_gguf("r", GEMMA, "Q4_K_S")
    assert caught.value.message == "r has no file of the quantisation Q4_K_S"
    assert str(caught.value.hint).startswith("did you mean Q4_K_M? it has: F16, Q4_0, Q4_K_M, Q8_0")


def test_a_split_model_comes_whole_or_not_at_all() -> None:
    assert choose_gguf("r", UNSLOTH, None) == [
        f"Q4_K_M/Qwen3-235B-A22B-Q4_K_M-0000{n}-of-00003.gguf" for n in (1, 2, 3)
    ]
    with pytest.raises(WeightsError, match=r"part BF16/Qwen3-235B-A22B-BF16-00010-of-00010\.gguf is missing"):
        choose_gguf("r", UNSLOTH, "BF16")


def test_several_models_without_a_sign_are_not_guessed() -> None:
    with pytest.raises(WeightsError) as caught:
        choose_gguf("r", ["cat.gguf", "dog.gguf"], None)
    assert "name one of them in the source: cat.gguf, dog.gguf" in str(caught.value.hint)


def test_a_repository_of_the_other_form_says_what_reads_it() -> None:
    with pytest.raises(WeightsError) as caught:
        choose_gguf("r", ["config.json", "model.safetensors"], None)
    assert "vllm or transformers" in str(caught.value.hint)
    with pytest.raises(WeightsError) as caught:
        choose_folder("r", ["a.gguf"], None)
    assert "llama.cpp" in str(caught.value.hint)


LLAMA = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]


def test_a_folder_is_config_tokenizer_and_the_shards_of_its_index() -> None:
    """Nothing else: no pickles, no code, no other copies of the weights."""
    others = ["pytorch_model.bin", "original/consolidated.00.pth", "modeling_x.py", "x.gguf", "LICENSE", "README.md"]
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    names = [*LLAMA, *others, *shards, "consolidated.safetensors", INDEX, "tokenizer.model", "chat_template.jinja"]
    chosen = choose_folder("r", names, {"a": shards[0], "b": shards[1], "c": shards[0]})
    assert set(chosen) == {*LLAMA, *shards, INDEX, "tokenizer.model", "chat_template.jinja"}
    assert choose_papers(names) == ["LICENSE", "README.md"]


def test_without_an_index_one_file_or_numbered_shards_are_the_weights() -> None:
    assert (
        choose_folder("r", ["config.json", "model.safetensors", "adapter.safetensors"], None)[-1] == "model.safetensors"
    )
    embedder = ["config.json", "modules.json", "1_Pooling/config.json", "model.safetensors", "onnx/model.onnx"]
    assert set(choose_folder("r", embedder, None)) == {*embedder} - {"onnx/model.onnx"}


@pytest.mark.parametrize("shard", ["missing.safetensors", "../../etc/passwd", "a/b.safetensors"])
def test_an_index_that_leads_elsewhere_is_refused(shard: str) -> None:
    with pytest.raises(WeightsError, match="which is not there"):
        choose_folder("r", ["config.json", "model.safetensors"], {"a": shard})


def test_pickles_are_refused_with_the_reason() -> None:
    with pytest.raises(WeightsError) as caught:
        choose_folder("r", ["config.json", "pytorch_model.bin"], None)
    assert "run code" in str(caught.value.hint)


@given(some.lists(some.text(alphabet="aQ48_KM0-./gufo1", max_size=30)), some.sampled_from([None, *PREFERENCE]))
def test_any_names_give_names_that_exist_or_an_error(names: list[str], quant: str | None) -> None:
    with suppress(WeightsError):
        assert set(choose_gguf("r", names, quant)) <= set(names)
