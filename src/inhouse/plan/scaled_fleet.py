"""A simulated fleet that an autoscaler makes larger and smaller: pods come slowly, and finish before they go."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

from inhouse.plan.autoscale import Memory, Rules, desired
from inhouse.plan.simulated_replica import SimulatedReplica
from inhouse.plan.simulation import Simulation


@dataclass(frozen=True, slots=True)
class Reading:
    """What the autoscaler saw, and what it said."""

    at_s: float
    load: int
    pods: int


class ScaledFleet:
    """Takes hold of all replicas of a simulation, which are the pods that there may be. None is up at first.

    `ahead`: the load that is expected, a further trigger: the larger one counts. `seen` hears of each reading.
    """

    def __init__(
        self,
        simulation: Simulation,
        rules: Rules,
        *,
        load_s: float,
        poll_s: float = 10.0,
        ahead: Callable[[float], float] | None = None,
        seen: Callable[[float, float], None] = lambda _now_s, _load: None,
    ) -> None:
        self.readings: list[Reading] = []
        self.pod_seconds = 0.0
        self._simulation, self._rules, self._load_s, self._poll_s = simulation, rules, load_s, poll_s
        self._pods = list(simulation.replicas.values())
        self._memory = Memory()
        self._ahead, self._seen = ahead, seen
        self._wanted = 0
        for replica in self._pods:
            replica.up = False
        self._wish(rules.pods_min)
        self._poll()

    def _poll(self) -> None:
        queue, now_s = self._simulation.queue, self._simulation.now_s
        load = queue.waiting + queue.serving
        self._seen(now_s, load)
        expected = 0 if self._ahead is None else math.ceil(self._ahead(now_s))
        said = desired(self._rules, self._memory, now_s=now_s, pods=self._wanted, load=max(load, expected))
        self._memory = said.memory
        self._wish(said.pods)
        self.readings.append(Reading(now_s, load, said.pods))
        self.pod_seconds += self._poll_s * sum(self._there(replica) for replica in self._pods)
        self._simulation.at(now_s + self._poll_s, self._poll)

    def _there(self, replica: SimulatedReplica) -> bool:
        """Whether it costs something: it comes, is up, or finishes."""
        return replica.up or self._pods.index(replica) < self._wanted

    def _wish(self, pods: int) -> None:
        before, self._wanted = self._wanted, pods
        for replica in self._pods[before:pods]:
            if replica.up:  # it was about to go
                replica.draining = False
            else:
                self._simulation.at(self._simulation.now_s + self._load_s, functools.partial(self._come, replica))
        for replica in self._pods[pods:before]:
            replica.draining = True
            self._leave(replica)

    def _come(self, replica: SimulatedReplica) -> None:
        if self._pods.index(replica) < self._wanted and not replica.up:
            replica.restart()

    def _leave(self, replica: SimulatedReplica) -> None:
        """Once it has finished what it has."""
        if not replica.draining:
            return
        if replica.active:
            self._simulation.at(self._simulation.now_s + 1.0, lambda: self._leave(replica))
        else:
            replica.up = replica.draining = False
