"""What a model's files say of it: one noun for GGUF and for safetensors with `config.json`.

Memory is planned from it (`AttentionLayer`, `Tensor`) and people read it (`inhouse models show`). None is "it does not
say": where a model keeps its state in a way that these words do not describe, `attention` is None and
`attention_unknown` says why, rather than a number that would be wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Form = Literal["gguf", "safetensors"]


@dataclass(frozen=True, slots=True)
class Tensor:
    name: str
    kind: str
    """Its type as the format calls it: `Q4_K` and `F32` of GGUF, `BF16` and `F8_E4M3` of safetensors."""
    shape: tuple[int, ...]
    """As the file has it: GGUF names the length of a row first, safetensors last."""
    bytes: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class AttentionLayer:
    """What one layer reads of the tokens before."""

    heads: int
    kv_heads: int
    key_length: int
    """Elements of one head's key; of a token it keeps `kv_heads * key_length`, and for values likewise."""
    value_length: int
    window_tokens: int | None = None
    """How far it looks back; None: to the beginning."""
    keeps_kv: bool = True
    """False where it uses what another layer keeps, or needs none: encoders, layers for speculation."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What tensors of one type take together."""

    kind: str
    tensors: int
    elements: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Header:
    """A whole model, of which the parts are summed if it is split."""

    form: Form
    architecture: str | None
    """`general.architecture` of GGUF, `model_type` of a config.json: `llama`, `gemma3`."""
    name: str | None
    parameters: int
    layers: int | None
    attention: tuple[AttentionLayer, ...] | None
    """One for each of `layers`."""
    attention_unknown: str | None
    """Why there is no `attention`."""
    embedding: int | None
    """Length of a hidden vector."""
    feed_forward: int | None
    """Of the widest layer; of models with experts, that of their dense layers where they have some."""
    expert_feed_forward: int | None
    experts: int | None
    experts_used: int | None
    """For each token."""
    vocabulary: int | None
    context_tokens: int | None
    """What the model was trained for; what fits in memory is often less."""
    quantisation: str | None
    """As people know it: `Q4_K_M`, `gptq 4-bit`; of unquantised weights their type, `BF16`."""
    tokenizer: str | None
    chat_template: str | None
    pooling: str | None
    """How an embedding or a score is made of the tokens' vectors: `mean`, `cls`, `last`, `rank`; else None."""
    licence: str | None
    licence_url: str | None
    tensors: tuple[Tensor, ...]
    files: int
    file_bytes: int
    """Of all files together."""

    @property
    def weights_bytes(self) -> int:
        return sum(tensor.bytes for tensor in self.tensors)

    @property
    def heads(self) -> int | None:
        return self._of_all(lambda layer: layer.heads)

    @property
    def kv_heads(self) -> int | None:
        return self._of_all(lambda layer: layer.kv_heads)

    @property
    def key_length(self) -> int | None:
        return self._of_all(lambda layer: layer.key_length)

    @property
    def value_length(self) -> int | None:
        return self._of_all(lambda layer: layer.value_length)

    @property
    def sliding_window(self) -> int | None:
        """The longest window of its layers that have one."""
        return max((layer.window_tokens or 0 for layer in self.attention or ()), default=0) or None

    def usage(self) -> tuple[Usage, ...]:
        """Types of tensors, the one with the most bytes first."""
        found: dict[str, list[int]] = {}
        for tensor in self.tensors:
            sums = found.setdefault(tensor.kind, [0, 0, 0])
            sums[0] += 1
            sums[1] += tensor.elements
            sums[2] += tensor.bytes
        return tuple(
            Usage(kind, *sums) for kind, sums in sorted(found.items(), key=lambda item: (-item[1][2], item[0]))
        )

    def _of_all(self, length: Callable[[AttentionLayer], int]) -> int | None:
        """The one value that all layers have, layers without attention left out; None where they differ."""
        values = {length(layer) for layer in self.attention or () if layer.heads}
        return values.pop() if len(values) == 1 else None
