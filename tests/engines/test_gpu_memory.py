"""What an engine needs of its GPUs, by shapes that are known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from inhouse.engines.engine import Spec
from inhouse.engines.gpu_memory import GIB, OnGpu, misfit, parts
from inhouse.weights.header import AttentionLayer

VLLM = OnGpu()


@dataclass(frozen=True)
class Shape:
    attention: tuple[AttentionLayer, ...] | None
    embedding: int | None
    feed_forward: int | None
    vocabulary: int | None
    weights_bytes: int
    quantisation: str | None = "BF16"


def shape(layers: int, heads: int, embedding: int, feed_forward: int, weights_bytes: int) -> Shape:
    layer = AttentionLayer(heads=heads, kv_heads=8, key_length=128, value_length=128)
    return Shape((layer,) * layers, embedding, feed_forward, 128_256, weights_bytes)


LLAMA_8B = shape(32, 32, 4096, 14336, 16_060_522_496)
LLAMA_70B = shape(80, 64, 8192, 28672, 141_107_412_992)


def spec(context_tokens: int = 8192, **fields: object) -> Spec:
    return replace(Spec("m", Path("/m"), context_tokens=context_tokens, slots=64), **fields)  # type: ignore[arg-type]


def test_a_cache_of_a_known_shape() -> None:
    """Llama 3 8B keeps 128 KiB of a token: 2 × 32 layers × 8 heads × 128 × 2 bytes."""
    assert parts(VLLM, spec(1), LLAMA_8B).context == 131_072
    assert parts(VLLM, spec(8192), LLAMA_8B).context == GIB


def test_split_over_gpus() -> None:
    """Weights and heads are split; a head less than there are GPUs is on each of them."""
    one, two, sixteen = (parts(VLLM, spec(gpus=count), LLAMA_70B) for count in (1, 2, 16))
    assert two.weights == one.weights // 2
    assert one.context is not None
    assert (two.context, sixteen.context) == (one.context // 2, one.context // 8)


def test_layers_that_look_back_a_little() -> None:
    short = tuple(replace(layer, window_tokens=1024) for layer in LLAMA_8B.attention or ())
    assert parts(VLLM, spec(8192), replace(LLAMA_8B, attention=short)).context == GIB // 8


@pytest.mark.parametrize(
    ("model", "fields", "cards", "fits"),
    [
        (LLAMA_8B, {}, [24 * GIB], True),
        (LLAMA_8B, {}, [16 * GIB], False),
        (LLAMA_8B, {"quantization": "fp8"}, [16 * GIB], True),
        (LLAMA_8B, {"context_tokens": 131_072}, [24 * GIB], False),
        (LLAMA_8B, {"context_tokens": 131_072, "gpus": 2}, [24 * GIB] * 2, True),
        (LLAMA_70B, {"gpus": 2}, [80 * GIB] * 2, True),
        (LLAMA_70B, {"gpus": 2}, [80 * GIB, 24 * GIB], False),
        (LLAMA_70B, {"gpus": 4}, [80 * GIB] * 2, False),
        (LLAMA_70B, {}, [], True),
        (LLAMA_70B, {}, [None], True),
    ],
)
def test_what_fits(model: Shape, fields: dict[str, object], cards: list[int | None], fits: bool) -> None:
    """The smallest of the cards decides; where none is seen or none tells its size, nothing is said against it."""
    assert (misfit(VLLM, spec(**fields), model, cards) == "") == fits  # type: ignore[arg-type]


def test_more_is_never_less() -> None:
    """A longer context, more slots and fewer GPUs never need less."""
    needs = [parts(VLLM, spec(tokens), LLAMA_8B).least for tokens in (512, 8192, 131_072)]
    needs += [parts(VLLM, spec(131_072, slots=slots), LLAMA_8B).least for slots in (128, 512)]
    assert needs == sorted(needs)
    split = [parts(VLLM, spec(gpus=gpus), LLAMA_70B).least for gpus in (1, 2, 4, 8)]
    assert split == sorted(split, reverse=True)
