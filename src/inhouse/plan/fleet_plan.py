"""What a simulation is made of: replicas, routing, times and limits."""

from __future__ import annotations

from dataclasses import dataclass, field

from inhouse.plan.simulated_replica import ReplicaModel
from inhouse.routing.router import RouterSettings
from inhouse.store.ledger import Limits


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """What is simulated. Times in seconds."""

    replicas: int = 8
    model: ReplicaModel = field(default_factory=ReplicaModel)
    router: RouterSettings = field(default_factory=RouterSettings)
    scrape_s: float = 1.0
    idle_timeout_s: float = 20.0
    restart_s: float = 10.0
    queue_wait_s: float = 60.0
    queue_max: int = 10_000
    limits: Limits = field(default_factory=Limits)
    """Of each tenant."""
