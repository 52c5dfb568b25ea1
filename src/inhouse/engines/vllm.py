"""vLLM: `vllm serve`, for safetensors on GPUs. Flags as of 0.33 (vllm/entrypoints/openai/cli_args.py)."""

from __future__ import annotations

from inhouse.engines.counting import OfVllm
from inhouse.engines.engine import Command, Engine, Image, Names, Spec, Trap, histogram, listen
from inhouse.engines.gpu_memory import OnGpu
from inhouse.engines.http import Address
from inhouse.engines.traps import CORES, MEMORY_SHARE, NCCL, SHARED_MEMORY


def argv(spec: Spec, address: Address) -> Command:
    """The command that serves `spec`."""
    where = ("--uds", address.socket) if address.socket else listen(address)
    flags = [
        "--served-model-name", spec.model,
        *where,
        "--max-model-len", str(spec.context_tokens),
        "--max-num-seqs", str(spec.slots),
        "--gpu-memory-utilization", f"{spec.gpu_share:g}",
        "--disable-uvicorn-access-log",
        "--enable-prompt-tokens-details",
    ]  # fmt: skip
    if spec.gpus > 1:
        flags += ["--tensor-parallel-size", str(spec.gpus)]
    if spec.quantization is not None:
        flags += ["--quantization", spec.quantization]
    if spec.task != "generate":
        flags += ["--runner", "pooling"]
    program = str(spec.binary or VLLM.program)
    return Command((program, "serve", str(spec.weights), *flags, *spec.extra_args), _ENVIRONMENT)


_ENVIRONMENT = (
    ("HF_HUB_OFFLINE", "1"),  # the weights are there
    ("VLLM_NO_USAGE_STATS", "1"),
    ("DO_NOT_TRACK", "1"),
)
VLLM = Engine(
    name="vllm",
    title="vLLM",
    argv=argv,
    program="vllm",
    install="pip install vllm",
    image=Image("vllm/vllm-openai:v0.30.0", ("vllm",)),
    sockets=True,
    stop_s=5.0,
    start_s=1200.0,
    names=Names(
        running=("vllm:num_requests_running",),
        waiting=("vllm:num_requests_waiting",),
        kv_used=("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),  # renamed in 0.9, the old one gone in 0.11
        prefix_hits=("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"),
        prefix_queries=("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"),
        ttft=histogram("vllm:time_to_first_token_seconds"),
        tpot=histogram("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"),
    ),
    counting=OfVllm(),
    continuing="asked",
    documents=True,
    abilities=frozenset({"tools", "json_schema", "logprobs", "embeddings", "rerank", "lora"}),
    needs=(("tools", "--enable-auto-tool-choice"), ("lora", "--enable-lora")),
    formats=("safetensors", "gguf"),
    quantizations=("awq", "gptq", "fp8", "bitsandbytes"),
    on_gpu=OnGpu(pass_tokens=8192),
    traps=(
        MEMORY_SHARE,
        SHARED_MEMORY,
        NCCL,
        CORES,
        Trap("a context longer than the model's own is refused at the start; here it is cut to the model's"),
        Trap(
            "tools need two more flags, whose second depends on the model: "
            "`engine_args: [--enable-auto-tool-choice, --tool-call-parser, hermes]`",
            lambda spec: spec.task == "generate" and "--enable-auto-tool-choice" not in spec.extra_args,
        ),
        Trap(
            "GGUF is experimental in it, and only in one file: llama.cpp is made for that",
            lambda spec: spec.weights.suffix == ".gguf",
        ),
    ),
)
