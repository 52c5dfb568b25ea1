"""What llama.cpp takes of GPUs and of the machine beside them, and how many layers they get."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest
from benchmarks.memory.cases import CASES
from benchmarks.memory.shapes import write
from hypothesis import given
from hypothesis import strategies as st

from inhouse.engines.devices import MIB, Device, chosen, on_devices
from inhouse.engines.engine import Spec
from inhouse.engines.http import Address
from inhouse.engines.llamacpp import LLAMACPP, argv, memory
from inhouse.engines.llamacpp_gpu import Split, devices_told, layers_that_fit, layers_told, places_told, split
from inhouse.engines.llamacpp_memory import Flags
from inhouse.engines.memory import fitted, planned
from inhouse.engines.room import UNLIMITED_BYTES, Room
from inhouse.weights.look import read_file

CARD = Device("CUDA0", "a card", 8 << 30)


@dataclass(frozen=True, slots=True)
class Layer:
    heads: int = 8
    kv_heads: int = 8
    key_length: int = 64
    value_length: int = 64
    window_tokens: int | None = None
    keeps_kv: bool = True


@dataclass(frozen=True, slots=True)
class Matrix:
    name: str
    bytes: int
    kind: str = "Q8_0"
    shape: tuple[int, ...] = (512, 512)


@dataclass(frozen=True, slots=True)
class Model:
    attention: tuple[Layer, ...] | None = (Layer(),) * 8
    embedding: int = 512
    feed_forward: int = 2048
    expert_feed_forward: int | None = None
    experts_used: int | None = None
    vocabulary: int = 1000
    tensors: tuple[Matrix, ...] = (
        Matrix("token_embd.weight", 7 * MIB),
        *(Matrix(f"blk.{number}.attn_q.weight", 10 * MIB) for number in range(8)),
        Matrix("output_norm.weight", MIB),
    )


MODEL = Model()
FLAGS = Flags(ctx_size=2048, parallel=2, cache_ram_mib=0)
EVERY = 9


def of(layers: int | None, gpus: int = 1, flags: Flags = FLAGS) -> Split:
    found = split(MODEL, flags, layers, gpus)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("case", "more", "gpu_mib", "machine_mib"),
    [
        ("heads of their own", (), 809, 399),
        ("large vocabulary, no embeddings", (), 807, 441),
        ("16 bits", (), 935, 485),
        ("8 experts", (), 977, 485),
        ("windows", (), 843, 458),
        ("windows", ("--n-gpu-layers", "6"), 741, 582),
    ],
)
def test_what_was_measured_is_what_is_planned(
    tmp_path: Path, case: str, more: tuple[str, ...], gpu_mib: int, machine_mib: int
) -> None:
    """On an H200, by `benchmarks/memory`, after a full context in each slot: within 5 %."""
    wanted = next(one for one in CASES if one.name == case)
    file = tmp_path / "model.gguf"
    write(wanted.shape, file)
    spec = Spec(
        "m", file, wanted.context, wanted.slots, threads=8, batch_tokens=512, embeddings=wanted.embeddings,
        prompt_cache_bytes=wanted.prompts_mib << 20, pooling="mean", native=Path("llama-server"), extra_args=more,
    )  # fmt: skip
    spec = on_devices(spec, [CARD])
    found = memory(spec, argv(spec, Address(socket="/s")).argv, read_file(file), ())
    assert found.gpus.total / MIB == pytest.approx(gpu_mib, rel=0.05)
    assert found.host.total / MIB == pytest.approx(machine_mib, rel=0.05)


def test_each_layer_lies_in_one_place() -> None:
    """Weights and cache go to the GPUs from the end; what looks words up stays, and is there twice where it scores."""
    assert (of(0).gpus.weights, of(0).gpus.cache) == (0, 0)
    assert of(None) == of(EVERY) == of(99)
    assert of(None).gpus.weights == (7 + 8 * 10 + 1) * MIB
    assert of(None).host.weights == 7 * MIB
    assert of(1).gpus.weights == (7 + 1) * MIB  # what scores words, and no layer
    for layers in range(EVERY + 1):
        found = of(layers)
        assert found.host.cache + found.gpus.cache == of(None).gpus.cache
    for fewer, more in pairwise(range(EVERY + 1)):
        assert of(fewer).gpus.weights + of(fewer).gpus.cache < of(more).gpus.weights + of(more).gpus.cache
        assert of(fewer).host.total >= of(more).host.total


@given(st.integers(0, 1 << 31), st.integers(1, 4))
def test_the_most_layers_that_fit(budget: int, gpus: int) -> None:
    """None that do not fit; and one more would not."""
    layers = layers_that_fit(MODEL, FLAGS, budget, gpus)
    if layers is None:
        assert of(None, gpus).gpus.total <= budget
        return
    assert of(layers, gpus).gpus.total <= budget or layers == 0
    assert of(layers + 1 if layers < EVERY else None, gpus).gpus.total > budget


def test_a_gpu_that_is_too_small_gets_fewer_slots_and_then_fewer_layers() -> None:
    """All layers with one slot before fewer layers with more; flags of one's own are left alone."""
    spec = on_devices(Spec("m", Path("m.gguf"), 2048, 4, prompt_cache_bytes=0, native=Path("/b/llama-server")), [CARD])

    def needs(tried: Spec) -> int:
        return planned(LLAMACPP, tried, MODEL, 0, (), 1).gpu_bytes

    def given(gpu_bytes: int, tried: Spec = spec, *, slots_given: bool = False) -> tuple[int, int | None]:
        room = Room(UNLIMITED_BYTES, gpu_bytes)
        made = fitted(LLAMACPP, tried, MODEL, 0, (), 1, room, slots_given=slots_given)
        assert needs(made) <= gpu_bytes or tried.extra_args
        return made.slots, made.gpu_layers

    assert given(needs(spec)) == (4, None)
    assert given(needs(spec) - 1) == (2, None)
    assert given(needs(replace(spec, slots=1))) == (1, None)
    slots, layers = given(needs(replace(spec, slots=1)) - 1)
    assert (slots, 0 < (layers or 0) < EVERY) == (4, True)
    slots, layers = given(needs(spec) - 1, slots_given=True)
    assert (slots, 0 < (layers or 0) < EVERY) == (4, True)
    told = replace(spec, extra_args=("--n-gpu-layers", "9"))
    assert given(needs(told) - 1, told, slots_given=True) == (4, None)
    argv_of_it = argv(replace(spec, gpu_layers=5), Address(socket="/s")).argv
    assert layers_told(argv_of_it) == 5


def test_several_gpus_each_have_what_a_pass_takes() -> None:
    """The model is split, what CUDA takes is not."""
    spec = on_devices(Spec("m", Path("m.gguf"), 2048, 4), [CARD, replace(CARD, name="CUDA1")])
    assert (spec.gpus, spec.on_gpu) == (2, "a card")
    one, two = of(None).gpus, of(None, 2).gpus
    assert (two.weights, two.cache) == (one.weights, one.cache)
    assert (two.computing, two.fixed) == (2 * one.computing, 2 * one.fixed)


def test_what_flags_say_of_gpus() -> None:
    """By each of their names; the last one counts."""
    assert layers_told(()) is None
    assert layers_told(("-ngl", "3", "--gpu-layers", "all")) is None
    assert layers_told(("--n-gpu-layers", "all", "-ngl", "7")) == 7
    assert devices_told(("--device", "CUDA0,CUDA2")) == ("CUDA0", "CUDA2")
    assert devices_told(("-dev", "none")) == ()
    assert devices_told(("--threads", "2")) is None
    assert places_told(("--cpu-moe",))
    assert not places_told(("--device", "CUDA0"))
    cards = [CARD, replace(CARD, name="CUDA1")]
    assert chosen(cards, ("CUDA1",)) == (cards[1],)
    assert chosen(cards, None) == tuple(cards)


def test_an_engine_is_told_its_gpus_by_name() -> None:
    """Without them it does not start, where it would compute on the CPU with a plan for the GPU."""
    spec = on_devices(Spec("m", Path("m.gguf"), 2048, 4), [CARD])
    words = argv(replace(spec, native=Path("/b/llama-server")), Address(socket="/s")).argv
    assert words[words.index("--device") + 1] == "CUDA0"
    assert on_devices(spec, [replace(CARD, name="Vulkan0")]).devices == ()


def test_a_model_that_keeps_something_else_is_split_as_well() -> None:
    """By the names of its matrices; a quarter of what lies somewhere stands for what it keeps there."""
    stateful = replace(MODEL, attention=None)
    spec = on_devices(Spec("m", Path("m.gguf"), 2048, 1, native=Path("/b/llama-server")), [CARD])
    whole = planned(LLAMACPP, spec, stateful, 0, (), 1).gpu_bytes
    made = fitted(LLAMACPP, spec, stateful, 0, (), 1, Room(UNLIMITED_BYTES, whole - 1))
    assert 0 < (made.gpu_layers or 0) < EVERY
    assert planned(LLAMACPP, made, stateful, 0, (), 1).gpu_bytes < whole
