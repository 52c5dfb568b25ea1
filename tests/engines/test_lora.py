"""Adapters (LoRA) with the embedded engine: a real one, made here for the demo model."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import gguf
import numpy as np
import pytest

from clients import client_at
from inhouse.engines.engine import Spec
from inhouse.engines.llamacpp import adapters
from inhouse.engines.memory import with_adapters
from inhouse.weights.look import read_path
from serving import Gateway, serving, started

DEMO = Path(str(files("inhouse.weights") / "demo.gguf"))
RANK = 4


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random numbers, large enough to change what is said."""
    path = tmp_path_factory.mktemp("lora") / "adapter.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(RANK))
    rng = np.random.default_rng(0)
    for tensor in read_path(DEMO).tensors:
        if tensor.name.endswith(("attn_q.weight", "ffn_down.weight")):
            inner, outer = tensor.shape
            writer.add_tensor(f"{tensor.name}.lora_a", rng.normal(0, 0.3, (RANK, inner)).astype(np.float32))
            writer.add_tensor(f"{tensor.name}.lora_b", rng.normal(0, 0.3, (outer, RANK)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def says(gateway: Gateway, model: str) -> str:
    client = client_at(gateway)
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "What is a replica?"}], max_tokens=12, temperature=0
    )
    return str(answer.choices[0].message.content)


def test_an_adapter_changes_what_is_said(tmp_path: Path, adapter: Path) -> None:
    """At full strength it does, at none it does not; who can take adapters says so of itself."""
    models = {
        "plain": "",
        "full": f", engine_args: [--lora, {adapter}]",
        "none": f', engine_args: [--lora-scaled, "{adapter}:0"]',
    }
    lines = "".join(f"  {name}: {{source: demo, slots: 1, threads: 1{more}}}\n" for name, more in models.items())
    with serving(tmp_path, f"models:\n{lines}") as gateway:
        plain, full, none = (says(gateway, name) for name in models)
        able = {entry["id"]: entry["capabilities"] for entry in gateway.get("/v1/models")["data"]}
    assert plain == none != full
    assert "lora" in able["full"]
    assert "lora" not in able["plain"]


def test_an_adapter_that_is_not_there(tmp_path: Path) -> None:
    """The model fails, and the reason names the file's name."""
    stack = "models: {demo: {source: demo, threads: 1, engine_args: [--lora, /nowhere/adapter.gguf]}}"
    gateway = started(tmp_path, stack)
    try:
        assert "adapter.gguf" in gateway.wait_for(event="replica", state="failed")["reason"]
    finally:
        gateway.stop()


def test_adapters_are_planned_with_their_size(adapter: Path) -> None:
    """In all the ways of llama-server's flags; what is not there counts nothing."""
    args = ("--lora", f"{adapter},/nowhere.gguf", "--lora-scaled", f"{adapter}:0.5")
    assert adapters(args) == (adapter, Path("/nowhere.gguf"), adapter)
    spec = with_adapters(Spec("m", DEMO, 512, 1, extra_args=args))
    assert spec.adapter_bytes == 2 * adapter.stat().st_size
