"""llama.cpp: the server inside the `xllamacpp` wheel, or a `llama-server` binary of the user's own.

Both take the same flags, written once in `argv`; `llamacpp_child.py` reads them for the wheel. A build that uses all
of the CPU's instructions takes the place of the wheel: one that `inhouse engine build` made by itself (`native`), any
other by being named as `engine_binary`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from inhouse.engines.counting import OfLlama
from inhouse.engines.engine import Command, Engine, Image, Names, Spec, Trap, listen
from inhouse.engines.http import Address
from inhouse.engines.llamacpp_gpu import OnGpus, Split, layers_that_fit, layers_told, places_told, split
from inhouse.engines.llamacpp_memory import Layer, Model, Parts, predict, read_flags

CHILD = Path(__file__).with_name("llamacpp_child.py")
_UBATCH_TOKENS = 512
CHECKPOINTS = 4
"""Places in its conversation that a slot of a model with windows can go back to: each holds a copy of the windows.
llama-server's own 32 may take more memory than all else together."""


def argv(spec: Spec, address: Address) -> Command:
    """The command that serves `spec`: by the wheel, where no binary is named."""
    if spec.binary is not None:
        return Command((str(spec.binary), *_flags(spec, address)))
    if spec.native is not None:
        return Command((str(spec.native), *_flags(spec, address, *_as_in_the_package(spec))))
    # -P keeps this folder, whose modules have common names, out of the child's import path
    return Command((sys.executable, "-P", str(CHILD), *_flags(spec, address)), ends_with_stdin=True)


def server_argv(spec: Spec, address: Address) -> Command:
    """The command that serves `spec` by a llama-server, the one on PATH where no binary is named."""
    return argv(replace(spec, binary=spec.binary or Path(LLAMA_SERVER.program)), address)


def _as_in_the_package(spec: Spec) -> tuple[str, ...]:
    """What `llamacpp_child` sets where no flag says so; and threads without work look for it for 8 to 20 ms, which is
    longer than from one token to the next, not for 0.1 to 0.3 s, when gateway and neighbours want the core."""
    http_threads = 2 * spec.slots + 16  # each connection holds one
    return ("--no-ui", "--fit", "off", "--threads-http", str(http_threads), "--poll", "4")


def _flags(spec: Spec, address: Address, *more: str) -> list[str]:
    pooling = "rank" if spec.task == "rerank" else spec.pooling
    return [
        "--model", str(spec.weights),
        "--alias", spec.model,
        *(("--host", address.socket) if address.socket else listen(address)),
        "--ctx-size", str(spec.context_tokens * spec.slots),
        "--parallel", str(spec.slots),
        "--batch-size", str(max(spec.batch_tokens, _ubatch_given(spec) or ubatch_tokens(spec.slots))),
        "--ubatch-size", str(ubatch_tokens(spec.slots)),
        *(["--threads", str(spec.threads)] if spec.threads else []),
        *(["--threads-batch", str(spec.batch_threads)] if spec.batch_threads else []),
        "--metrics",
        "--slots",
        "--jinja",
        *(["--embeddings"] if spec.embeddings or spec.task != "generate" else []),
        "--cache-ram", str(spec.prompt_cache_bytes >> 20),
        "--ctx-checkpoints", str(CHECKPOINTS),
        *(["--pooling", pooling] if pooling and spec.embeddings else []),
        *(["--device", ",".join(spec.devices)] if spec.devices else []),
        *(["--n-gpu-layers", str(spec.gpu_layers)] if spec.gpu_layers is not None else []),
        *more,
        *spec.extra_args,
    ]  # fmt: skip


def _ubatch_given(spec: Spec) -> int:
    """A pass is never larger than a batch: whoever raises one with a flag of llama-server means both."""
    for flag, value in pairwise(spec.extra_args):
        if flag in ("-ub", "--ubatch-size") and value.isdecimal():
            return int(value)
    return 0


def ubatch_tokens(slots: int) -> int:
    """Tokens of one pass: llama.cpp's own 512, rounded up to a multiple of the slots.

    With pooling it fails an assertion (`ggml_can_mul_mat`, seen in b11549) where the slots do not divide it.
    """
    return -(-_UBATCH_TOKENS // slots) * slots


def memory(spec: Spec, argv: Sequence[str], model: Model, features: Iterable[str]) -> Split:
    """What one replica takes. Of a model that keeps a state of another kind, a quarter of its weights stands for it."""
    known = model if model.attention is not None else _Stateful(model)
    flags, wheel = read_flags(argv), spec.binary is None and spec.native is None
    found = split(known, flags, layers_told(argv), spec.gpus) if spec.on_gpu else None
    if found is None:
        found = Split(predict(known, flags, features, wheel=wheel) or Parts(), OnGpus())
    host = replace(found.host, adapters=spec.adapter_bytes)
    if known is model:
        return replace(found, host=host)
    return Split(replace(host, cache=host.weights // 4), replace(found.gpus, cache=found.gpus.weights // 4))


def fitted_to_gpus(spec: Spec, argv: Sequence[str], model: Model, budget_bytes: int) -> Spec:
    """With so many layers there as fit, where flags do not say what lies where."""
    if places_told(spec.extra_args):
        return spec
    if model.attention is None:
        state_bytes = sum(matrix.bytes for matrix in model.tensors) // 4
        model, budget_bytes = _Stateful(model), budget_bytes - state_bytes
    return replace(spec, gpu_layers=layers_that_fit(model, read_flags(argv), budget_bytes, spec.gpus))


def adapters(args: Sequence[str]) -> tuple[Path, ...]:
    """Files of adapters that llama-server's flags name."""
    found = []
    for flag, value in pairwise((*args, "")):
        if flag in ("--lora", "--lora-scaled"):
            names = value.split(",")
            found += [Path(name.rpartition(":")[0] if flag == "--lora-scaled" else name) for name in names]
    return tuple(found)


class _Stateful:
    """A model of which it is not known what it keeps: as if it kept nothing."""

    attention: Sequence[Layer] = ()

    def __init__(self, model: Model) -> None:
        self.embedding, self.feed_forward, self.vocabulary = model.embedding, model.feed_forward, model.vocabulary
        self.expert_feed_forward, self.experts_used = model.expert_feed_forward, model.experts_used
        self.tensors = model.tensors


LLAMACPP = Engine(
    name="llamacpp",
    title="llama.cpp",
    argv=argv,
    program="llama-server",
    install="pip install xllamacpp",
    image=Image("ghcr.io/ggml-org/llama.cpp:server-b11429", ("/app/llama-server",), port=8080),
    sockets=True,
    reads="props",
    names=Names(
        running=("llamacpp:requests_processing",),
        waiting=("llamacpp:requests_deferred",),
        kv_used=("llamacpp:kv_cache_usage_ratio",),  # gone in newer ones
        tpot=(("llamacpp:tokens_predicted_seconds_total", "llamacpp:tokens_predicted_total"),),
    ),
    slots=4,
    cpu=True,
    llama=True,
    counting=OfLlama(),
    continuing="always",
    abilities=frozenset({"tools", "json_schema", "logprobs", "embeddings", "rerank", "lora"}),
    needs=(("lora", "--lora"),),
    embeds_all=True,
    formats=("gguf",),
    memory=memory,
    traps=(
        Trap("a context longer than the model's own makes answers worse; here it is cut to the model's"),
        Trap(
            "more threads than cores make it slower: `threads` is every core that it may use, where nothing is set",
        ),
        Trap("one embedding is one pass: a text longer than `--ubatch-size` tokens is refused"),
    ),
)
LLAMA_SERVER = replace(
    LLAMACPP,
    name="llama-server",
    title="llama.cpp's own llama-server",
    argv=server_argv,
    install="brew install llama.cpp",
)
