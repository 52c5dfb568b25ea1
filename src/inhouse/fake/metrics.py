"""`/metrics` under the names of several engines, for whoever has to read them all.

Figures that an engine does not report are absent, never 0: that is what a reader must cope with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class Figures:
    """What was counted since the start, and what is so now."""

    running: int = 0
    running_max: int = 0
    waiting: int = 0
    kv_used: float = 0.0
    """Part of the memory for keys and values in use, 0 to 1."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    answer_tokens: int = 0
    requests: int = 0
    refused: int = 0
    ttft_s: float = 0.0
    ttft_count: int = 0
    decode_s: float = 0.0
    decode_count: int = 0
    prefill_s: float = 0.0
    queue_s: float = 0.0


Row = tuple[str, str, float]
"""(name and labels, type, value)"""


def page(flavour: str, figures: Figures, model: str) -> bytes | None:
    """The page in Prometheus' text format; None where the engine has none."""
    rows = _FLAVOURS.get(flavour)
    if rows is None:
        return None
    lines = []
    for name, kind, value in rows(figures, f'model_name="{model}"'):
        bare = name.partition("{")[0]
        family = bare.removesuffix("_sum") if kind == "summary" else bare
        if not bare.endswith("_count"):
            lines.append(f"# TYPE {family} {kind}")
        lines.append(f"{name} {value:g}" if value < 1e6 else f"{name} {value:.0f}")
    return "\n".join([*lines, ""]).encode()


def _llamacpp(figures: Figures, label: str) -> list[Row]:
    prefill_s, decode_s = figures.prefill_s, figures.decode_s
    computed = figures.prompt_tokens - figures.cached_tokens
    return [
        ("llamacpp:prompt_tokens_total", "counter", computed),
        ("llamacpp:prompt_seconds_total", "counter", prefill_s),
        ("llamacpp:tokens_predicted_total", "counter", figures.answer_tokens),
        ("llamacpp:tokens_predicted_seconds_total", "counter", decode_s),
        ("llamacpp:prompt_tokens_seconds", "gauge", computed / prefill_s if prefill_s else 0),
        ("llamacpp:predicted_tokens_seconds", "gauge", figures.answer_tokens / decode_s if decode_s else 0),
        ("llamacpp:requests_processing", "gauge", figures.running),
        ("llamacpp:requests_deferred", "gauge", figures.waiting),
    ]


def _summary(name: str, label: str, total: float, count: int) -> list[Row]:
    return [(f"{name}_sum{{{label}}}", "summary", total), (f"{name}_count{{{label}}}", "summary", count)]


def _vllm(figures: Figures, label: str, kv: str, itl: str) -> list[Row]:
    return [
        (f"vllm:num_requests_running{{{label}}}", "gauge", figures.running),
        (f"vllm:num_requests_waiting{{{label}}}", "gauge", figures.waiting),
        (f"vllm:{kv}{{{label}}}", "gauge", figures.kv_used),
        (f"vllm:prefix_cache_queries_total{{{label}}}", "counter", figures.prompt_tokens),
        (f"vllm:prefix_cache_hits_total{{{label}}}", "counter", figures.cached_tokens),
        (f"vllm:num_preemptions_total{{{label}}}", "counter", 0),
        (f"vllm:prompt_tokens_total{{{label}}}", "counter", figures.prompt_tokens),
        (f"vllm:generation_tokens_total{{{label}}}", "counter", figures.answer_tokens),
        *_summary("vllm:time_to_first_token_seconds", label, figures.ttft_s, figures.ttft_count),
        *_summary(f"vllm:{itl}", label, figures.decode_s, figures.decode_count),
        *_summary("vllm:request_queue_time_seconds", label, figures.queue_s, figures.ttft_count),
    ]


def _vllm_new(figures: Figures, label: str) -> list[Row]:
    return _vllm(figures, label, "kv_cache_usage_perc", "inter_token_latency_seconds")


def _vllm_old(figures: Figures, label: str) -> list[Row]:
    return _vllm(figures, label, "gpu_cache_usage_perc", "time_per_output_token_seconds")


def _sglang(figures: Figures, label: str) -> list[Row]:
    hits = figures.cached_tokens / figures.prompt_tokens if figures.prompt_tokens else 0
    return [
        (f"sglang:num_running_reqs{{{label}}}", "gauge", figures.running),
        (f"sglang:num_queue_reqs{{{label}}}", "gauge", figures.waiting),
        (f"sglang:token_usage{{{label}}}", "gauge", figures.kv_used),
        (f"sglang:cache_hit_rate{{{label}}}", "gauge", hits),
        *_summary("sglang:time_to_first_token_seconds", label, figures.ttft_s, figures.ttft_count),
    ]


def _tgi(figures: Figures, label: str) -> list[Row]:
    return [
        ("tgi_queue_size", "gauge", figures.waiting),
        ("tgi_batch_current_size", "gauge", figures.running),
        ("tgi_request_mean_time_per_token_duration_sum", "summary", figures.decode_s),
        ("tgi_request_mean_time_per_token_duration_count", "summary", figures.decode_count),
    ]


def _trtllm(figures: Figures, label: str) -> list[Row]:
    return [
        (f"trtllm_num_requests_running{{{label}}}", "gauge", figures.running),
        (f"trtllm_num_requests_waiting{{{label}}}", "gauge", figures.waiting),
        (f"trtllm_kv_cache_utilization{{{label}}}", "gauge", figures.kv_used),
    ]


_FLAVOURS: dict[str, Callable[[Figures, str], list[Row]]] = {
    "llamacpp": _llamacpp,
    "vllm": _vllm_new,
    "vllm-old": _vllm_old,
    "sglang": _sglang,
    "tgi": _tgi,
    "trtllm": _trtllm,
}
