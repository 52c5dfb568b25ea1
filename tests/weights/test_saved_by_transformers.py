"""Folders as `save_pretrained` writes them: what is read from the headers is what the model was built as."""

from __future__ import annotations

from pathlib import Path

import pytest

from inhouse.weights.look import look

SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
}


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("llama", {}),
        ("qwen3", {"tie_word_embeddings": True}),
        ("gemma3_text", {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"] * 2}),
        ("qwen3_moe", {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8}),
        ("gpt_oss", {"num_local_experts": 4, "num_experts_per_tok": 2}),
        ("gpt2", {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 256}),
    ],
)
def test_a_saved_model_is_read_as_it_was_built(tmp_path: Path, kind: str, more: dict[str, object]) -> None:
    """Parameters, layers, heads, windows and experts, of shards with an index beside them."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    config = CONFIG_MAPPING[kind](
        **({} if kind == "gpt2" else SMALL), **({"vocab_size": 64} if kind == "gpt2" else {}), **more
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "m", max_shard_size="20KB")
    header = look("m", base=tmp_path)
    assert header.files > 1
    assert header.parameters == model.num_parameters()
    assert (header.architecture, header.quantisation, header.vocabulary) == (kind, "BF16", 64)
    assert (header.layers, header.embedding, header.context_tokens) == (4, 32, 256)
    assert header.attention is not None, header.attention_unknown
    assert header.kv_heads == (4 if kind == "gpt2" else 2)
    assert header.key_length == (8 if kind == "gpt2" else 16)
    assert (header.experts, header.experts_used) == ((4, 2) if "experts_per_tok" in str(more) else (None, None))
    windows = [layer.window_tokens for layer in header.attention]
    assert windows == ([8, None] * 2 if kind == "gemma3_text" else [128, None] * 2 if kind == "gpt_oss" else [None] * 4)
