"""What engines differ in once they run: one row each. Everything else of speaking to them is the same.

Not here: how an engine of ours is started (`llamacpp`), and what a page of metrics means (`figures`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Names:
    """What an engine calls a figure on its page of metrics. Newest name first: the first that is there counts."""

    running: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    kv_used: tuple[str, ...] = ()
    """0 to 1, whatever the name says."""
    prefix_rate: tuple[str, ...] = ()
    """The share of hits as a gauge; without one, `prefix_hits` over `prefix_queries`, both counters of tokens."""
    prefix_hits: tuple[str, ...] = ()
    prefix_queries: tuple[str, ...] = ()
    ttft: tuple[tuple[str, str], ...] = ()
    """Counters of seconds and of what they are divided by."""
    tpot: tuple[tuple[str, str], ...] = ()
    started: tuple[str, ...] = ("process_start_time_seconds",)
    """The time at which the process began: another one is another life, with empty caches."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One way of speaking to a running engine."""

    name: str
    health: bytes = b"/health"
    metrics: tuple[bytes, ...] = (b"/metrics",)
    """Where its metrics may be; the first that has one of its names counts. Without any: it has none."""
    names: Names = field(default_factory=Names)
    slots: int = 64
    """Requests at once where neither the engine nor the stack says."""
    llama: bool = False
    """It has llama-server's own paths: /props, /slots, /tokenize, input_tokens."""
    continuing: Literal["", "asked", "always"] = ""
    """Whether a chat that ends with the assistant goes on with that message: never, where `continue_final_message` asks
    for it, or in any case."""

    documents: bool = False
    """It notices a hang-up on a request that is not streamed as well: its whole answer can be asked for in one."""


def _histogram(*names: str) -> tuple[tuple[str, str], ...]:
    return tuple((f"{name}_sum", f"{name}_count") for name in names)


_LLAMA = Names(
    running=("llamacpp:requests_processing",),
    waiting=("llamacpp:requests_deferred",),
    kv_used=("llamacpp:kv_cache_usage_ratio",),  # gone in newer ones
    tpot=(("llamacpp:tokens_predicted_seconds_total", "llamacpp:tokens_predicted_total"),),
)
_VLLM = Names(
    running=("vllm:num_requests_running",),
    waiting=("vllm:num_requests_waiting",),
    kv_used=("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),  # renamed in 0.9, the old one gone in 0.11
    prefix_hits=("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"),
    prefix_queries=("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"),
    ttft=_histogram("vllm:time_to_first_token_seconds"),
    tpot=_histogram("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"),
)
_SGLANG = Names(
    running=("sglang:num_running_reqs",),
    waiting=("sglang:num_queue_reqs",),
    kv_used=("sglang:token_usage",),
    prefix_rate=("sglang:cache_hit_rate",),
    ttft=_histogram("sglang:time_to_first_token_seconds"),
    tpot=_histogram("sglang:inter_token_latency_seconds", "sglang:time_per_output_token_seconds"),
)
_TGI = Names(
    running=("tgi_batch_current_size",),
    waiting=("tgi_queue_size",),
    tpot=_histogram("tgi_request_mean_time_per_token_duration"),
)
_TENSORRT = Names(
    running=("trtllm_num_requests_running", "trtllm:num_requests_running"),  # the colon: up to 1.1
    waiting=("trtllm_num_requests_waiting", "trtllm:num_requests_waiting"),
    kv_used=("trtllm_kv_cache_utilization", "trtllm:kv_cache_utilization"),
    prefix_rate=("trtllm_kv_cache_hit_rate", "trtllm:kv_cache_hit_rate"),
    ttft=_histogram("trtllm_time_to_first_token_seconds", "trtllm:time_to_first_token_seconds"),
    tpot=_histogram("trtllm_time_per_output_token_seconds", "trtllm:time_per_output_token_seconds"),
)

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("llamacpp", names=_LLAMA, slots=4, llama=True, continuing="always"),
        Kind("llama-server", names=_LLAMA, slots=4, llama=True, continuing="always"),
        Kind("vllm", names=_VLLM, continuing="asked", documents=True),
        Kind("sglang", names=_SGLANG, continuing="asked"),
        Kind("tgi", names=_TGI),
        Kind("tensorrt-llm", metrics=(b"/prometheus/metrics", b"/metrics"), names=_TENSORRT),
        Kind("openai", health=b"/v1/models", metrics=(), documents=True),
    )
}
