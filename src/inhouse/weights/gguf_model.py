"""GGUF headers → what the model is. Of a split model each part is read and their tensors are summed."""

from __future__ import annotations

from collections.abc import Sequence

from inhouse.errors import WeightsError
from inhouse.weights import llamacpp_layers
from inhouse.weights.facts import EXPERTS_MAX, LENGTH_MAX, Fact, Facts, Unknown
from inhouse.weights.gguf import GgufHeader
from inhouse.weights.header import Header
from inhouse.weights.text import printable

POOLINGS = {1: "mean", 2: "cls", 3: "last", 4: "rank"}


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
        attention = llamacpp_layers.attention(first.architecture or "", facts)
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
        feed_forward=facts.largest("feed_forward_length", first.layers or 1, LENGTH_MAX),
        expert_feed_forward=facts.largest("expert_feed_forward_length", first.layers or 1, LENGTH_MAX),
        experts=facts.known("expert_count", EXPERTS_MAX) or None,
        experts_used=facts.known("expert_used_count", EXPERTS_MAX) or None,
        vocabulary=first.vocabulary,
        context_tokens=first.context_tokens,
        quantisation=first.file_type,
        tokenizer=_tokenizer(first),
        chat_template=_text(first, "tokenizer.chat_template"),
        pooling=POOLINGS.get(facts.known("pooling_type", 255) or 0),
        licence=_shown(first, "general.license"),
        licence_url=_shown(first, "general.license.link"),
        tensors=tensors,
        files=len(parts),
        file_bytes=sum(file_bytes),
    )


def _facts(header: GgufHeader) -> Facts:
    """Texts are of no use there, and a float where a whole number belongs is told by whoever asks for it."""
    start = f"{header.architecture}."
    values: dict[str, Fact] = {
        key.removeprefix(start): value
        for key, value in (*header.scalars.items(), *header.lists.items())
        if key.startswith(start) and not isinstance(value, str)
    }
    return Facts(values, label=start)


def _tokenizer(header: GgufHeader) -> str | None:
    model, before = _shown(header, "tokenizer.ggml.model"), _shown(header, "tokenizer.ggml.pre")
    return f"{model} ({before})" if model and before else model


def _text(header: GgufHeader, key: str) -> str | None:
    value = header.scalars.get(key)
    return value if isinstance(value, str) and value else None


def _shown(header: GgufHeader, key: str) -> str | None:
    value = _text(header, key)
    return printable(value, 200) or None if value else None
