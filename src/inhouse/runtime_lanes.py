"""Makes the lane of a model from what the stack says of it. A part of `runtime`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from inhouse.admission.context_fit import Fit
from inhouse.admission.fair import FairQueue
from inhouse.admission.turns import Turns
from inhouse.config import CacheSpec, FailoverSpec, ModelSpec
from inhouse.dispatch.cache import Cache
from inhouse.dispatch.failover import Failover
from inhouse.dispatch.flights import Flights
from inhouse.dispatch.lane import Lane
from inhouse.dispatch.upstream import shown_model, start_of
from inhouse.dispatch.watch import TimeLimits
from inhouse.engines.abilities import lacking
from inhouse.engines.queue import QUEUE
from inhouse.engines.table import ENGINES
from inhouse.routing.router import Router
from inhouse.routing.settings import settings_of
from inhouse.telemetry.log import Log
from inhouse.telemetry.metrics import Metrics


def lane_of(name: str, spec: ModelSpec) -> Lane:
    """The lane of a model, without replicas yet."""
    if spec.queued:
        return _queued_lane(name, spec)
    engine = ENGINES[spec.engine]
    return Lane(
        model=name,
        source=spec.source or ", ".join(spec.endpoints),
        created_s=int(time.time()),
        turns=Turns(_queue(name, spec), notice_every_s=spec.queue_notice_every),
        alone=Turns(_queue(name, spec)),
        load_wait_s=spec.load_wait,
        limits=_limits(spec),
        fit=_fit(spec),
        engine=engine,
        lacks=lacking(
            engine,
            None if spec.task == "auto" else spec.task,
            None if spec.source is None else tuple(spec.engine_args),
        ),
        router=Router(settings_of(spec.routing)) if spec.source is None or spec.replicas > 1 else None,
        context_given=spec.context if spec.source is not None or "context" in spec.model_fields_set else None,
        body_start=start_of(spec.upstream_model or name) if spec.source is None else None,
        shown_model=shown_model(spec.upstream_model, name),
        preparing="" if spec.source is None else "fetching",
        failover=_failover(spec.failover),
        flights=_flights(name, spec.cache),
    )


def _queued_lane(name: str, spec: ModelSpec) -> Lane:
    """That of a model whose engines are workers'. While none is there requests wait: one may be on its way."""
    return Lane(
        model=name,
        source="queue",
        created_s=int(time.time()),
        turns=Turns(_queue(name, spec), notice_every_s=spec.queue_notice_every),
        alone=Turns(_queue(name, spec)),
        load_wait_s=spec.load_wait if "load_wait" in spec.model_fields_set else spec.queue_wait_max,
        limits=_limits(spec),
        fit=_fit(spec),
        engine=QUEUE,
        context_given=spec.context if "context" in spec.model_fields_set else None,
        flights=_flights(name, spec.cache),
    )


def _limits(spec: ModelSpec) -> TimeLimits:
    return TimeLimits(
        wait_s=spec.queue_wait_max,
        first_token_s=spec.first_token_timeout,
        token_gap_s=spec.token_gap_timeout,
        total_s=spec.total_timeout,
    )


def _fit(spec: ModelSpec) -> Fit:
    return Fit(spec.context_fit, spec.answer_room, spec.answer_tokens_max, spec.answer_tokens_policy)


def _failover(spec: FailoverSpec) -> Failover | None:
    return Failover(spec.per_answer_max, spec.wait, spec.bytes_max) if spec.enabled else None


def _flights(model: str, spec: CacheSpec) -> Flights | None:
    if not spec.enabled:
        return None
    cache = Cache(bytes_max=spec.bytes_max, entry_bytes_max=spec.entry_bytes_max, age_max_s=spec.age_max)
    return Flights(model, cache, coalesce=spec.coalesce, sharers_max=spec.sharers_max)


def _queue(name: str, spec: ModelSpec) -> FairQueue:
    return FairQueue(
        name,
        waiting_max=spec.queue_requests_max,
        waiting_tokens_max=spec.queue_tokens_max,
        waiting_bytes_max=spec.queue_bytes_max,
        prefill_long_tokens=spec.prefill_long,
        long_share=spec.prefill_long_percent / 100,
        tenant_share=spec.queue_tenant_percent / 100,
    )


def tell_of_outliers(
    lanes: Mapping[str, Lane],
    log: Log,
    metrics: Metrics,
    others: Callable[[str, str], None] = lambda model, endpoint: None,
) -> None:
    """Endpoints that were left out since the last call, as outliers or by their breaker, for the log, the metrics and
    other gateways; to be called about once a second."""
    for lane in lanes.values():
        router = lane.router
        if router is not None and router.ejections:
            ejections, router.ejections = router.ejections, []
            for one in ejections:
                facts = {"reason": one.reason, "for_s": round(one.until_s - time.monotonic(), 1)}
                log.event("warning", "endpoint left out", model=lane.model, endpoint=one.endpoint_id, **facts)
                metrics.ejected(lane.model, one.endpoint_id, one.kind)
                others(lane.model, one.endpoint_id)
