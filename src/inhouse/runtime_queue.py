"""Makes both ends of a queue in Redis from what the stack says of it. A part of `runtime` and of `runtime_worker`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from inhouse.config import Stack
from inhouse.config.secrets import read_secret
from inhouse.core import ReplicaReport
from inhouse.dispatch.lane import Lane
from inhouse.dispatch.queued import Queued, QueuedSettings
from inhouse.dispatch.worker import Ended, Worker
from inhouse.store.queue import Queue, QueueLimits
from inhouse.store.redis_link import link_of
from inhouse.store.sealing import Sealer


def queue_of(stack: Stack, model: str) -> Queue:
    spec = stack.queue
    limits = QueueLimits(
        lease_s=spec.lease,
        attempts_max=spec.attempts_max,
        answer_bytes_max=spec.answer_bytes_max,
        dead_max=spec.dead_max,
        dead_keep_s=spec.dead_keep,
    )
    return Queue(model, limits)


def queued_of(
    stack: Stack,
    lane: Lane,
    environ: Mapping[str, str],
    tell: Callable[[ReplicaReport], None],
    fault: Callable[[BaseException], None],
) -> Queued:
    """A gateway's end. Raises StackError."""
    settings = QueuedSettings(stack.queue.ahead, stack.queue.away_max)
    link = link_of(stack.queue, environ, "queue")
    sealer = sealer_of(stack, lane.model, environ)
    return Queued(lane, queue_of(stack, lane.model), link, settings, sealer=sealer, tell=tell, fault=fault)


def worker_of(
    stack: Stack,
    lane: Lane,
    environ: Mapping[str, str],
    *,
    told: Callable[[Ended], None],
    contact: Callable[[str], None],
    fault: Callable[[BaseException], None],
) -> Worker:
    """A worker's end. Raises StackError."""
    return Worker(
        lane,
        queue_of(stack, lane.model),
        link_of(stack.queue, environ, "queue"),
        text_bytes_max=stack.models[lane.model].failover.bytes_max,
        told=told,
        contact=contact,
        fault=fault,
        sealer=sealer_of(stack, lane.model, environ),
    )


def sealer_of(stack: Stack, model: str, environ: Mapping[str, str]) -> Sealer:
    reference = stack.queue.encryption_key
    secret = None if reference is None else read_secret(reference, environ, "queue.encryption_key")
    return Sealer(secret, model)
