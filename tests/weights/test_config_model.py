"""What a model with a config.json is: as transformers reads it, or unknown."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.weights.safetensors_bytes import CONFIG

from inhouse.weights import config_layers, config_model
from inhouse.weights.config_model import Beside
from inhouse.weights.header import AttentionLayer, Header, Tensor


def described(config: dict[str, Any], tensors: tuple[Tensor, ...] = (), beside: Beside | None = None) -> Header:
    return config_model.describe(config, tensors, beside or Beside(), files=1, file_bytes=1)


def windows(header: Header) -> str:
    assert header.attention is not None, header.attention_unknown
    return "".join("-" if not layer.keeps_kv else "w" if layer.window_tokens else "." for layer in header.attention)


def test_a_model_is_described() -> None:
    header = described(
        {**CONFIG, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 24},
        (Tensor("a", "BF16", (32, 64), 4096), Tensor("b", "F32", (64,), 256)),
        Beside("Tiny", {"tokenizer_class": "Qwen2Tokenizer"}, "{{ m }}", {}, "apache-2.0", "https://example.com"),
    )
    assert (header.form, header.architecture, header.name, header.quantisation) == (
        "safetensors", "qwen3", "Tiny", "BF16",
    )  # fmt: skip
    assert header.attention == (AttentionLayer(4, 2, 16, 16),) * 2
    assert (header.layers, header.embedding, header.feed_forward, header.vocabulary) == (2, 64, 96, 32)
    assert (header.experts, header.experts_used, header.expert_feed_forward) == (8, 2, 24)
    assert (header.context_tokens, header.parameters, header.weights_bytes) == (2048, 32 * 64 + 64, 4352)
    assert (header.tokenizer, header.chat_template, header.licence) == ("Qwen2Tokenizer", "{{ m }}", "apache-2.0")


def test_of_a_model_that_sees_the_language_part_is_described() -> None:
    """Gemma 3's published config leaves most of it out."""
    text = {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34}
    header = described(
        {"model_type": "gemma3", "text_config": {**text, "sliding_window": 1024}, "vision_config": {"hidden_size": 9}}
    )
    assert (header.architecture, header.embedding, header.vocabulary) == ("gemma3", 2560, 262_208)
    assert windows(header) == "wwwww." * 5 + "wwww"
    assert (header.heads, header.kv_heads, header.key_length, header.sliding_window) == (8, 4, 256, 1024)
    assert header.context_tokens == 131_072


REFERENCE = (
    "llama gemma2 gemma3_text gemma3 gemma4_text gemma4 qwen2 qwen3 qwen3_moe qwen3_vl mistral mixtral mistral3 "
    "ministral phi phi3 phimoe gpt_oss cohere2 olmo3 exaone4 exaone_moe smollm3 llama4_text starcoder2 granite "
    "glm4_moe gpt2 falcon gpt_neox gpt_bigcode mpt afmoe mimo_v2_flash laguna"
)


@pytest.mark.parametrize("kind", REFERENCE.split())
def test_layers_are_as_transformers_makes_its_cache(kind: str) -> None:
    """Of every kind's default config, written as a config.json: which layers have a window, and how long it is."""
    from transformers import CONFIG_MAPPING
    from transformers.cache_utils import DynamicCache

    config = CONFIG_MAPPING[kind]()
    cache = DynamicCache(config=config)
    header = described(json.loads(config.to_json_string()))
    assert header.attention is not None, header.attention_unknown
    kept = [layer for layer in header.attention if layer.keeps_kv]
    assert [layer.window_tokens for layer in kept] == [getattr(layer, "sliding_window", None) for layer in cache.layers]
    text = config.get_text_config()
    assert {layer.heads for layer in kept} == {text.num_attention_heads} or kind == "laguna"


@pytest.mark.parametrize("kind", sorted(config_layers.LEFT_OUT))
def test_what_configs_leave_out_is_what_transformers_takes(kind: str) -> None:
    from transformers import CONFIG_MAPPING

    config = CONFIG_MAPPING[kind]()
    config.allow_global_per_layer_attribute_access = True
    for name, value in config_layers.LEFT_OUT[kind].items():
        if name == "global_head_dim":
            assert value in {
                layer["head_dim"] for layer in json.loads(config.to_json_string())["per_layer_config"].values()
            }
        else:
            assert getattr(config, name) == value


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("deepseek_v3", "compressed form"),
        ("qwen3_next", "keep a state"),
        ("mamba2", "keep a state"),
        ("jamba", "keep a state"),
        ("lfm2", "keep a state"),
        ("nemotron_h", "keep a state"),
        ("falcon_h1", "keep a state"),
        ("recurrent_gemma", "keep a state"),
        ("deepseek_v4", "an index"),
        ("t5", "an encoder with a decoder"),
        ("rwkv", "how many heads"),
    ],
)
def test_what_keeps_another_state_is_unknown(kind: str, reason: str) -> None:
    from transformers import CONFIG_MAPPING

    header = described(json.loads(CONFIG_MAPPING[kind]().to_json_string()))
    assert header.attention is None
    assert reason in (header.attention_unknown or "")


@pytest.mark.parametrize(
    ("changes", "seen"),
    [
        ({"sliding_window": 64, "use_sliding_window": False}, ".."),
        ({"sliding_window": 64, "use_sliding_window": True, "max_window_layers": 1}, ".w"),
        ({"sliding_window": 64, "layer_types": ["full_attention", "sliding_attention"]}, ".w"),
        ({"sliding_window": 64, "sliding_window_pattern": 2}, "w."),
        ({"model_type": "mistral", "sliding_window": 64}, "ww"),
        ({"num_kv_shared_layers": 1}, ".-"),
        ({"model_type": "bert"}, "--"),
        ({"use_bidirectional_attention": True}, "--"),
    ],
)
def test_which_layers_look_at_a_window(changes: dict[str, Any], seen: str) -> None:
    assert windows(described({**CONFIG, **changes})) == seen


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sliding_window": 64, "model_type": "made_up"}, "does not say which"),
        ({"layer_types": ["sliding_attention"] * 2}, "how long that is"),
        ({"layer_types": ["full_attention"]}, "1 entries for 2 layers"),
        ({"layer_types": ["full_attention", "odd"]}, "are 'odd'"),
        ({"num_attention_heads": None}, "how many heads"),
        ({"num_attention_heads": -1}, "not a number up to"),
        ({"num_hidden_layers": 10**9}, "not a number up to 1024"),
        ({"swa_head_dim": 8}, "heads of their own"),
        ({"block_configs": [1]}, "one by one"),
    ],
)
def test_what_is_not_clear_is_unknown(changes: dict[str, Any], reason: str) -> None:
    header = described({**CONFIG, **changes})
    assert header.attention is None
    assert reason in (header.attention_unknown or "")


def test_a_config_that_its_weights_contradict_is_not_believed() -> None:
    """A planner would reckon with half of the memory."""
    wide = Tensor("model.layers.1.self_attn.k_proj.weight", "BF16", (64, 64), 8192)
    header = described(CONFIG, (wide,))
    assert header.attention is None
    assert "keys of 32 elements, its weights of 64" in (header.attention_unknown or "")


@pytest.mark.parametrize(
    ("config", "tensors", "called", "parameters"),
    [
        (
            {"quant_method": "gptq", "bits": 4},
            (
                ("m.qweight", "I32", (8, 64)),
                ("m.scales", "F16", (1, 64)),
                ("m.qzeros", "I32", (1, 8)),
                ("n", "F16", (8,)),
            ),
            "gptq 4-bit",
            8 * 64 * 8 + 8,
        ),
        ({"quant_method": "awq", "bits": 4}, (("m.qweight", "I32", (64, 8)),), "awq 4-bit", 64 * 8 * 8),
        (
            {"quant_method": "bitsandbytes", "load_in_4bit": True},
            (("m.weight", "U8", (512, 1)), ("m.weight.absmax", "U8", (16,)), ("m.weight.quant_state.x", "U8", (80,))),
            "bitsandbytes 4-bit",
            1024,
        ),
        ({"quant_method": "fp8"}, (("m.weight", "F8_E4M3", (8, 8)), ("m.weight_scale_inv", "F32", (1, 1))), "fp8", 64),
        (
            {"quant_method": "mxfp4"},
            (("e.gate_up_proj_blocks", "U8", (2, 4, 2, 16)), ("e.gate_up_proj_scales", "U8", (2, 4, 2))),
            "mxfp4",
            2 * 4 * 2 * 16 * 2,
        ),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"num_bits": 4}}}},
            (("m.weight_packed", "I32", (8, 8)), ("m.weight_scale", "BF16", (8, 1)), ("m.weight_shape", "I64", (2,))),
            "compressed-tensors 4-bit",
            8 * 8 * 8,
        ),
    ],
)
def test_packed_weights_are_counted_one_by_one(
    config: dict[str, Any], tensors: tuple[tuple[str, str, tuple[int, ...]], ...], called: str, parameters: int
) -> None:
    header = described({**CONFIG, "quantization_config": config}, tuple(Tensor(*tensor, 1) for tensor in tensors))
    assert (header.quantisation, header.parameters) == (called, parameters)


@pytest.mark.parametrize(
    ("config", "pooling", "expected"),
    [
        ({}, {}, None),
        ({}, {"pooling_mode_mean_tokens": True}, "mean"),
        ({}, {"pooling_mode_lasttoken": True, "pooling_mode_cls_token": False}, "last"),
        ({"architectures": ["XLMRobertaForSequenceClassification"]}, {}, "rank"),
    ],
)
def test_models_that_embed_or_rank_say_how(
    config: dict[str, Any], pooling: dict[str, Any], expected: str | None
) -> None:
    assert described({**CONFIG, **config}, beside=Beside(pooling=pooling)).pooling == expected


def test_of_several_templates_the_default_is_taken() -> None:
    templates = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]
    assert described(CONFIG, beside=Beside(tokenizer={"chat_template": templates})).chat_template == "D"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)
KEYS = st.sampled_from(
    [
        *(*CONFIG, *config_layers.NAMES, "layer_types", "text_config", "quantization_config", "per_layer_config"),
        *("v_head_dim", "sliding_window_pattern", "use_sliding_window", "num_kv_shared_layers", "attention_k_eq_v"),
        *("global_head_dim", "max_window_layers", "global_attn_every_n_layers"),
    ]
)


@given(changes=st.dictionaries(KEYS, VALUES, max_size=6))
def test_any_config_is_described(changes: dict[str, Any]) -> None:
    """Whatever stands in it, the answer is a header; what makes no sense is not in it."""
    header = described(
        {**CONFIG, **changes}, (Tensor("model.layers.0.self_attn.k_proj.weight", "BF16", (32, 64), 4096),)
    )
    assert header.attention is None or header.attention_unknown is None
