"""SGLang: `sglang serve`, for safetensors on GPUs. Flags as of 0.5.23 (docs.sglang.io, server arguments)."""

from __future__ import annotations

from inhouse.engines.counting import OfVllm
from inhouse.engines.engine import Command, Engine, Image, Names, Spec, Trap, histogram, listen
from inhouse.engines.gpu_memory import OnGpu
from inhouse.engines.http import Address
from inhouse.engines.traps import CORES, LOOPBACK, MEMORY_SHARE, NCCL, SHARED_MEMORY


def argv(spec: Spec, address: Address) -> Command:
    """The command that serves `spec`."""
    flags = [
        "--model-path", str(spec.weights),
        "--served-model-name", spec.model,
        *listen(address),
        "--context-length", str(spec.context_tokens),
        "--max-running-requests", str(spec.slots),
        "--mem-fraction-static", f"{spec.gpu_share:g}",
        "--enable-metrics",
        "--enable-cache-report",
    ]  # fmt: skip
    if spec.gpus > 1:
        flags += ["--tp-size", str(spec.gpus)]
    if spec.quantization is not None:
        flags += ["--quantization", spec.quantization]
    if spec.task != "generate":
        flags += ["--is-embedding"]
    program = str(spec.binary or SGLANG.program)
    return Command((program, "serve", *flags, *spec.extra_args), (("HF_HUB_OFFLINE", "1"),))


SGLANG = Engine(
    name="sglang",
    title="SGLang",
    argv=argv,
    program="sglang",
    install="pip install sglang",
    image=Image("lmsysorg/sglang:v0.5.21", ("sglang",), port=30000),
    stop_s=5.0,
    start_s=1200.0,
    names=Names(
        running=("sglang:num_running_reqs",),
        waiting=("sglang:num_queue_reqs",),
        kv_used=("sglang:token_usage",),
        prefix_rate=("sglang:cache_hit_rate",),
        ttft=histogram("sglang:time_to_first_token_seconds"),
        tpot=histogram("sglang:inter_token_latency_seconds", "sglang:time_per_output_token_seconds"),
    ),
    counting=OfVllm(),
    continuing="asked",
    abilities=frozenset({"tools", "json_schema", "logprobs", "embeddings", "rerank", "lora"}),
    needs=(("tools", "--tool-call-parser"), ("lora", "--enable-lora")),
    formats=("safetensors", "gguf"),
    quantizations=("awq", "gptq", "fp8", "bitsandbytes"),
    on_gpu=OnGpu(pass_tokens=8192),
    traps=(
        MEMORY_SHARE,
        SHARED_MEMORY,
        NCCL,
        CORES,
        LOOPBACK,
        Trap(
            "tools need a parser that fits the model: `engine_args: [--tool-call-parser, qwen25]`",
            lambda spec: spec.task == "generate" and "--tool-call-parser" not in spec.extra_args,
        ),
        Trap("its /health generates a token and answers after a second: `probe.timeout` must be above 1 s"),
    ),
)
