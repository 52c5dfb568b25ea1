"""Tiny models, made once; and one engine process on the Llama-like of them, shared by all tests that leave it well."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import tiny_models
from engine_process import EngineProcess, transformers_engine


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.llama(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="session")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.gemma(tmp_path_factory.mktemp("models") / "tiny-gemma")


@pytest.fixture(scope="session")
def mamba(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.mamba(tmp_path_factory.mktemp("models") / "tiny-mamba")


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.bert(tmp_path_factory.mktemp("models") / "tiny-bert")


@pytest.fixture(scope="session")
def wider(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bitsandbytes quantises blocks of 64 weights."""
    return tiny_models.llama(tmp_path_factory.mktemp("models") / "wider", hidden=128)


@pytest.fixture(scope="session")
def engine(llama: Path) -> Iterator[EngineProcess]:
    """4 rows at once, 4 more may wait."""
    with transformers_engine(llama, alias="tiny", threads=1, batch_max=4, queue_max=4) as running:
        running.ready()
        yield running
