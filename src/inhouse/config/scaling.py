"""The section of a model's `deploy` about how many pods its engine has as load comes and goes."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, model_validator

from inhouse.config.fields import Count, Duration, MaybeCount, Section, contradiction, setting

_DAYS = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
HOURS = re.compile(rf"({_DAYS}(?:-{_DAYS})?) ([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)=(\d{{1,4}})")
"""Days, from, to, pods: `Mon-Fri 07:30-18:00=2`."""


def _hours(rows: list[str]) -> list[str]:
    for row in rows:
        if not HOURS.fullmatch(row):
            raise ValueError("not hours such as Mon-Fri 07:30-18:00=2")
    return rows


class ScalingSpec(Section):
    """How many pods there are: by the requests that wait and run at the gateways."""

    by: Literal["none", "keda", "hpa", "knative"] = setting(
        "none",
        "What scales: KEDA, which can go to zero, the cluster's own autoscaler with a metrics adapter, or Knative "
        "where it is the target.",
    )
    pods_min: Count = setting(
        1,
        "Pods that stay; 0 lets the last one go, and a request waits for it to come back.",
        unit="pods",
        ge=0,
        le=1000,
    )
    pods_max: Count = setting(4, "Pods at most.", unit="pods", ge=1, le=1000)
    requests_per_pod: MaybeCount = setting(
        None, "Requests, waiting and running, that one pod is for; without a number, its slots.",
        unit="requests", example=8, ge=1, le=100_000,
    )  # fmt: skip
    metric: Literal["gateway", "prometheus"] = setting(
        "gateway", "Where KEDA reads: at the gateways themselves, or from a Prometheus that reads them."
    )
    prometheus: str | None = setting(
        None, "The address of that Prometheus.", example="http://prometheus.monitoring.svc:9090", max_length=512
    )
    settle: Duration = setting(
        300.0, "How long fewer pods must have been enough before one goes.", unit="seconds", ge=0, le=3600
    )
    idle: Duration = setting(900.0, "How long nothing may have been asked before the last one goes.", unit="seconds")
    office_hours: Annotated[list[str], AfterValidator(_hours)] = setting(
        [], "Pods that are there at certain times whatever the load is.", example=["Mon-Fri 07:30-18:00=2"]
    )
    timezone: str = setting("UTC", "The time zone of `office_hours`, as in the IANA database.", max_length=64)
    forecast: bool = setting(
        False, "Whether pods come ahead of the load of the same hour yesterday and a week ago; needs `prometheus`."
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.pods_min > self.pods_max:
            raise contradiction(
                ("pods_min",), f"`pods_min` is {self.pods_min}, `pods_max` is {self.pods_max}", "raise `pods_max`"
            )
        if self.by == "hpa":
            given = {"pods_min: 0": not self.pods_min, "office_hours": self.office_hours, "forecast": self.forecast}
            named = next((name for name, value in given.items() if value), None)
            if named is not None:
                raise contradiction(
                    ("by",),
                    f"the autoscaler of the cluster itself knows no `{named}`",
                    "take `by: keda`, or leave it out",
                )
        asks = next(
            (n for n, asked in (("metric", self.metric == "prometheus"), ("forecast", self.forecast)) if asked), None
        )
        if asks and self.prometheus is None:
            raise contradiction(
                (asks,),
                f"`{asks}` asks a Prometheus",
                "add its address: `prometheus: http://prometheus.monitoring.svc:9090`",
            )
        return self
