"""The section about the queue in Redis that models may be served through, and what becomes of work in it."""

from __future__ import annotations

from inhouse.config.fields import Count, Duration, Size, setting
from inhouse.config.fleet import SecretReference
from inhouse.config.redis import RedisPlace
from inhouse.config.units import KIB, MIB

_DAY_S = 86_400.0


class QueueSpec(RedisPlace):
    """The Redis between gateways and workers, for models with `queued: true`."""

    encryption_key: SecretReference = setting(
        None, "Where a secret is that encrypts prompts and answers while they lie in Redis; the same for all.",
        example="env:QUEUE_KEY",
    )  # fmt: skip
    lease: Duration = setting(
        5.0, "How long a worker or a gateway may be silent before its work goes on elsewhere, or ends.", unit="seconds",
        ge=0.5, le=600,
    )  # fmt: skip
    ahead: Count = setting(
        2, "Jobs that each gateway puts into Redis beyond the free slots, so that no slot has to wait for the next.",
        unit="requests", ge=0, le=1000,
    )  # fmt: skip
    attempts_max: Count = setting(
        3, "Workers that one job may lose, and failures of engines, before it is laid with the dead letters.",
        unit="attempts", ge=1, le=100,
    )  # fmt: skip
    away_max: Duration = setting(
        30.0, "How long answers in the middle wait for a Redis that is away before they end with an error.",
        unit="seconds", gt=0,
    )  # fmt: skip
    answer_bytes_max: Size = setting(
        4 * MIB, "Bytes of one answer that lie in Redis at once; a longer one cannot go on at another worker.",
        unit="bytes", ge=64 * KIB,
    )  # fmt: skip
    dead_max: Count = setting(1000, "Dead letters that are kept, of each model.", unit="jobs", ge=1, le=1_000_000)
    dead_keep: Duration = setting(7 * _DAY_S, "How long a dead letter is kept.", unit="seconds", gt=0)
