"""How many pods an engine should have, as KEDA and the cluster's autoscaler decide it together. Pure.

The rule that `deploy/scaling.py` writes down for them, so that it can be simulated before it is applied: the load is
what waits and runs at all gateways; `desired` is asked every few seconds, and is handed what it remembers.

Source of the rule: Kubernetes' documentation of HorizontalPodAutoscaler v2 (tolerance 10 %, stabilisation windows,
policies) and KEDA's of ScaledObject (activation, cool-down from one to none).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

TOLERANCE = 0.1
UP_POLICY_S, DOWN_POLICY_S = 60.0, 120.0
UP_PODS, DOWN_PODS = 2, 1


@dataclass(frozen=True, slots=True)
class Rules:
    requests_per_pod: int
    pods_min: int = 1
    pods_max: int = 4
    settle_s: float = 300.0
    idle_s: float = 900.0


@dataclass(frozen=True, slots=True)
class Memory:
    """What was seen until now: the wishes of the last `settle_s`, the changes of late, and when somebody last asked."""

    wishes: tuple[tuple[float, int], ...] = ()
    changes: tuple[tuple[float, int], ...] = ()
    active_s: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    pods: int
    memory: Memory = field(default_factory=Memory)


def desired(rules: Rules, memory: Memory, *, now_s: float, pods: int, load: int, floor: int = 0) -> Decision:
    """Pods that there should be. `load`: requests waiting and running; `floor`: pods by the hour, whatever the load."""
    active_s = now_s if load > 0 or floor > 0 or memory.active_s is None else memory.active_s
    wish = _wish(rules, pods, load)
    wishes = (*(one for one in memory.wishes if one[0] > now_s - rules.settle_s), (now_s, wish))
    changes = tuple(one for one in memory.changes if one[0] > now_s - DOWN_POLICY_S)
    if pods == 0:
        target = max(1 if load > 0 else 0, floor)
    elif wish < pods:
        settled = max(count for _, count in wishes)
        target = max(min(settled, pods), pods - max(0, DOWN_PODS - _gone(changes)))
    else:
        target = min(wish, pods + max(0, max(pods, UP_PODS) - _come(changes, now_s)))
    target = max(target, floor)
    idle = load == 0 and now_s - active_s >= rules.idle_s
    least = rules.pods_min if rules.pods_min or idle or not pods else 1
    target = min(max(target, least), rules.pods_max)
    if idle and pods == 1 and rules.pods_min == 0 and floor == 0:
        target = 0
    if target != pods:
        changes = (*changes, (now_s, target - pods))
    return Decision(target, Memory(wishes, changes, active_s))


def _wish(rules: Rules, pods: int, load: int) -> int:
    """What the load alone asks for; a small difference is none."""
    if pods and abs(load / (pods * rules.requests_per_pod) - 1) <= TOLERANCE:
        return pods
    return math.ceil(load / rules.requests_per_pod)


def _come(changes: tuple[tuple[float, int], ...], now_s: float) -> int:
    return sum(change for at_s, change in changes if change > 0 and at_s > now_s - UP_POLICY_S)


def _gone(changes: tuple[tuple[float, int], ...]) -> int:
    return -sum(change for _, change in changes if change < 0)
