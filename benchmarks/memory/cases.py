"""The shapes and flags that are measured: each differs from the first in what its name says."""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks.memory.shapes import Shape


@dataclass(frozen=True, slots=True)
class Case:
    """A model and how it is served; `context` is of one slot."""

    shape: Shape
    context: int = 1024
    slots: int = 2
    embeddings: bool = True
    prompts_mib: int = 0
    """The prompt cache, which the measurement fills."""
    args: tuple[str, ...] = ()
    used: int | None = None
    """Tokens of a context that are really used; None for all."""

    @property
    def name(self) -> str:
        return self.shape.name


CASES = (
    Case(Shape("heads of their own")),
    Case(Shape("grouped heads", kv_heads=4), context=2048),
    Case(Shape("one head of keys", kv_heads=1)),
    Case(Shape("deep and narrow", layers=32, embedding=512, heads=8, kv_heads=8, feed_forward=1536)),
    Case(Shape("shallow and wide", layers=4, embedding=2048, heads=32, kv_heads=8, feed_forward=5632)),
    Case(Shape("large vocabulary", vocabulary=65536, kv_heads=4)),
    Case(Shape("large vocabulary, no embeddings", vocabulary=65536, kv_heads=4), embeddings=False),
    Case(Shape("16 bits", recipe="f16", kv_heads=4)),
    Case(Shape("4 bits, repacked", recipe="q4_0", layers=16, kv_heads=4)),
    Case(Shape("4 bits, not mapped", recipe="q4_0", layers=16, kv_heads=4), args=("--load-mode", "none")),
    Case(Shape("K-quants, repacked", recipe="q4_k_m", layers=16, kv_heads=4, tied=False)),
    Case(Shape("8 experts", experts=8, layers=6, feed_forward=1408, kv_heads=4)),
    Case(Shape("long context", layers=4, kv_heads=16), context=8192, slots=1),
    Case(Shape("16 slots", kv_heads=8), context=512, slots=16),
    Case(Shape("8-bit cache"), context=2048, args=("--cache-type-k", "q8_0", "--cache-type-v", "q8_0")),
    Case(Shape("4-bit cache"), context=2048, args=("--cache-type-k", "q4_0", "--cache-type-v", "q4_0")),
    Case(Shape("one cache for all slots"), slots=4, args=("--kv-unified",)),
    Case(Shape("windows", "gemma3", window=512, layers=12, heads=8, kv_heads=4, head_length=128), context=2048),
    Case(
        Shape("windows, 4 bits", "gemma3", window=256, layers=18, heads=4, kv_heads=1, head_length=256, recipe="q4_0",
              vocabulary=32768), context=1024, slots=4,
    ),
    Case(Shape("a full prompt cache", kv_heads=8), prompts_mib=128),
    Case(Shape("a large pass", kv_heads=4, layers=4), args=("--ubatch-size", "1024")),
)  # fmt: skip
_EIGHT_BILLION = Shape(
    "half of an 8B", layers=16, embedding=4096, heads=32, kv_heads=8, head_length=128, feed_forward=14336,
    vocabulary=128256, recipe="q4_k_m", tied=False,
)  # fmt: skip
GPU_CASES = (
    *(case for case in CASES if not case.args),
    Case(_EIGHT_BILLION, context=4096, slots=4, embeddings=False),
    Case(
        replace(_EIGHT_BILLION, name="half of an 8B, 8 layers there"), context=4096, slots=4, embeddings=False,
        args=("--n-gpu-layers", "8"),
    ),
    Case(
        replace(_EIGHT_BILLION, name="half of an 8B, none there"), context=4096, slots=4, embeddings=False,
        args=("--n-gpu-layers", "0"),
    ),
)  # fmt: skip
QUICK = ("grouped heads", "large vocabulary, no embeddings", "4 bits, repacked", "windows, 4 bits")
"""Those that stand for all in the tests."""
