"""What the policies are worth, on simulated replicas: the figures of docs/performance.md cannot rot."""

from __future__ import annotations

import pytest
from benchmarks.routing.work import conversations, strangers


@pytest.mark.parametrize("seed", [1, 2])
def test_conversations(seed: int) -> None:
    """`prefix` has at most half the TTFT p50 of `round-robin`, and 1.3 times its throughput at least."""
    plain, knowing = conversations("round-robin", seed, seconds=120.0), conversations("prefix", seed, seconds=120.0)
    assert knowing.ttft_p50_s <= plain.ttft_p50_s / 2
    assert knowing.requests_per_s >= 1.3 * plain.requests_per_s


def test_conversations_that_fill_every_slot() -> None:
    """With a few requests allowed to wait inside a replica, that holds where no slot is ever free for long."""
    plain = conversations("round-robin", 1, users=64, queueing=4, seconds=120.0)
    knowing = conversations("prefix", 1, users=64, queueing=4, seconds=120.0)
    assert knowing.ttft_p50_s <= plain.ttft_p50_s / 2
    assert knowing.requests_per_s >= 1.3 * plain.requests_per_s


@pytest.mark.parametrize("seed", [1, 2])
def test_prompts_that_share_nothing(seed: int) -> None:
    """`prefix` is at most 5 % behind `least-load`."""
    plain, knowing = strangers("least-load", seed, seconds=120.0), strangers("prefix", seed, seconds=120.0)
    assert knowing.ttft_p50_s <= 1.05 * plain.ttft_p50_s
    assert knowing.ttft_p95_s <= 1.05 * plain.ttft_p95_s
    assert knowing.requests_per_s >= 0.95 * plain.requests_per_s
