"""GGUF headers → what the model is. Of a split model each part is read and their tensors are summed."""

from __future__ import annotations

from collections.abc import Sequence

from inhouse.errors import WeightsError
from inhouse.weights import llamacpp_layers
from inhouse.weights.gguf import GgufHeader, printable
from inhouse.weights.header import Header
from inhouse.weights.llamacpp_layers import LENGTH_MAX, Facts, Unknown

POOLINGS = {1: "mean", 2: "cls", 3: "last", 4: "rank"}
EXPERTS_MAX = 65_536


def describe(parts: Sequence[GgufHeader], file_bytes: Sequence[int], *, label: str) -> Header:
    """The first part is the one that names the architecture. Raises `WeightsError` if parts are missing."""
    first = parts[0]
    if first.splits_count != len(parts):
        raise WeightsError(
            f"{label} consists of {first.splits_count} files, and here there are {len(parts)}",
            hint="keep the names that they had when they were split, -00001-of-00003.gguf and so on, in one folder",
        )
    facts = _facts(first)
    attention, unknown = None, None
    try:
        attention = llamacpp_layers.attention(facts)
    except Unknown as reason:
        unknown = str(reason)
    tensors = tuple(tensor for part in parts for tensor in part.tensors)
    return Header(
        form="gguf",
        architecture=first.architecture,
        name=first.name,
        parameters=sum(part.parameters for part in parts),
        layers=first.layers,
        attention=attention,
        attention_unknown=unknown,
        embedding=first.embedding,
        feed_forward=_largest(facts, "feed_forward_length", first.layers),
        expert_feed_forward=_largest(facts, "expert_feed_forward_length", first.layers),
        experts=_one(facts, "expert_count", EXPERTS_MAX) or None,
        experts_used=_one(facts, "expert_used_count", EXPERTS_MAX) or None,
        vocabulary=first.vocabulary,
        context_tokens=first.context_tokens,
        quantisation=first.file_type,
        tokenizer=_tokenizer(first),
        chat_template=_text(first, "tokenizer.chat_template"),
        pooling=POOLINGS.get(_one(facts, "pooling_type", 255) or 0),
        licence=_shown(first, "general.license"),
        licence_url=_shown(first, "general.license.link"),
        tensors=tensors,
        files=len(parts),
        file_bytes=sum(file_bytes),
    )


def _facts(header: GgufHeader) -> Facts:
    """Texts are of no use there, and a float where a whole number belongs is told by whoever asks for it."""
    start = f"{header.architecture}."
    values: dict[str, llamacpp_layers.Fact] = {
        key.removeprefix(start): value
        for key, value in (*header.scalars.items(), *header.lists.items())
        if key.startswith(start) and not isinstance(value, str)
    }
    return Facts(header.architecture or "general", values)


def _one(facts: Facts, key: str, most: int) -> int | None:
    try:
        return facts.one(key, most)
    except Unknown:
        return None


def _largest(facts: Facts, key: str, layers: int | None) -> int | None:
    try:
        return max(facts.each(key, layers or 1, LENGTH_MAX) or (0,)) or None
    except Unknown:
        return None


def _tokenizer(header: GgufHeader) -> str | None:
    model, before = _shown(header, "tokenizer.ggml.model"), _shown(header, "tokenizer.ggml.pre")
    return f"{model} ({before})" if model and before else model


def _text(header: GgufHeader, key: str) -> str | None:
    value = header.scalars.get(key)
    return value if isinstance(value, str) and value else None


def _shown(header: GgufHeader, key: str) -> str | None:
    value = _text(header, key)
    return printable(value, 200) or None if value else None
