"""Short names of models: what comes along is sound, own entries are read, a bad name gets near ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from inhouse.config import load
from inhouse.config.model_catalogue import catalogue, near
from inhouse.config.sources import parse_source
from inhouse.errors import StackError

OWN = """\
house-chat:
  about: Ours
  repository: acme/house-GGUF
  files:
    Q8_0: {file: house-Q8_0.gguf, bytes: 2.5GB}
    Q4_K_M: {source: "s3://models/house-Q4_K_M.gguf"}
gemma-3-1b:
  safetensors: acme/gemma
"""


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_every_entry_that_comes_along_can_be_fetched(name: str) -> None:
    """Its sources are sources, with a commit where one is known; its files are named after their quantisation and grow
    with it; it says its licence and how it was checked."""
    entry = catalogue()[name]
    assert entry.files
    for quantisation, file in entry.files.items():
        line = parse_source(entry.source_of(quantisation))
        assert line.kind == "hf"
        assert line.name.endswith(".gguf")
        assert not line.revision or re.fullmatch(r"[0-9a-f]{40}", line.revision)
        assert re.sub("_[MS]$", "", quantisation).lower() in line.name.lower().replace("fp16", "f16")
        assert file.bytes is not None
        assert file.bytes > 10**7
    sizes = [file.bytes or 0 for file in entry.files.values()]
    assert sizes == sorted(sizes)
    assert entry.safetensors
    assert entry.licence
    assert entry.about
    assert entry.checked in ("listed", "pinned", "named")
    if entry.checked == "listed":
        assert entry.revision


def test_own_entries_come_before_those_included(tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text(OWN)
    entries = catalogue(tmp_path / "models.yaml")
    assert entries["house-chat"].source_of("Q8_0") == "hf://acme/house-GGUF/house-Q8_0.gguf"
    assert entries["house-chat"].source_of("Q4_K_M") == "s3://models/house-Q4_K_M.gguf"
    assert entries["house-chat"].files["Q8_0"].bytes == 2_500_000_000
    assert entries["gemma-3-1b"].safetensors == "acme/gemma"
    assert "qwen3-8b" in entries


@pytest.mark.parametrize(
    ("text", "where", "told"),
    [
        ("a: {}\n", ":1", "neither `files` nor `safetensors`"),
        ("a:\n  files:\n    Q8_0: {file: x.gguf}\n", ":1", "no `repository`"),
        ("a:\n  safetensors: x/y\n  files:\n    q8: {source: './x.gguf'}\n", ":4", "in capitals"),
        ("a:\n  safetensors: x/y\n  files:\n    Q8_0: {}\n", ":4", "either `file` or `source`"),
        ("a:\n  safetensors: x/y\n  files:\n    Q8_0: {source: gemma-3-1b}\n", ":4", "itself a name"),
        ("a:\n  safetensors: x\n", ":2", "safetensors"),
        ("a b:\n  safetensors: x/y\n", "", "such as gemma-3-1b"),
        ("a:\n  safetensors: x/y\n  speed: 7\n", ":3", "a.speed"),
        ("- a\n", "", ""),
    ],
)
def test_a_mistake_in_ones_own_file_is_told_with_its_line(tmp_path: Path, text: str, where: str, told: str) -> None:
    (tmp_path / "models.yaml").write_text(text)
    with pytest.raises(StackError) as caught:
        catalogue(tmp_path / "models.yaml")
    assert told in caught.value.message
    assert f"models.yaml{where}" in str(caught.value.where)


def stack_error(folder: Path, text: str) -> StackError:
    (folder / "inhouse.yaml").write_text(text)
    with pytest.raises(StackError) as caught:
        load(folder / "inhouse.yaml", environ={}, flags={})
    return caught.value


def test_a_name_that_is_none_stops_the_start_with_near_ones(tmp_path: Path) -> None:
    error = stack_error(tmp_path, "models:\n  chat:\n    source: gema-3-1b\n")
    assert str(error.where).endswith("inhouse.yaml:3")
    assert "'gema-3-1b', which is no name of the catalogue" in error.message
    assert (error.hint or "").startswith("did you mean gemma-3-1b,")


def test_a_quantisation_that_a_name_lacks_stops_the_start(tmp_path: Path) -> None:
    error = stack_error(tmp_path, "models:\n  chat:\n    source: gemma-3-4b:Q2_K\n")
    assert error.message == "gemma-3-4b has no file of the quantisation Q2_K"
    assert error.hint == "it has: Q4_K_M, Q8_0, F16"


def test_a_file_of_names_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    text = "weights:\n  catalogue: ./none.yaml\nmodels:\n  chat:\n    source: gemma-3-1b\n"
    assert "none.yaml" in stack_error(tmp_path, text).message


def test_own_names_are_known_to_the_stack(tmp_path: Path) -> None:
    """The file lies where the stack's file says, whatever folder one is in."""
    (tmp_path / "models.yaml").write_text(OWN)
    text = "weights:\n  catalogue: ./models.yaml\nmodels:\n  chat:\n    source: house-chat:q8_0\n"
    (tmp_path / "inhouse.yaml").write_text(text)
    stack = load(tmp_path / "inhouse.yaml", environ={}, flags={})
    assert stack.models["chat"].source == "house-chat:q8_0"
    assert stack.weights.catalogue == tmp_path / "models.yaml"


@pytest.mark.parametrize(
    ("asked", "first"),
    [("gema3", "gemma-3-270m"), ("lama-3.2-3b", "llama-3.2-3b"), ("Qwen3:8b", "qwen3-8b"), ("gptoss20", "gpt-oss-20b")],
)
def test_near_names_are_found(asked: str, first: str) -> None:
    found = near(asked, catalogue())
    assert found[0].startswith(first[:6])
    assert len(found) <= 4


def test_nothing_is_near_to_nonsense() -> None:
    assert near("xxxxxxxx", catalogue()) == []
