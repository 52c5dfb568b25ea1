"""`GET /health/backlog`: what waits and runs for each model, for autoscalers. Counts only, nothing of any request."""

from __future__ import annotations

from msgspec import Struct


class ModelBacklog(Struct):
    """One model, at this gateway."""

    requests: int
    """Those that wait and those that run: what an autoscaler divides by what one replica can do."""
    waiting_requests: int
    waiting_tokens: int
    """Prompts and longest answers of those that wait."""
    running: int
    slots: int
    """Open on all replicas; 0 while none is ready."""


class BacklogBody(Struct):
    """By the model's name."""

    models: dict[str, ModelBacklog]
