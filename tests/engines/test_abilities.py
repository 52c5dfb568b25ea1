"""What models can do: by their engine, by what they were made for, by the flags that the engine is started with."""

from __future__ import annotations

import pytest

from inhouse.engines.abilities import ALL, able, lacking
from inhouse.engines.table import ENGINES


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_what_is_not_known(engine: object) -> None:
    """Elsewhere, of a model of which nothing is known, exactly what the engine has."""
    found = ENGINES[engine.name]  # type: ignore[attr-defined]
    assert set(able(lacking(found))) == found.abilities | {"chat"}


def test_a_flag_that_is_missing() -> None:
    """It is named, and only where the engine is started here."""
    lacks = lacking(ENGINES["vllm"], "generate", ())
    assert "--enable-auto-tool-choice" in lacks["tools"]
    assert "tools" not in lacking(ENGINES["vllm"], "generate", ("--enable-auto-tool-choice",))
    assert "tools" not in lacking(ENGINES["vllm"], "generate")


def test_what_a_model_was_made_for() -> None:
    """A model for embeddings neither chats nor ranks; one that chats embeds where its engine has it so."""
    assert able(lacking(ENGINES["llamacpp"], "embed", ())) == ["embeddings"]
    assert able(lacking(ENGINES["vllm"], "rerank", ())) == ["rerank"]
    assert "embeddings" in able(lacking(ENGINES["llamacpp"], "generate", ()))
    assert "embeddings" not in able(lacking(ENGINES["vllm"], "generate", ()))


def test_every_reason_is_in_words() -> None:
    for engine in ENGINES.values():
        for task in (None, "generate", "embed", "rerank"):
            lacks = lacking(engine, task, ())  # type: ignore[arg-type]
            assert set(lacks) | set(able(lacks)) == set(ALL)
            assert all(lacks.values())
