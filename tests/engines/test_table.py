"""The table of engines: what holds for every row, and the exact command of each."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from inhouse.config.fleet import EngineName
from inhouse.engines.about import PATHS
from inhouse.engines.engine import Engine, Spec
from inhouse.engines.http import Address
from inhouse.engines.table import ENGINES

STARTED = {name: engine for name, engine in ENGINES.items() if engine.argv is not None}
SPEC = Spec("chat", Path("/models/chat"), context_tokens=8192, slots=16, threads=8)
TCP = Address(host="0.0.0.0", port=8000)
COMMANDS = {
    "llama-server": "llama-server --model /models/chat --alias chat --host 0.0.0.0 --port 8000 --ctx-size 131072 "
    "--parallel 16 --batch-size 2048 --ubatch-size 512 --threads 8 --metrics --slots --jinja --embeddings "
    "--cache-ram 256 --ctx-checkpoints 4",
    "vllm": "vllm serve /models/chat --served-model-name chat --host 0.0.0.0 --port 8000 --max-model-len 8192 "
    "--max-num-seqs 16 --gpu-memory-utilization 0.9 --disable-uvicorn-access-log --enable-prompt-tokens-details",
    "sglang": "sglang serve --model-path /models/chat --served-model-name chat --host 0.0.0.0 --port 8000 "
    "--context-length 8192 --max-running-requests 16 --mem-fraction-static 0.9 --enable-metrics --enable-cache-report",
    "tgi": "text-generation-launcher --model-id /models/chat --hostname 0.0.0.0 --port 8000 "
    "--max-concurrent-requests 16 --max-total-tokens 8192 --max-input-tokens 8191 --cuda-memory-fraction 0.9 "
    "--num-shard 1 --usage-stats off",
    "ollama": "ollama serve",
    "transformers": "/models/chat --alias chat --host 0.0.0.0 --port 8000 --context 8192 --batch-max 16 "
    "--prefill-tokens 2048 --threads 8",
    "tensorrt-llm": "trtllm-serve serve /models/chat --host 0.0.0.0 --port 8000 --backend pytorch "
    "--max_batch_size 16 --max_seq_len 8192 --kv_cache_free_gpu_memory_fraction 0.9 --tp_size 1",
}


def command(engine: Engine, spec: Spec = SPEC, address: Address = TCP) -> list[str]:
    assert engine.argv is not None
    return list(engine.argv(spec, address).argv)


def test_the_names_that_a_stack_may_say() -> None:
    """Each has a row under its own name, and there is no other row."""
    assert set(ENGINES) == set(get_args(EngineName))
    assert all(engine.name == name for name, engine in ENGINES.items())


@pytest.mark.parametrize("name", STARTED)
def test_the_command(name: str) -> None:
    """Word for word: the flags are those of the engine's own documents."""
    found = command(ENGINES[name])
    if name == "llamacpp":
        assert found[2].endswith("llamacpp_child.py")
        assert found[3:] == COMMANDS["llama-server"].split()[1:]
    elif name == "transformers":
        assert found[1:5] == ["-P", "-m", "inhouse", "transformers-engine"]
        assert found[5:] == COMMANDS[name].split()
    else:
        assert found == COMMANDS[name].split()


@pytest.mark.parametrize("engine", STARTED.values(), ids=STARTED)
def test_what_is_started(engine: Engine) -> None:
    """How to get it and where its image is; an own program and own flags get through; several GPUs and a way of
    quantising are told where it knows any."""
    assert engine.program
    assert engine.install
    assert engine.image is not None
    assert re.fullmatch(r"[\w./-]+:[\w.-]*\d[\w.-]*", engine.image.name)
    assert not engine.image.name.endswith(":latest")
    own = command(engine, replace(SPEC, binary=Path("/opt/engine"), extra_args=("--own", "flag")))
    assert own[0] == "/opt/engine"
    assert own[-2:] == ["--own", "flag"]
    for way in engine.quantizations:
        quantized = command(engine, replace(SPEC, quantization=way))
        assert way in quantized or engine.name == "tensorrt-llm" or quantized[-2:] == ["--quantize", "nf4"]
    if engine.quantizations and engine.name != "transformers":
        assert "2" in command(engine, replace(SPEC, gpus=2))
    socket = command(engine, SPEC, Address(socket="/run/e.sock"))
    assert ("/run/e.sock" in socket) == engine.sockets


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_every_row(engine: Engine) -> None:
    """It is ready somewhere, tells of itself in a way that is known, and each trap is a sentence without a stop."""
    assert engine.health.startswith(b"/")
    assert not engine.reads or engine.reads in PATHS
    assert engine.traps
    assert not [trap.what for trap in engine.traps if not trap.what or trap.what.endswith(".")]
    assert all(trap.applies is None or trap.applies(SPEC) in (True, False) for trap in engine.traps)


def test_ollama_is_told_by_its_environment() -> None:
    """And the weights are made known to it by a second program."""
    engine = ENGINES["ollama"]
    assert engine.argv is not None
    found = engine.argv(replace(SPEC, weights=Path("/models/chat.gguf")), Address(port=7000))
    assert dict(found.environment)["OLLAMA_HOST"] == "127.0.0.1:7000"
    assert dict(found.environment)["OLLAMA_CONTEXT_LENGTH"] == "8192"
    assert found.then[0][-3:] == ("ollama", "/models/chat.gguf", "chat")


def test_a_model_that_ranks_in_llama_cpp() -> None:
    assert "rank" in command(ENGINES["llamacpp"], replace(SPEC, task="rerank"))


def test_a_model_that_only_embeds_in_vllm() -> None:
    assert "pooling" in command(ENGINES["vllm"], replace(SPEC, task="embed"))
    assert "--is-embedding" in command(ENGINES["sglang"], replace(SPEC, task="embed"))


def test_a_model_that_only_embeds_in_our_own_engine() -> None:
    assert "embed" in command(ENGINES["transformers"], replace(SPEC, task="embed"))
