"""Our own engine on Hugging Face's library (`hf_engine`), for models that no other engine here runs.

It is a program of the package: the same Python runs it, here and in a container. One of another environment, where
torch lies, is named as `engine_binary`.
"""

from __future__ import annotations

import sys

from inhouse import __version__
from inhouse.engines.counting import OfLlama
from inhouse.engines.engine import Command, Engine, Image, Names, Spec, Trap, histogram, listen
from inhouse.engines.http import Address

_METRIC = "inhouse_transformers_"


def argv(spec: Spec, address: Address) -> Command:
    """The command that serves `spec`."""
    flags = [
        str(spec.weights),
        "--alias", spec.model,
        *(("--host", address.socket) if address.socket else listen(address)),
        "--context", str(spec.context_tokens),
        "--batch-max", str(spec.slots),
        "--prefill-tokens", str(spec.batch_tokens),
        *(["--threads", str(spec.threads)] if spec.threads else []),
        *(["--task", "embed"] if spec.task == "embed" else []),
        *(["--quantize", "nf4"] if spec.quantization == "bitsandbytes" else []),
        *spec.extra_args,
    ]  # fmt: skip
    if spec.binary is not None:
        return Command((str(spec.binary), *flags))
    # -P: the folder that inhouse is started in is no place to import from
    return Command((sys.executable, "-P", "-m", "inhouse", "transformers-engine", *flags))


TRANSFORMERS = Engine(
    name="transformers",
    title="transformers",
    argv=argv,
    program="inhouse-transformers-engine",
    install="pip install 'inhouse[transformers]'",
    image=Image(f"inhouse/engine-transformers:{__version__}", ("python",)),
    sockets=True,
    reads="props",
    names=Names(
        running=(f"{_METRIC}requests_running",),
        waiting=(f"{_METRIC}requests_waiting",),
        ttft=histogram(f"{_METRIC}time_to_first_token_seconds"),
        tpot=histogram(f"{_METRIC}time_per_output_token_seconds"),
    ),
    slots=8,
    cpu=True,
    counting=OfLlama(),
    continuing="asked",
    documents=True,
    abilities=frozenset({"logprobs", "embeddings"}),
    formats=("safetensors",),
    quantizations=("bitsandbytes",),
    traps=(
        Trap("llama.cpp on CPUs and vLLM on GPUs are several times faster: take it for models that they do not run"),
        Trap(
            "8 bits are slow on a CPU: `quantization: bitsandbytes` means 4 bits, which are not",
            lambda spec: "int8" in spec.extra_args,
        ),
        Trap("it computes on one GPU: a larger model needs vLLM or SGLang", lambda spec: spec.gpus > 1),
        Trap(
            "code that a model's folder brings along has all rights of the engine's process",
            lambda spec: "--trust-remote-code" in spec.extra_args,
        ),
    ),
)
