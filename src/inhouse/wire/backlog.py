"""`GET /health/backlog`: what waits and runs for each model, for autoscalers. Counts only, nothing of any request."""

from __future__ import annotations

from msgspec import Struct


class QueueBacklog(Struct):
    """One model behind a queue, over all of its gateways: whoever asks one of them knows of all."""

    requests: int = 0
    """Those that wait, anywhere, and those that run."""
    tokens: int = 0
    """Prompts and longest answers of these."""
    pending: int = 0
    """Of these, jobs that lie in Redis and that no worker has taken."""
    running: int = 0
    """Of these, jobs that a worker has."""
    workers: int = 0
    slots: int = 0
    """Of all workers that take jobs."""
    gateways: int = 0


class ModelBacklog(Struct, omit_defaults=True):
    """One model, at this gateway."""

    requests: int
    """Those that wait and those that run: what an autoscaler divides by what one replica can do."""
    waiting_requests: int
    waiting_tokens: int
    """Prompts and longest answers of those that wait."""
    running: int
    slots: int
    """Open on all replicas; 0 while none is ready."""
    queue: QueueBacklog | None = None
    """Of a model with `queued: true`: the same over all gateways. The figures above are this gateway's part."""


class BacklogBody(Struct):
    """By the model's name."""

    models: dict[str, ModelBacklog]
