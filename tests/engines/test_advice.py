"""What `config check` says of engines before any is started."""

from __future__ import annotations

from typing import Any

import pytest

from inhouse.config import ModelSpec
from inhouse.engines.advice import advice
from inhouse.engines.choices import Choice, Choices
from inhouse.engines.table import ENGINES


def chosen(threads: int) -> Choices:
    count = Choice(threads, "")
    return Choices(count, count, Choice(512, ""), Choice(4, ""))


def told(cores: int = 16, **fields: Any) -> str:
    return " | ".join(advice("chat", ModelSpec.model_validate({"source": "./models/chat", **fields}), chosen(cores)))


def test_nothing_to_say() -> None:
    assert told(source="demo") == ""
    assert told(engine="vllm", engine_args=["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]) == ""


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"engine": "vllm", "gpus": 2}, "/dev/shm"),
        ({"engine": "sglang", "gpus": 2}, "NCCL_TIMEOUT"),
        ({"engine": "vllm", "gpu_memory": "95%"}, "92 %"),
        ({"engine": "vllm", "cores": 2}, "8 CPU cores"),
        ({"engine": "vllm"}, "--enable-auto-tool-choice"),
        ({"engine": "vllm", "source": "./m.gguf"}, "experimental"),
        ({"engine": "tgi", "source": "./m.gguf"}, "does not read GGUF"),
        ({"engine": "tgi", "source": "hf://org/repo/m.gguf@main"}, "does not read GGUF"),
        ({"engine": "llamacpp", "source": "./m.gguf", "quantization": "awq"}, "does not know `quantization: awq`"),
        ({"engine": "tensorrt-llm", "quantization": "bitsandbytes"}, "awq, gptq, fp8"),
    ],
)
def test_what_may_go_wrong(fields: dict[str, Any], words: str) -> None:
    """Only what this very model is in danger of."""
    found = told(**fields)
    assert words in found
    assert "maintenance" not in found


@pytest.mark.parametrize("name", [name for name, engine in ENGINES.items() if engine.argv is not None])
def test_a_repository_of_the_hub(name: str) -> None:
    """Of a whole repository an engine is given what it reads: that is no reason to warn."""
    assert "does not read" not in told(engine=name, source="hf://org/repo")
