"""What the process holds, read for its gauges: connections, tasks, reservations."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping

import msgspec
from prometheus_client import ProcessCollector

from inhouse.dispatch.lane import Lane
from inhouse.telemetry.metrics import Metrics
from inhouse.telemetry.process import ProcessGauges, ProcessReading
from inhouse.telemetry.queued import Queues
from inhouse.tenancy.quotas import Quotas


def watch_process(
    metrics: Metrics,
    lanes: Mapping[str, Lane],
    quotas: Quotas,
    *,
    connections: Callable[[], int],
    straight: Callable[[], int],
) -> None:
    """Has `/metrics` show it, and on Linux the usual `process_…` series."""

    def read() -> ProcessReading:
        return ProcessReading(
            connections=connections(),
            tasks=len(asyncio.all_tasks()),
            straight=straight(),
            reservations=quotas.held,
            overruns=quotas.overruns,
            engine_connections={name: _connections(lane) for name, lane in lanes.items()},
        )

    def queues() -> Iterator[tuple[str, dict[str, int], bool]]:
        for name, lane in lanes.items():
            if lane.queued is not None:
                yield name, msgspec.structs.asdict(lane.queued.backlog), not lane.queued.away

    metrics.registry.register(ProcessGauges(read))
    metrics.registry.register(Queues(queues))
    ProcessCollector(registry=metrics.registry)


def _connections(lane: Lane) -> int:
    members = lane.places.members.values()
    return sum(member.pool.open_connections for member in members if member.pool is not None)
