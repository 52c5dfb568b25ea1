"""NVIDIA's TensorRT-LLM: `trtllm-serve`. Flags as of 1.2 (tensorrt_llm/commands/serve.py)."""

from __future__ import annotations

from inhouse.engines.engine import Command, Engine, Image, Names, Spec, Trap, histogram, listen
from inhouse.engines.gpu_memory import GIB, OnGpu
from inhouse.engines.http import Address
from inhouse.engines.traps import CORES, LOOPBACK, NCCL, SHARED_MEMORY


def argv(spec: Spec, address: Address) -> Command:
    """The command that serves `spec`. What is left of a GPU's memory beside the weights goes to the cache."""
    flags = [
        *listen(address),
        "--backend", "pytorch",
        "--max_batch_size", str(spec.slots),
        "--max_seq_len", str(spec.context_tokens),
        "--kv_cache_free_gpu_memory_fraction", f"{spec.gpu_share:g}",
        "--tp_size", str(spec.gpus),
    ]  # fmt: skip
    program = str(spec.binary or TENSORRT_LLM.program)
    return Command((program, "serve", str(spec.weights), *flags, *spec.extra_args), (("HF_HUB_OFFLINE", "1"),))


TENSORRT_LLM = Engine(
    name="tensorrt-llm",
    title="TensorRT-LLM",
    argv=argv,
    program="trtllm-serve",
    install="pip install tensorrt-llm",
    image=Image("nvcr.io/nvidia/tensorrt-llm/release:1.2.1", ("trtllm-serve",)),
    stop_s=5.0,
    start_s=1800.0,
    calls_it=lambda spec: spec.weights.name,
    metrics=(b"/prometheus/metrics", b"/metrics"),
    names=Names(
        running=("trtllm_num_requests_running", "trtllm:num_requests_running"),  # the colon: up to 1.1
        waiting=("trtllm_num_requests_waiting", "trtllm:num_requests_waiting"),
        kv_used=("trtllm_kv_cache_utilization", "trtllm:kv_cache_utilization"),
        prefix_rate=("trtllm_kv_cache_hit_rate", "trtllm:kv_cache_hit_rate"),
        ttft=histogram("trtllm_time_to_first_token_seconds", "trtllm:time_to_first_token_seconds"),
        tpot=histogram("trtllm_time_per_output_token_seconds", "trtllm:time_per_output_token_seconds"),
    ),
    abilities=frozenset({"tools", "json_schema", "logprobs", "lora"}),
    quantizations=("awq", "gptq", "fp8"),
    on_gpu=OnGpu(pass_tokens=8192, fixed_bytes=2 * GIB),
    traps=(
        SHARED_MEMORY,
        NCCL,
        CORES,
        LOOPBACK,
        Trap("it calls the model by the last part of its folder's path: in answers it is renamed"),
        Trap(
            "its page of metrics is empty unless a file says `return_perf_metrics: true`: "
            "`engine_args: [--extra_llm_api_options, FILE]`"
        ),
    ),
)
