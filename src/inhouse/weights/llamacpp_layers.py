"""Which layers of a GGUF model keep what, as llama.cpp reads it.

A file says only a part of it: how many layers of Gemma 3 look at a window stands in llama.cpp's source
(`src/models/*.cpp`, state of b11549), and so it does here. For what keeps a state of another kind there is a reason
in words and no numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

from inhouse.weights.facts import HEADS_MAX, LAYERS_MAX, LENGTH_MAX, Facts, Unknown
from inhouse.weights.header import AttentionLayer


@dataclass(frozen=True, slots=True)
class Window:
    """Of each `period` of layers one sees all, the last or, if `dense_first`, the first; the others see a window."""

    period: int
    dense_first: bool = False
    tokens: int | None = None
    """Where the file names no length; None: then no layer has a window."""
    tokens_fixed: int | None = None
    """Whatever length the file names, if it is not 0."""

    def covers(self, layer: int, period: int) -> bool:
        if period == 0:
            return True
        return layer % period != 0 if self.dense_first else layer % period < period - 1


WINDOWS: dict[str, Window] = {
    "afmoe": Window(4),
    "cohere2": Window(4),
    "cohere2moe": Window(4, dense_first=True),
    "exaone-moe": Window(4, tokens=128),
    "exaone4": Window(4, tokens=4096),
    "gemma-embedding": Window(6),
    "gemma-embedding2": Window(6),
    "gemma2": Window(2, tokens=4096),
    "gemma3": Window(6),
    "gemma3n": Window(5),
    "gpt-oss": Window(2),
    "laguna": Window(4, dense_first=True),
    "llama4": Window(4, tokens=8192, tokens_fixed=8192),
    "mellum": Window(4),
    "modern-bert": Window(3, dense_first=True),
    "muse-glimmer": Window(4),
    "olmo2": Window(4),
    "plamo3": Window(8),
    "smallthinker": Window(4, dense_first=True, tokens_fixed=4096),
}
"""Architectures whose pattern llama.cpp knows by itself; a pattern in the file comes before it."""

WINDOW_IGNORED = frozenset(
    {"llama", "mistral3", "phi3", "phimoe", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "starcoder2"}
)
"""Those of which llama.cpp sees all tokens, whatever window the file names."""

# fmt: off
ENCODERS = frozenset((
    "bert", "clef", "dream", "eurobert", "gemma-embedding", "gemma-embedding2", "jina-bert-v2", "jina-bert-v3", "llada",
    "llada-moe", "modern-bert", "neo-bert", "nomic-bert", "nomic-bert-moe", "rnd1", "wavtokenizer-dec",
))
"""They read a whole text at once, so nothing is kept."""

_STATEFUL = (
    "arwkv7", "bailingmoe3", "falcon-h1", "glm5-next", "granitehybrid", "jamba", "kimi-k3", "kimi-linear", "lfm2",
    "lfm2moe", "mamba", "mamba2", "minimax-01", "nemotron_h", "nemotron_h_moe", "plamo2", "qwen35", "qwen35moe",
    "qwen3next", "qwen4exp", "rwkv6", "rwkv6qwen2", "rwkv7",
)
_COMPRESSING = (
    "deepseek2-ocr", "deepseek32", "deepseek4", "dots3note", "glm-dsa", "hy_v4", "minimax-m3", "mistral4",
)
# fmt: on
STATE_SPACE = "some of its layers keep a state instead of keys and values"
COMPRESSED = "it keeps keys and values in a compressed form"
OTHER: dict[str, str] = {
    **dict.fromkeys(_STATEFUL, STATE_SPACE),
    **dict.fromkeys(_COMPRESSING, COMPRESSED),
    **dict.fromkeys(("t5", "t5encoder"), "it is an encoder with a decoder"),
    **dict.fromkeys(
        ("dflash", "eagle3", "gemma4-assistant"), "it only drafts for another model, whose keys and values it uses"
    ),
}
"""Architectures that keep a state of another kind → which."""

_SIGNS = {
    "attention.compress_ratios": COMPRESSED,
    "attention.indexer.head_count": "it keeps an index beside keys and values",
    "attention.kv_lora_rank": COMPRESSED,
    "attention.recurrent_layers": STATE_SPACE,
    "full_attention_interval": STATE_SPACE,
    "kda.head_dim": STATE_SPACE,
    "shortconv.l_cache": STATE_SPACE,
    "ssm.state_size": STATE_SPACE,
    "wkv.head_size": STATE_SPACE,
}
"""Keys that tell of a state of another kind, for architectures that are not known here."""


def attention(name: str, facts: Facts) -> tuple[AttentionLayer, ...]:
    """Raises `Unknown`."""
    if reason := OTHER.get(name) or next((why for sign, why in _SIGNS.items() if sign in facts), None):
        raise Unknown(reason)
    layers = facts.one("block_count", LAYERS_MAX)
    if not layers:
        raise Unknown("it does not say how many layers it has")
    heads = facts.each("attention.head_count", layers, HEADS_MAX)
    if heads is None:
        raise Unknown("it does not say how many heads its layers have")
    kv_heads = facts.each("attention.head_count_kv", layers, HEADS_MAX) or heads
    embedding = facts.one("embedding_length", LENGTH_MAX)
    windows = _windows(name, facts, layers)
    kept = _kept(name, facts, layers)
    sizes = [_sizes(facts, heads, embedding, windowed=False), _sizes(facts, heads, embedding, windowed=True)]
    return tuple(
        AttentionLayer(heads[at], kv_heads[at], *sizes[windows[at] is not None], windows[at], keeps_kv=at < kept)
        for at in range(layers)
    )


def _sizes(facts: Facts, heads: tuple[int, ...], embedding: int | None, *, windowed: bool) -> tuple[int, int]:
    """Lengths of a head's key and value. Where the file is silent the first layer's heads share the hidden vector."""
    found = []
    for what in ("key", "value"):
        length = facts.one(f"attention.{what}_length", LENGTH_MAX)
        if windowed and f"attention.{what}_length_swa" in facts:
            length = facts.one(f"attention.{what}_length_swa", LENGTH_MAX)
        if length is None:
            if embedding is None or not heads[0]:
                raise Unknown("it does not say how large a head is")
            length = embedding // heads[0]
        found.append(length)
    return found[0], found[1]


def _windows(name: str, facts: Facts, layers: int) -> tuple[int | None, ...]:
    """The window of each layer, None for those that see everything."""
    seeing_all = (None,) * layers
    if name in WINDOW_IGNORED or (name == "exaone4" and layers != 64):
        return seeing_all
    own = WINDOWS.get(name)
    tokens = facts.one("attention.sliding_window", 2**31)
    if own is not None:
        tokens = own.tokens if tokens is None else tokens and (own.tokens_fixed or tokens)
    if not tokens:
        return seeing_all
    trunk = layers - _speculative(facts, layers)
    pattern = "attention.sliding_window_pattern"
    if facts.is_list(pattern):
        flags = [bool(flag) for flag in facts.each(pattern, trunk, 1) or ()]
    elif own is not None:
        period = facts.one(pattern, LAYERS_MAX)
        flags = [own.covers(at, own.period if period is None else period) for at in range(trunk)]
    else:
        raise Unknown("some of its layers look at a window, and it does not say which")
    return tuple(tokens if flag else None for flag in flags) + (None,) * (layers - trunk)


def _kept(name: str, facts: Facts, layers: int) -> int:
    """How many of its layers, from the first, keep keys and values."""
    if name in ENCODERS:
        return 0
    if name == "gemma3n":
        return min(20, layers)
    shared = facts.one("attention.shared_kv_layers", layers) or 0 if name == "gemma4" else 0
    return layers - max(shared, _speculative(facts, layers))


def _speculative(facts: Facts, layers: int) -> int:
    """The last layers, which guess further tokens and are no part of a plain generation."""
    count = facts.one("nextn_predict_layers", layers) or 0
    return count if count < layers else 0
