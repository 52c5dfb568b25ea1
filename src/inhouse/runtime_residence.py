"""Loads the models of this machine and puts them to sleep, within its memory and that of its GPUs. A part of `runtime`.

A thin shell around `engines.residence`: `Keeper.look` asks it what is to be done, a few times a second and whenever
something has changed, and has each `Resident` do it. Between what it saw and what is done there is no `await`: a model
that is put to sleep takes no request from that moment on, and one that comes then wakes it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from inhouse.config import Stack
from inhouse.dispatch.lane import Lane
from inhouse.engines import choices, hardware
from inhouse.engines.hardware import resident_bytes
from inhouse.engines.replica import Replica
from inhouse.engines.residence import Load, Plan, Residence, Sleep, Use, size
from inhouse.errors import ModelDoesNotFit
from inhouse.telemetry.log import Log
from inhouse.telemetry.residence import Budgets, Reading
from inhouse.weights.sources import is_here

_DOES_NOT_FIT_RETRY_S = 60.0


class Keeper:
    """All models of this machine. `awaited` are those whose weights are here: they are loaded in this order."""

    def __init__(
        self, budget_bytes: int | None, awaited: Iterable[str], log: Log, *, gpu_budget_bytes: int | None = None
    ) -> None:
        self.residence = Residence(budget_bytes)
        self._gpu_budget_bytes = gpu_budget_bytes
        self.residents: dict[str, Resident] = {}
        self._known: dict[str, Resident] = {}
        self._awaited = list(awaited)
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._called = False

    def gpus(self, total_bytes: int) -> None:
        """The GPUs of this machine have so much memory together: to be told before a model that uses them is added.

        Who sees the most is believed: a model may be given fewer.
        """
        budget = choices.gpu_budget(total_bytes, budget_bytes=self._gpu_budget_bytes)
        self.residence.gpu_budget_bytes = max(budget.value, self.residence.gpu_budget_bytes or 0)

    def add(self, resident: Resident) -> None:
        """Its size is known. Models that stand before it in the stack and are still looked at come first."""
        self._known[resident.plan.model] = resident
        if resident.plan.model not in self._awaited:
            self._admit(resident)
        self._go_on()

    def give_up(self, model: str) -> None:
        """Its weights cannot be had for now: nobody waits for it any more."""
        if model in self._awaited:
            self._awaited.remove(model)
        self._go_on()

    def soon(self) -> None:
        """Something has changed: looks once the running task has come to a stop."""
        if not self._called:
            self._called = True
            self._loop.call_soon(self.look)

    def look(self) -> None:
        """Decides, and has it done."""
        self._called = False
        now_s = self._loop.time()
        for decision in self.residence.decide(now_s, self.uses()):
            resident = self.residents[decision.model]
            if isinstance(decision, Load):
                resident.load()
            else:
                self._tell(decision)
                resident.sleep(decision)

    def uses(self) -> dict[str, Use]:
        now_s = self._loop.time()
        return {name: resident.use(now_s) for name, resident in self.residents.items()}

    def left(self, model: str) -> None:
        """Its processes have ended."""
        self.residence.left(model)
        self.soon()

    def budgets(self) -> Budgets:
        """For the metrics, at each scrape; so are the readings."""
        return Budgets(self.residence.budget_bytes, self.residence.gpu_budget_bytes)

    def readings(self) -> Iterable[Reading]:
        for name, resident in self.residents.items():
            held = self.residence.held(name)
            yield Reading(
                model=name,
                asleep=self.residence.state(name) == "asleep",
                planned_bytes=held.memory_bytes,
                gpu_planned_bytes=held.gpu_bytes,
                resident_bytes=resident.resident_bytes(),
                loads=resident.loads,
                idled=resident.idled,
                evicted=resident.evicted,
            )

    def _go_on(self) -> None:
        while self._awaited and self._awaited[0] in self._known:
            self._admit(self._known[self._awaited.pop(0)])

    def _admit(self, resident: Resident) -> None:
        plan = resident.plan
        self.residents[plan.model] = resident
        self.residence.add(plan)
        resident.lane.sleeper = resident
        resident.lane.turns.notices.doing = resident.doing
        resident.lane.preparing = ""
        self.look()
        if self.residence.state(plan.model) == "asleep":
            resident.tell_asleep(self.residence.misfit(plan.model))

    def _tell(self, decision: Sleep) -> None:
        why = f"room for '{decision.room_for}'" if decision.room_for else "idle"
        plan = self.residence.plans[decision.model]
        frees, frees_gpu = size(plan.planned_bytes), size(plan.gpu_bytes) if plan.gpu_bytes else None
        self._log.event("info", "model put to sleep", model=decision.model, why=why, frees=frees, frees_gpu=frees_gpu)


def keeper_of(stack: Stack, log: Log) -> Keeper:
    """The keeper of the models that are started here, with the memory that they may have."""
    said = stack.memory
    room = choices.budget(hardware.look(with_gpus=False), budget_bytes=said.budget, reserve=said.reserve)
    here = [name for name, spec in stack.models.items() if spec.source is not None and is_here(spec.source)]
    return Keeper(None if room is None else room.value, here, log, gpu_budget_bytes=said.gpu_budget)


@dataclass(eq=False)
class Resident:
    """One model and its replicas; what its lane knows as the `Sleeper`. `hold_s`: how long a request is held."""

    lane: Lane
    plan: Plan
    replicas: list[Replica]
    keeper: Keeper
    hold_s: float
    loads: int = 0
    idled: int = 0
    evicted: int = 0
    _grants: int = 0
    _last_s: float = 0.0
    _on_demand: bool = False

    def __post_init__(self) -> None:
        self._up, self._down = asyncio.Event(), asyncio.Event()

    async def live(self) -> None:
        """Runs the replicas whenever it is loaded, until it is cancelled."""
        while True:
            await self._up.wait()
            self._up.clear()
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(replica.run(), name=replica.member.id) for replica in self.replicas]
                await self._down.wait()
                self._down.clear()
                for task in tasks:
                    task.cancel()
            self.keeper.left(self.plan.model)

    def load(self) -> None:
        self.loads += 1
        self._on_demand = bool(self._waiting())
        for replica in self.replicas:
            replica.at_end = "stopped"
        self._up.set()

    def sleep(self, decision: Sleep) -> None:
        """Shut at once; the processes end a moment later."""
        self.evicted += bool(decision.room_for)
        self.idled += not decision.room_for
        for replica in self.replicas:
            replica.at_end = "asleep"
            replica.member.enter("asleep")
        self._down.set()

    def tell_asleep(self, misfit: str) -> None:
        """Nothing has been loaded, which nobody would hear of otherwise, nor that nothing can be."""
        for replica in self.replicas:
            replica.tell("failed" if misfit else "asleep", misfit)

    def use(self, now_s: float) -> Use:
        """What requests do with it now."""
        in_flight, waiting, grants = self._in_flight(), self._waiting(), self.lane.turns.queue.grants
        members = self.lane.places.members.values()
        failing = bool(members) and all(member.said == "failed" for member in members)
        loading = not (failing or self.lane.ready)  # it begins to idle once it is there
        if in_flight or waiting or loading or grants != self._grants:
            self._grants, self._last_s = grants, now_s
        return Use(in_flight, waiting, self._last_s, failing)

    def _in_flight(self) -> int:
        members = self.lane.places.members.values()
        return self.lane.turns.queue.serving + self.lane.asking + sum(member.in_flight for member in members)

    def _waiting(self) -> int:
        return self.lane.turns.queue.waiting + self.lane.alone.queue.waiting

    def resident_bytes(self) -> int | None:
        """What its processes hold, as the system says; None while there are none."""
        pids = [replica.child.pid for replica in self.replicas if replica.child is not None and replica.child.running]
        sizes = [found for pid in pids if (found := resident_bytes(pid)) is not None]
        return sum(sizes) if sizes else None

    @property
    def holds(self) -> bool:
        state = self.keeper.residence.state(self.plan.model)
        return state != "up" or (self._on_demand and self.lane.state != "failed")

    def wanted(self) -> float:
        misfit = self.keeper.residence.misfit(self.plan.model)
        if misfit:
            raise ModelDoesNotFit(
                f"the model '{self.plan.model}' cannot be loaded: {misfit}", retry_after_s=_DOES_NOT_FIT_RETRY_S
            )
        if not self.holds:
            return 0.0
        self.keeper.soon()
        return self.hold_s

    def obstacle(self) -> str:
        return self.keeper.residence.obstacle(self.plan.model, self.keeper.uses())

    def doing(self) -> str:
        if self.keeper.residence.state(self.plan.model) != "up":
            return "model=waits_for_memory" if self.obstacle() else "model=loading"
        held = self.resident_bytes()
        if held is None or not self.plan.planned_bytes or self.plan.gpu_bytes:
            return "model=loading"  # how much of it is on GPUs already, nobody sees
        return f"model=loading loaded={min(99, 100 * held // self.plan.planned_bytes)}%"
