"""The shell around what decides which models are in memory, on a machine with GPUs; without processes."""

from __future__ import annotations

import io
import json

import pytest

from inhouse.config import Stack
from inhouse.config.memory import MemorySpec
from inhouse.config.model import ModelSpec
from inhouse.engines.residence import Plan
from inhouse.errors import ModelDoesNotFit
from inhouse.runtime_lanes import lane_of
from inhouse.runtime_residence import Keeper, Resident, keeper_of
from inhouse.telemetry.log import Log
from inhouse.telemetry.residence import Budgets

GIB = 1 << 30


def keeper(log: Log | None = None, *, gpu_budget_bytes: int | None = None) -> Keeper:
    return Keeper(8 * GIB, [], log or Log(stream=io.StringIO()), gpu_budget_bytes=gpu_budget_bytes)


class Third(Resident):
    """Its processes hold a third of what is planned."""

    def resident_bytes(self) -> int | None:
        return self.plan.planned_bytes // 3


def resident(keeper: Keeper, name: str, *, gpu_bytes: int = 0) -> Resident:
    plan = Plan(name, 3 * GIB, gpu_bytes=gpu_bytes)
    found = Third(lane_of(name, ModelSpec(source="demo")), plan, [], keeper, 1.0)
    keeper.add(found)
    return found


def planned(keeper: Keeper) -> list[tuple[str, int, int]]:
    return [(one.model, one.planned_bytes, one.gpu_planned_bytes) for one in keeper.readings()]


async def test_who_sees_the_most_of_the_gpus_is_believed() -> None:
    """Without a size in the stack it is their memory less a tenth; what the stack says holds, once there are GPUs."""
    free = keeper()
    assert free.budgets() == Budgets(8 * GIB, None)
    free.gpus(40 * GIB)
    assert free.budgets() == Budgets(8 * GIB, 36 * GIB)
    free.gpus(80 * GIB)
    free.gpus(40 * GIB)
    assert free.budgets() == Budgets(8 * GIB, 72 * GIB)
    said = MemorySpec.model_validate({"budget": "8 GiB", "gpu_budget": "20 GiB"})
    given = keeper_of(Stack(memory=said), Log(stream=io.StringIO()))
    assert given.budgets() == Budgets(8 * GIB, None)
    given.gpus(40 * GIB)
    assert given.budgets() == Budgets(8 * GIB, 20 * GIB)


async def test_what_a_model_has_of_the_gpus() -> None:
    """The metrics are told as long as it is loaded, and the log when it is put to sleep. Who waits is told that it
    loads, without a percentage: what is on GPUs already, nobody sees."""
    stream = io.StringIO()
    log = Log(form="json", stream=stream)
    held = keeper(log)
    held.gpus(40 * GIB)
    cpu, gpu = resident(held, "cpu"), resident(held, "gpu", gpu_bytes=30 * GIB)
    new = resident(held, "new", gpu_bytes=8 * GIB)
    assert planned(held) == [("cpu", 3 * GIB, 0), ("gpu", 3 * GIB, 30 * GIB), ("new", 0, 0)]
    assert (cpu.doing(), gpu.doing()) == ("model=loading loaded=33%", "model=loading")
    assert not new.lane.turns.turn(60.0).enter()  # it waits
    held.look()
    assert planned(held)[1] == ("gpu", 3 * GIB, 30 * GIB)  # its processes have not ended yet
    held.left("gpu")
    held.look()
    assert planned(held) == [("cpu", 3 * GIB, 0), ("gpu", 0, 0), ("new", 3 * GIB, 8 * GIB)]
    log.close()
    (slept,) = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (slept["model"], slept["why"]) == ("gpu", "room for 'new'")
    assert (slept["frees"], slept["frees_gpu"]) == ("3.0 GiB", "30.0 GiB")


async def test_a_model_that_is_too_large_for_the_gpus() -> None:
    """Who asks for it is told which memory is too small, and what may be done."""
    held = keeper(gpu_budget_bytes=20 * GIB)
    held.gpus(24 * GIB)
    large = resident(held, "large", gpu_bytes=21 * GIB)
    with pytest.raises(ModelDoesNotFit, match=r"needs 21\.0 GiB of the GPUs' memory, the budget is 20\.0 GiB;"):
        large.wanted()
