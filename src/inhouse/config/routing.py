"""The section of a model about which of its replicas a request goes to. What the settings do: `routing/`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from inhouse.config.fields import Count, Duration, Section, setting


class BreakerSpec(Section):
    """When nothing is sent to a failing replica for a while."""

    failures: Count = setting(5, "Failures in a row that open the breaker.", unit="requests", ge=1, le=1000)
    open: Duration = setting(
        1.0, "How long it stays open before a request may probe; doubles with each failed probe.", unit="seconds", gt=0
    )
    open_max: Duration = setting(30.0, "The longest that it stays open before the next probe.", unit="seconds", gt=0)
    probes: Count = setting(1, "Requests that may probe at once.", unit="requests", ge=1, le=100)


class OutlierSpec(Section):
    """When a replica that is worse than the others is left out for a while."""

    error_percent: Count = setting(50, "Failed requests from which on it is left out.", unit="percent", ge=1, le=100)
    latency_percent: Count = setting(
        400, "TTFT or TPOT, of the replicas' median, above which it is left out.", unit="percent", ge=110, le=100_000
    )
    requests_min: Count = setting(
        10, "Requests of late below which a replica is not judged.", unit="requests", ge=1, le=100_000
    )
    half_life: Duration = setting(
        30.0, "After this long a request counts half for what is `of late`.", unit="seconds", gt=0
    )
    eject: Duration = setting(10.0, "How long it is left out; doubles each time.", unit="seconds", gt=0)
    eject_max: Duration = setting(300.0, "The longest that it is left out.", unit="seconds", gt=0)
    stay_percent: Count = setting(
        50, "Part of the replicas that is never left out, however bad.", unit="percent", ge=1, le=100
    )


class RetrySpec(Section):
    """How many requests may be sent again, on another replica, before their first token."""

    percent: Count = setting(20, "Retries for each hundred requests of late.", unit="percent", ge=0, le=1000)
    floor_per_second: Count = setting(
        1,
        "Retries that are allowed beside these, however little is going on.",
        unit="retries per second",
        ge=0,
        le=1000,
    )
    per_request_max: Count = setting(
        2, "Retries of one request: what kills the engine that reads it must not kill them all.",
        unit="retries", ge=0, le=100,
    )  # fmt: skip


class RoutingSpec(Section):
    """Which replica a request goes to. With a single replica there is nothing to choose."""

    policy: Literal["round-robin", "least-load", "prefix", "session"] = setting(
        "prefix", "How a replica is chosen; see docs/routing/."
    )
    load_weight: Count = setting(4, "What free slots count for.", unit="shares", ge=1, le=1000)
    kv_weight: Count = setting(1, "What free memory for keys and values counts for.", unit="shares", ge=0, le=1000)
    latency_weight: Count = setting(0, "What a short time to the first token counts for.", unit="shares", ge=0, le=1000)
    prefix_weight: Count = setting(8, "What a prompt's known beginning counts for.", unit="shares", ge=0, le=1000)
    prefix_agreed: bool = setting(
        False, "Whether many gateways agree, by hashing, where a prompt goes whose beginning is new to them."
    )
    balance_percent: Count = setting(
        125,
        "Prefix and session hold while a replica has at most this part of its share of the load.",
        unit="percent",
        ge=100,
        le=10_000,
    )
    endpoint_queue_max: Count = setting(
        0, "Requests that a replica may be sent beyond its slots.", unit="requests", ge=0, le=10_000
    )
    prefix_blocks_max: Count = setting(
        16_384, "Blocks of prompts that are remembered, about 200 bytes each.", unit="blocks", ge=1, le=10_000_000
    )
    sessions_max: Count = setting(10_000, "Sessions that are remembered.", unit="sessions", ge=1, le=10_000_000)
    figures_max_age: Duration = setting(
        15.0, "Figures that a replica reported longer ago count as unknown.", unit="seconds", gt=0
    )
    breaker: BreakerSpec = Field(default_factory=BreakerSpec, description="When a failing replica is left alone.")
    outliers: OutlierSpec = Field(default_factory=OutlierSpec, description="When a bad replica is left out.")
    retries: RetrySpec = Field(default_factory=RetrySpec, description="How much may be sent again.")
