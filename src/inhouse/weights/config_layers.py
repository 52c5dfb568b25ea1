"""Which layers of a model with a `config.json` keep what, as transformers and vLLM read it.

What the file leaves out is what transformers takes for that kind of model (`CONFIG_MAPPING[model_type]()`, version
5.24). What keeps a state of another kind, or says less than is needed, is unknown, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inhouse.weights.facts import HEADS_MAX, LAYERS_MAX, LENGTH_MAX, Fact, Facts, Unknown
from inhouse.weights.header import AttentionLayer
from inhouse.weights.llamacpp_layers import COMPRESSED, STATE_SPACE

NAMES: dict[str, str] = {
    "d_model": "hidden_size",
    "dim": "hidden_size",
    "n_embd": "hidden_size",
    "n_head": "num_attention_heads",
    "n_heads": "num_attention_heads",
    "n_inner": "intermediate_size",
    "n_layer": "num_hidden_layers",
    "n_layers": "num_hidden_layers",
    "n_positions": "max_position_embeddings",
    "ffn_hidden_size": "intermediate_size",
    "num_layers": "num_hidden_layers",
}
"""Other names for the same, in older configs."""

LEFT_OUT: dict[str, Mapping[str, Fact]] = {
    "gemma3_text": {
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131_072,
        "vocab_size": 262_208,
        "sliding_window": 4_096,
    },
    "gemma2": {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "sliding_window": 4_096},
    "gemma4_text": {"head_dim": 256, "global_head_dim": 512, "max_position_embeddings": 131_072, "sliding_window": 512},
    "mistral": {"num_key_value_heads": 8, "max_position_embeddings": 131_072},
    "mixtral": {"num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2},
    "gpt_oss": {"head_dim": 64, "sliding_window": 128},
    "qwen3": {"head_dim": 128},
}
"""Kind of model → what its published configs leave out."""

PERIODS: dict[str, int] = {
    "cohere2": 4,
    "exaone4": 4,
    "gemma2": 2,
    "gemma3_text": 6,
    "gemma3n_text": 5,
    "gemma4_text": 6,
    "gpt_oss": 2,
    "llama4_text": 4,
    "olmo3": 4,
}
"""Kind of model → of so many layers the last sees all, the others a window; where `layer_types` does not say."""

WINDOW_EVERYWHERE = frozenset({"ministral", "mistral", "mixtral", "phi3", "phimoe", "starcoder2"})
ENCODERS = frozenset(
    {"bert", "camembert", "deberta-v2", "distilbert", "electra", "eurobert", "modernbert", "mpnet", "new", "nomic_bert"}
    | {"roberta", "xlm-roberta"}
)
"""They read a whole text at once, so nothing is kept."""

_KINDS_OF_LAYERS = {"attention", "chunked_attention", "full_attention", "sliding_attention"}
# fmt: off
_STATEFUL = (
    "attn_layer_period", "conv_L_cache", "full_attn_idxs", "hybrid_override_pattern", "layers_block_type",
    "linear_attn_config", "linear_num_key_heads", "lru_width", "mamba_d_state", "ssm_cfg", "ssm_state_size",
    "state_size", "time_mix_extra_dim", "wkv_head_size",
)
# fmt: on
_SIGNS: dict[str, str] = {
    **dict.fromkeys(("index_n_heads", "index_topk"), "it keeps an index beside keys and values"),
    "kv_lora_rank": COMPRESSED,
    **dict.fromkeys(_STATEFUL, STATE_SPACE),
    **dict.fromkeys(("swa_head_dim", "swa_num_key_value_heads"), "its layers with a window have heads of their own"),
    "block_configs": "its layers are described one by one, in a form of its own",
}
"""Keys that tell of a state of another kind."""


def attention(kind: str, config: Mapping[str, object], facts: Facts) -> tuple[AttentionLayer, ...]:
    """`facts` are the numbers of `config`. Raises `Unknown`."""
    if reason := next((why for sign, why in _SIGNS.items() if config.get(sign)), None):
        raise Unknown(reason)
    if config.get("is_encoder_decoder"):
        raise Unknown("it is an encoder with a decoder")
    layers = facts.one("num_hidden_layers", LAYERS_MAX)
    if not layers:
        raise Unknown("it does not say how many layers it has")
    kinds = _kinds(config, layers)
    heads = facts.each("num_attention_heads", layers, HEADS_MAX)
    if heads is None:
        raise Unknown("it does not say how many heads its layers have")
    kv_heads = _kv_heads(config, facts, heads)
    length = _head_length(facts, heads)
    windows = _windows(kind, config, facts, kinds, layers)
    kept = layers - (facts.one("num_kv_shared_layers", layers) or 0)
    if kind in ENCODERS or config.get("use_bidirectional_attention") is True or config.get("is_causal") is False:
        kept = 0
    wide = facts.one("global_head_dim", LENGTH_MAX)
    wide_kv = facts.one("num_global_key_value_heads", HEADS_MAX) if config.get("attention_k_eq_v") else None
    found = []
    for at in range(layers):
        own = _single(config, at)
        size = length if windows[at] is not None else wide or length
        size = own.one("head_dim", LENGTH_MAX) or size
        keys = kv_heads[at] if windows[at] is not None else wide_kv or kv_heads[at]
        keys = own.one("num_key_value_heads", HEADS_MAX) or keys
        values = facts.one("v_head_dim", LENGTH_MAX) or size
        found.append(AttentionLayer(heads[at], keys, size, values, windows[at], keeps_kv=at < kept))
    return tuple(found)


def _single(config: Mapping[str, object], layer: int) -> Facts:
    """What `per_layer_config` says of one layer; its keys are numbers, filled up with zeros."""
    table = config.get("per_layer_config")
    if not isinstance(table, dict):
        return Facts({}, label="")
    own: object = next((table[key] for key in (str(layer), f"{layer:02}", f"{layer:03}") if key in table), {})
    numbers = own.items() if isinstance(own, dict) else ()
    return Facts({key: value for key, value in numbers if isinstance(value, int)}, label=f"per_layer_config.{layer}.")


def _kinds(config: Mapping[str, object], layers: int) -> Sequence[str] | None:
    """What each layer does, where it is told."""
    given = config.get("layer_types")
    if not isinstance(given, list):
        return None
    if len(given) < layers:
        raise Unknown(f"layer_types has {len(given)} entries for {layers} layers")
    kinds = [str(kind) for kind in given[:layers]]
    if other := next((kind for kind in kinds if kind not in _KINDS_OF_LAYERS), None):
        raise Unknown(
            STATE_SPACE if "linear" in other or "mamba" in other else f"some of its layers are '{other[:40]}'"
        )
    return kinds


def _kv_heads(config: Mapping[str, object], facts: Facts, heads: tuple[int, ...]) -> tuple[int, ...]:
    layers = len(heads)
    if config.get("multi_query") is True and not config.get("new_decoder_architecture"):
        return (1,) * layers
    for name in ("num_key_value_heads", "num_kv_heads", "multi_query_group_num"):
        if (found := facts.each(name, layers, HEADS_MAX)) is not None:
            return found
    return heads


def _head_length(facts: Facts, heads: tuple[int, ...]) -> int:
    length = facts.one("head_dim", LENGTH_MAX)
    hidden = facts.one("hidden_size", LENGTH_MAX)
    if length is None:
        if hidden is None or not heads[0]:
            raise Unknown("it does not say how large a head is")
        length = hidden // heads[0]
    return length


def _windows(
    kind: str, config: Mapping[str, object], facts: Facts, kinds: Sequence[str] | None, layers: int
) -> tuple[int | None, ...]:
    """The window of each layer, None for those that see everything."""
    tokens = facts.one("sliding_window", 2**31) or facts.one("attention_chunk_size", 2**31)
    tokens = tokens or facts.one("local_attention", 2**31)
    if kinds is not None:
        if tokens is None and any("full" not in each and each != "attention" for each in kinds):
            raise Unknown("some of its layers look at a window, and it does not say how long that is")
        return tuple(tokens if each in ("sliding_attention", "chunked_attention") else None for each in kinds)
    if not tokens or config.get("use_sliding_window") is False:
        return (None,) * layers
    if kind in WINDOW_EVERYWHERE:
        return (tokens,) * layers
    if (every := facts.one("global_attn_every_n_layers", LAYERS_MAX)) is not None:
        return tuple(tokens if every and at % every else None for at in range(layers))
    period = facts.one("sliding_window_pattern", LAYERS_MAX)
    if period is None:
        period = PERIODS.get(kind)
    if period:
        return tuple(tokens if at % period < period - 1 else None for at in range(layers))
    if config.get("use_sliding_window") is True:
        first = facts.one("max_window_layers", LAYERS_MAX) or 0
        return tuple(tokens if at >= first else None for at in range(layers))
    raise Unknown("some of its layers look at a window, and it does not say which")
