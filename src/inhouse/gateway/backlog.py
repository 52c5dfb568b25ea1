"""`GET /health/backlog`: the queues in numbers, for autoscalers of every kind. Open, as the metrics are."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from inhouse.dispatch.lane import Lane
from inhouse.parts import Parts
from inhouse.wire.backlog import BacklogBody, ModelBacklog


class Backlog:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def show(self, request: Request) -> Response:
        body = BacklogBody({name: backlog_of(lane) for name, lane in self._parts.lanes.items()})
        return Response(msgspec.json.encode(body), media_type="application/json")


def backlog_of(lane: Lane) -> ModelBacklog:
    """Also while no replica is there: requests that wait for the first one are what brings it."""
    queue = lane.turns.queue.snapshot()
    return ModelBacklog(
        requests=queue.waiting + queue.serving,
        waiting_requests=queue.waiting,
        waiting_tokens=queue.waiting_tokens,
        running=queue.serving,
        slots=lane.places.open_slots,
        queue=None if lane.queued is None else lane.queued.backlog,
    )
