"""`config.json` and what lies beside it, with the tensors of safetensors files → what the model is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from inhouse.weights import config_layers, packed
from inhouse.weights.config_layers import LEFT_OUT, NAMES
from inhouse.weights.facts import EXPERTS_MAX, LENGTH_MAX, Fact, Facts, Unknown
from inhouse.weights.header import AttentionLayer, Header, Tensor
from inhouse.weights.text import printable, word

TEXT_PARTS = ("text_config", "llm_config", "language_config", "thinker_config")
"""Where the language model of one that also sees or hears is described."""
_KEYS_OF_LAYER = re.compile(r"(?:.*\.)?layers\.(\d{1,4})\.(?:self_attn|attention)\.k_proj\.weight")


@dataclass(frozen=True, slots=True)
class Beside:
    """Other files of the folder, as far as they were there and could be read."""

    name: str | None = None
    tokenizer: Mapping[str, object] = field(default_factory=dict)
    """tokenizer_config.json"""
    chat_template: str | None = None
    pooling: Mapping[str, object] = field(default_factory=dict)
    """1_Pooling/config.json"""
    licence: str | None = None
    licence_url: str | None = None


def describe(
    config: Mapping[str, object], tensors: Sequence[Tensor], beside: Beside, *, files: int, file_bytes: int
) -> Header:
    """`files` and `file_bytes` are those of the safetensors files."""
    outer, config = config, _text_part(config)
    kind = word(config.get("model_type"))
    facts = _facts(kind or "", config)
    layers = facts.known("num_hidden_layers", 1_024)
    attention, unknown = None, None
    try:
        attention = config_layers.attention(kind or "", config, facts)
        _check_shapes(attention, tensors)
    except Unknown as reason:
        attention, unknown = None, str(reason)
    return Header(
        form="safetensors",
        architecture=word(outer.get("model_type")) or kind,
        name=beside.name,
        parameters=packed.parameters(tensors, outer.get("quantization_config")),
        layers=layers,
        attention=attention,
        attention_unknown=unknown,
        embedding=facts.known("hidden_size", LENGTH_MAX),
        feed_forward=facts.largest("intermediate_size", layers or 1, LENGTH_MAX),
        expert_feed_forward=facts.known("moe_intermediate_size", LENGTH_MAX),
        experts=_first(facts, "num_experts", "num_local_experts", "n_routed_experts"),
        experts_used=_first(facts, "num_experts_per_tok", "top_k_experts"),
        vocabulary=facts.known("vocab_size", LENGTH_MAX),
        context_tokens=facts.known("max_position_embeddings", 2**31),
        quantisation=packed.quantisation(outer.get("quantization_config")) or _main_kind(tensors),
        tokenizer=word(beside.tokenizer.get("tokenizer_class")),
        chat_template=beside.chat_template or _template(beside.tokenizer.get("chat_template")),
        pooling=_pooling(outer, beside.pooling),
        licence=beside.licence,
        licence_url=beside.licence_url,
        tensors=tuple(tensors),
        files=files,
        file_bytes=file_bytes,
    )


def _text_part(config: Mapping[str, object]) -> Mapping[str, object]:
    for name in TEXT_PARTS:
        part = config.get(name)
        if isinstance(part, dict):
            return _text_part(part) if name == "thinker_config" else part
    return config


def _facts(kind: str, config: Mapping[str, object]) -> Facts:
    """Numbers and lists of numbers under their present names; `null` is as if it were not there."""
    values: dict[str, Fact] = {**LEFT_OUT.get(kind, {})}
    for key, value in config.items():
        name = NAMES.get(key, key)
        if value is None and key in ("sliding_window", "global_head_dim"):
            values.pop(key, None)
        elif isinstance(value, int | float):
            values[name] = value
        elif isinstance(value, list) and all(isinstance(entry, int | float) for entry in value):
            values[name] = tuple(value)
    return Facts(values, label="")


def _check_shapes(layers: Sequence[AttentionLayer], tensors: Sequence[Tensor]) -> None:
    """Keys as wide in the weights as the config says. Raises `Unknown`.

    Weights that are packed have other shapes, and what a layer borrows may be missing.
    """
    for tensor in tensors:
        match = _KEYS_OF_LAYER.fullmatch(tensor.name)
        if match is None or "vision" in tensor.name or "audio" in tensor.name or len(tensor.shape) != 2:
            continue
        if tensor.kind not in packed.PLAIN or int(match[1]) >= len(layers):
            continue
        layer = layers[int(match[1])]
        if tensor.shape[0] != layer.kv_heads * layer.key_length:
            raise Unknown(
                f"its config.json speaks of keys of {layer.kv_heads * layer.key_length} elements, its weights of "
                f"{tensor.shape[0]}"
            )


def _first(facts: Facts, *names: str) -> int | None:
    return next((found for name in names if (found := facts.known(name, EXPERTS_MAX))), None)


def _main_kind(tensors: Sequence[Tensor]) -> str | None:
    """The type that most bytes have."""
    sums: Counter[str] = Counter()
    for tensor in tensors:
        sums[tensor.kind] += tensor.bytes
    return max(sums, key=lambda kind: sums[kind]) if sums else None


def _template(given: object) -> str | None:
    """One text, or of several with names the one called `default`."""
    if isinstance(given, list):
        named = {entry.get("name"): entry.get("template") for entry in given if isinstance(entry, dict)}
        given = named.get("default")
    return given if isinstance(given, str) and given else None


def _pooling(config: Mapping[str, object], pooling: Mapping[str, object]) -> str | None:
    for key, name in (("mean_tokens", "mean"), ("cls_token", "cls"), ("lasttoken", "last"), ("max_tokens", "max")):
        if pooling.get(f"pooling_mode_{key}") is True:
            return name
    said = pooling.get("pooling_mode")
    if isinstance(said, str):
        return printable(said, 20)
    classes = config.get("architectures")
    if isinstance(classes, list) and any(str(name).endswith("ForSequenceClassification") for name in classes):
        return "rank"
    return None
