"""Hugging Face's Text Generation Inference: `text-generation-launcher`, in maintenance. Flags as of 3.3."""

from __future__ import annotations

from inhouse.engines.counting import OfTgi
from inhouse.engines.engine import Command, Engine, Image, Names, Spec, Trap, histogram, listen
from inhouse.engines.gpu_memory import OnGpu
from inhouse.engines.http import Address
from inhouse.engines.traps import CORES, LOOPBACK, NCCL, SHARED_MEMORY


def argv(spec: Spec, address: Address) -> Command:
    """The command that serves `spec`."""
    flags = [
        "--model-id", str(spec.weights),
        *listen(address, "--hostname"),
        "--max-concurrent-requests", str(spec.slots),
        "--max-total-tokens", str(spec.context_tokens),
        "--max-input-tokens", str(spec.context_tokens - 1),
        "--cuda-memory-fraction", f"{spec.gpu_share:g}",
        "--num-shard", str(spec.gpus),
        "--usage-stats", "off",
    ]  # fmt: skip
    if spec.quantization is not None:
        flags += ["--quantize", spec.quantization]
    program = str(spec.binary or TGI.program)
    return Command((program, *flags, *spec.extra_args), (("HF_HUB_OFFLINE", "1"),))


TGI = Engine(
    name="tgi",
    title="TGI",
    argv=argv,
    program="text-generation-launcher",
    install="docker pull ghcr.io/huggingface/text-generation-inference:3.3.7",
    image=Image("ghcr.io/huggingface/text-generation-inference:3.3.7", ("text-generation-launcher",), port=3000),
    stop_s=5.0,
    start_s=1200.0,
    calls_it=lambda spec: str(spec.weights),
    reads="info",
    names=Names(
        running=("tgi_batch_current_size",),
        waiting=("tgi_queue_size",),
        tpot=histogram("tgi_request_mean_time_per_token_duration"),
    ),
    counting=OfTgi(),
    abilities=frozenset({"tools", "json_schema", "logprobs", "lora"}),
    needs=(("lora", "--lora-adapters"),),
    quantizations=("awq", "gptq", "fp8", "bitsandbytes"),
    on_gpu=OnGpu(pass_tokens=4096),
    traps=(
        SHARED_MEMORY,
        NCCL,
        CORES,
        LOOPBACK,
        Trap("it is in maintenance: vLLM or SGLang for anything new"),
        Trap("it is published as a container only; there is no package to install"),
        Trap("its messages have no usage of their prefix cache, and it does not go on with an answer that broke off"),
    ),
)
