"""The memory model of llama.cpp: against what b11549 said of its own buffers, and how it grows. What processes really
hold is measured in tests/benchmarks/test_memory.py."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.engines.choices import choose
from inhouse.engines.engine import Spec
from inhouse.engines.hardware import look
from inhouse.engines.http import Address
from inhouse.engines.llamacpp import LLAMACPP, argv, memory
from inhouse.engines.llamacpp_memory import CACHE_KINDS, Flags, Parts, predict, read_flags, repacked_bytes
from inhouse.engines.memory import FLAT_BYTES, fitted, planned
from inhouse.engines.room import Room
from inhouse.engines.table import ENGINES

MIB = 1 << 20
AVX2 = ("AVX2",)
_BLOCKS = {"F32": (1, 4), "F16": (1, 2), "Q8_0": (32, 34), "Q4_0": (32, 18), "Q4_K": (256, 144), "Q6_K": (256, 210)}


@dataclass(frozen=True)
class Layer:
    heads: int = 16
    kv_heads: int = 4
    key_length: int = 64
    value_length: int = 64
    window_tokens: int | None = None
    keeps_kv: bool = True


@dataclass(frozen=True)
class Matrix:
    name: str
    kind: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        block, size = _BLOCKS[self.kind]
        total = 1
        for length in self.shape:
            total *= length
        return total // block * size


@dataclass(frozen=True)
class Model:
    attention: tuple[Layer, ...] | None = (Layer(),) * 2
    embedding: int | None = 1024
    feed_forward: int | None = 2816
    expert_feed_forward: int | None = None
    experts_used: int | None = None
    vocabulary: int | None = 8192
    tensors: tuple[Matrix, ...] = ()


def model(kind: str = "Q8_0", layers: int = 2, *, words: str = "Q8_0", tied: bool = True, **more: object) -> Model:
    """Two layers of a Llama, as the benchmark makes it."""
    found = [Matrix("token_embd.weight", words, (1024, 8192)), Matrix("output_norm.weight", "F32", (1024,))]
    if not tied:
        found.append(Matrix("output.weight", words, (1024, 8192)))
    for layer in range(layers):
        at = f"blk.{layer}."
        found += [Matrix(f"{at}attn_norm.weight", "F32", (1024,)), Matrix(f"{at}ffn_norm.weight", "F32", (1024,))]
        found += [Matrix(f"{at}attn_{one}.weight", kind, (1024, 1024)) for one in ("q", "output")]
        found += [Matrix(f"{at}attn_{one}.weight", kind, (1024, 256)) for one in ("k", "v")]
        found += [Matrix(f"{at}ffn_{one}.weight", kind, (1024, 2816)) for one in ("gate", "up")]
        found.append(Matrix(f"{at}ffn_down.weight", kind, (2816, 1024)))
    return replace(Model(attention=(Layer(),) * layers, tensors=tuple(found)), **more)  # type: ignore[arg-type]


def parts(one: Model, features: tuple[str, ...] = AVX2, **flags: object) -> Parts:
    given = {"ctx_size": 8192, "parallel": 2, "batch_size": 512, "embeddings": True, "cache_ram_mib": 0, **flags}
    found = predict(one, Flags(**given), features)  # type: ignore[arg-type]
    assert found is not None
    return found


WINDOWED = tuple(Layer(8, 4, 128, 128, None if layer % 6 == 5 else 512) for layer in range(12))
SAID = [
    ("computing", model(), {}, 30.52),
    ("computing", model(), {"ctx_size": 16384}, 34.52),
    ("computing", model(), {"ctx_size": 4096}, 28.52),
    ("computing", model(), {"ubatch_size": 256}, 15.26),
    ("computing", model(), {"ubatch_size": 1024, "batch_size": 1024}, 61.05),
    ("computing", model(feed_forward=8192), {}, 62.02),
    ("computing", model(feed_forward=1024), {}, 30.02),
    ("computing", model(vocabulary=32768), {}, 78.02),
    ("computing", model(embedding=2048, feed_forward=8192), {}, 72.02),
    ("computing", model(attention=(Layer(64, 64),)), {}, 46.02),
    ("computing", model(experts_used=2), {}, 47.02),
    ("cache", model(), {}, 16.0),
    ("cache", model(), {"cache_type_k": "q8_0", "cache_type_v": "q8_0"}, 8.5),
    ("cache", model(), {"cache_type_k": "q4_0", "cache_type_v": "q4_0"}, 4.5),
    ("cache", model(), {"ctx_size": 3000, "parallel": 3}, 6.0),
    ("cache", model(attention=WINDOWED), {}, 72.0),
    ("cache", model(attention=WINDOWED), {"ctx_size": 2048}, 48.0),
    ("weights", model(tied=True), {}, 31.36),
    ("repacked", model(), {}, 0.0),
    ("repacked", model("Q4_0"), {}, 12.59),
    ("repacked", model("Q4_0", words="Q4_0", tied=True), {}, 17.09),
    ("repacked", model("Q4_0", words="Q4_0", tied=False), {}, 17.09),
    ("repacked", model("Q4_0"), {"repack": False}, 0.0),
]


@pytest.mark.parametrize(("part", "one", "flags", "mib"), SAID)
def test_what_it_says_of_its_buffers(part: str, one: Model, flags: dict[str, object], mib: float) -> None:
    """Its log has these sizes for these shapes (verbosity 4); half a mebibyte of small tensors is not counted."""
    assert getattr(parts(one, **flags), part) / MIB == pytest.approx(mib, abs=0.55, rel=0.012)


def test_what_stays_of_a_mapped_file() -> None:
    """What lies before the first and behind the last matrix that is used as it lies is given back; not mapped, no
    matrix is held twice."""
    last = Matrix("blk.2.ffn_down.weight", "Q4_0", (2816, 1024))
    one = model("Q4_0")
    ended = replace(one, tensors=(*one.tensors, last))
    down = Matrix("blk.1.ffn_down.weight", "Q4_0", (2816, 1024))
    whole = sum(matrix.bytes for matrix in one.tensors)
    assert parts(ended).repacked == parts(one).repacked + last.bytes
    gate = Matrix("blk.1.ffn_gate.weight", "Q4_0", (1024, 2816))
    behind_the_last_norm = (
        down.bytes
        + 2 * gate.bytes
        + sum(Matrix("blk.1.attn_x.weight", "Q4_0", (1024, rows)).bytes for rows in (1024, 1024, 256, 256))
    )
    assert parts(one).weights == whole - behind_the_last_norm == parts(ended).weights
    unmapped = parts(one, mmap=False)
    assert unmapped.weights + unmapped.repacked == whole


@pytest.mark.parametrize(
    ("kind", "features", "grows"),
    [
        ("Q8_0", ("AVX2",), None),
        ("Q4_K", ("AVX2",), 1.0),
        ("Q6_K", ("AVX2",), None),
        ("Q6_K", ("NEON", "dot product", "int8 matrices"), 1.0),
        ("Q8_0", ("NEON", "dot product"), 1.0),
        ("Q4_0", ("NEON",), None),
        ("Q8_0", ("AVX2", "AVX-512", "AMX"), 38 / 34),
        ("Q4_K", ("AVX2", "AVX-512", "AMX"), 148 / 144),
        ("F16", ("AVX2", "AVX-512", "AMX"), 1.0),
    ],
)
def test_copies_by_cpu(kind: str, features: tuple[str, ...], grows: float | None) -> None:
    """Which matrices are copied into another order; AMX's copies are a little larger."""
    matrix = Matrix("blk.0.attn_q.weight", kind, (1024, 1024))
    assert repacked_bytes(matrix, frozenset(features)) == (0 if grows is None else round(matrix.bytes * grows))
    odd = Matrix("blk.0.attn_q.weight", kind, (1024, 1021))
    if "AMX" not in features:
        assert repacked_bytes(odd, frozenset(features)) == 0


def test_the_wheel_is_built_for_avx2() -> None:
    """It does not use AMX, whatever the CPU has; an own build does."""
    flags = Flags()
    amx = ("AVX2", "AVX-512", "AMX")
    wheel, own = (predict(model("Q8_0"), flags, amx, wheel=wheel) for wheel in (True, False))
    assert wheel is not None
    assert own is not None
    assert (wheel.repacked, own.repacked > 0) == (0, True)


def test_flags_of_the_very_command() -> None:
    """The last of a flag counts, short forms too."""
    spec = Spec("m", Path("m.gguf"), 2048, 4, batch_tokens=512, prompt_cache_bytes=64 * MIB)
    found = read_flags(argv(spec, Address(socket="/s")).argv)
    assert found == Flags(
        ctx_size=8192, parallel=4, batch_size=512, ubatch_size=512, embeddings=True, cache_ram_mib=64, ctx_checkpoints=4
    )
    own = (
        "-ctk",
        "q8_0",
        "--cache-type-v",
        "Q4_0",
        "-kvu",
        "-ub",
        "1024",
        "--swa-full",
        "--load-mode",
        "none",
        "-fa",
        "off",
    )
    found = read_flags(argv(replace(spec, extra_args=(*own, "-np", "2"), embeddings=False), Address(socket="/s")).argv)
    assert (found.cache_type_k, found.cache_type_v, found.kv_unified) == ("q8_0", "q4_0", True)
    assert (found.ubatch_size, found.batch_size, found.parallel) == (1024, 1024, 2)
    assert (found.swa_full, found.mmap, found.flash_attn, found.embeddings) == (True, False, False, False)
    assert read_flags(("--parallel", "many", "--cache-type-k", "q3", "--ctx-size")) == Flags()


sizes = st.builds(
    Flags,
    ctx_size=st.integers(256, 1 << 17),
    parallel=st.integers(1, 32),
    batch_size=st.integers(32, 4096),
    ubatch_size=st.integers(32, 4096),
    cache_type_k=st.sampled_from(sorted(CACHE_KINDS)),
    cache_type_v=st.sampled_from(sorted(CACHE_KINDS)),
    kv_unified=st.booleans(),
    swa_full=st.booleans(),
    mmap=st.booleans(),
    repack=st.booleans(),
    embeddings=st.booleans(),
    cache_ram_mib=st.integers(-1, 1024),
    ctx_checkpoints=st.integers(0, 32),
    flash_attn=st.booleans(),
)


@given(sizes, st.sampled_from([model(), model("Q4_0"), model(attention=WINDOWED), model(experts_used=2)]))
def test_more_never_takes_less(flags: Flags, one: Model) -> None:
    """A longer context, a larger pass, more prompts, embeddings: none of them lowers any part; all parts are ≥ 0."""
    before = predict(one, flags, AVX2)
    assert before is not None
    assert min(before.weights, before.repacked, before.cache, before.computing, before.outputs, before.program) >= 0
    for more in (
        {"ctx_size": 2 * flags.ctx_size},
        {"ubatch_size": 2 * flags.ubatch_size},
        {"cache_ram_mib": max(0, flags.cache_ram_mib) + 1},
        {"embeddings": True},
        {"swa_full": True, "ctx_checkpoints": flags.ctx_checkpoints}
        if flags.swa_full
        else {"kv_unified": flags.kv_unified},
    ):
        after = predict(one, replace(flags, **more), AVX2)  # type: ignore[arg-type]
        assert after is not None
        assert after.total >= before.total, more
    assert before.of(1) == before.total
    assert before.of(3) == before.weights + 3 * (before.total - before.weights)


def test_a_model_that_keeps_something_else() -> None:
    """What it keeps is not known: a quarter of its weights stands for it, rather than nothing."""
    stateful = model(attention=None)
    assert predict(stateful, Flags(), AVX2) is None
    spec = Spec("m", Path("m.gguf"), 2048, 1)
    found = memory(spec, argv(spec, Address(socket="/s")).argv, stateful, AVX2)
    assert found.host.cache == found.host.weights // 4 > 0
    found = memory(replace(spec, on_gpu="a card"), argv(spec, Address(socket="/s")).argv, stateful, AVX2)
    assert found.gpus.cache == found.gpus.weights // 4 > 0


def test_slots_that_fit() -> None:
    """Halved until the model fits, down to one; engines without a memory model are planned by their weights."""
    spec = Spec("m", Path("m.gguf"), 2048, 16, prompt_cache_bytes=0)
    one = model(attention=(Layer(),) * 16)

    def needs(slots: int) -> int:
        return planned(LLAMACPP, replace(spec, slots=slots), one, 0, AVX2, 1).memory_bytes

    for budget, slots in ((needs(16), 16), (needs(16) - 1, 8), (needs(2), 2), (needs(1) - 1, 1), (1 << 62, 16)):
        assert fitted(LLAMACPP, spec, one, 0, AVX2, 1, Room(budget)).slots == slots
    assert planned(ENGINES["vllm"], spec, None, 10**9, AVX2, 2) == Room(2 * FLAT_BYTES)
    chosen = choose(look(with_gpus=False))
    assert chosen.slots.value >= 1
