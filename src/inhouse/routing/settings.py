"""The router's settings as plain numbers, and what each stands for. From the configuration: `config/routing.py`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from inhouse.config.routing import RoutingSpec
from inhouse.routing.outliers import OutlierRules

PolicyName = Literal["round-robin", "least-load", "prefix", "session"]


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """Weights count against each other; their sum means nothing."""

    policy: PolicyName = "prefix"
    load_weight: float = 4.0
    kv_weight: float = 1.0
    latency_weight: float = 0.0
    prefix_weight: float = 8.0
    prefix_agreed: bool = False
    """Whether a prompt that is new here goes where every gateway would send it."""
    balance: float = 1.25
    """Affinity holds while an endpoint has at most this times its share of the load."""
    queueing_max: int = 0
    """Requests that an endpoint may be sent beyond its slots."""
    prefix_blocks_max: int = 16_384
    sessions_max: int = 10_000
    figures_s_max: float = 15.0
    """Figures of an endpoint that are older than this count as unknown."""
    failures_max: int = 5
    open_s: float = 1.0
    open_s_max: float = 30.0
    probes_max: int = 1
    half_life_s: float = 30.0
    outliers: OutlierRules = field(default_factory=OutlierRules)
    retry_percent: float = 20.0
    retry_floor_per_s: float = 1.0
    retries_max: int = 2
    """Of one request."""


def settings_of(spec: RoutingSpec) -> RouterSettings:
    """The settings that a model's `routing` section describes."""
    return RouterSettings(
        policy=spec.policy,
        load_weight=spec.load_weight,
        kv_weight=spec.kv_weight,
        latency_weight=spec.latency_weight,
        prefix_weight=spec.prefix_weight,
        prefix_agreed=spec.prefix_agreed,
        balance=spec.balance_percent / 100,
        queueing_max=spec.endpoint_queue_max,
        prefix_blocks_max=spec.prefix_blocks_max,
        sessions_max=spec.sessions_max,
        figures_s_max=spec.figures_max_age,
        failures_max=spec.breaker.failures,
        open_s=spec.breaker.open,
        open_s_max=spec.breaker.open_max,
        probes_max=spec.breaker.probes,
        half_life_s=spec.outliers.half_life,
        outliers=OutlierRules(
            error_share=spec.outliers.error_percent / 100,
            latency_factor=spec.outliers.latency_percent / 100,
            requests_min=spec.outliers.requests_min,
            eject_s=spec.outliers.eject,
            eject_s_max=spec.outliers.eject_max,
            stay_share=spec.outliers.stay_percent / 100,
        ),
        retry_percent=spec.retries.percent,
        retry_floor_per_s=spec.retries.floor_per_second,
        retries_max=spec.retries.per_request_max,
    )
