"""Which models are in memory: random traffic against the decider, and the orders that matter by example."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.engines.residence import Decision, Load, Plan, Residence, Sleep, Use

GIB = 1 << 30
ENDLESS = 1 << 40


def total(plans: Iterable[Plan]) -> tuple[int, int]:
    """Bytes of the machine's memory and of the GPUs'."""
    found = list(plans)
    return sum(plan.planned_bytes for plan in found), sum(plan.gpu_bytes for plan in found)


@dataclass
class Traffic:
    """A model's requests and whether its engine answers."""

    waiting: int = 0
    in_flight: int = 0
    last_s: float = 0.0
    ready: bool = False
    failing: bool = False


@dataclass
class World:
    """What a gateway does around the decider, with a clock of its own. Checks the invariants at each step."""

    residence: Residence
    now_s: float = 0.0
    models: dict[str, Traffic] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)

    def uses(self) -> dict[str, Use]:
        return {name: Use(one.in_flight, one.waiting, one.last_s, one.failing) for name, one in self.models.items()}

    def those(self, *states: str) -> list[Plan]:
        return [plan for name, plan in self.residence.plans.items() if self.residence.state(name) in states]

    def free(self) -> tuple[int, int]:
        memory, gpus = total(self.those("up", "leaving"))
        budgets = (self.residence.budget_bytes, self.residence.gpu_budget_bytes)
        budget, gpu_budget = (ENDLESS if one is None else one for one in budgets)
        return budget - memory, gpu_budget - gpus

    def decide(self) -> None:
        residence, uses = self.residence, self.uses()
        before = {name: residence.state(name) for name in residence.plans}
        free, leaving = self.free(), self.those("leaving")
        decisions = residence.decide(self.now_s, uses)
        self.decisions += decisions
        loads = [residence.plans[one.model] for one in decisions if isinstance(one, Load)]
        sleeps = [one for one in decisions if isinstance(one, Sleep)]
        for load in loads:
            assert before[load.model] == "asleep"
            assert not residence.misfit(load.model)
        claims = [one for one in self.those("asleep") if one.pinned or uses[one.model].waiting]
        wants = total([*loads, *(one for one in claims if not residence.misfit(one.model))])
        for index, sleep in enumerate(sleeps):
            plan, use = residence.plans[sleep.model], uses[sleep.model]
            assert before[sleep.model] == "up"
            assert not plan.pinned
            assert not use.busy
            if sleep.room_for:
                assert residence.plans[sleep.room_for].pinned or uses[sleep.room_for].waiting
                own = [one for one in sleeps[index + 1 :] if one.room_for == sleep.room_for]
                gone = total([*leaving, *(residence.plans[one.model] for one in (*sleeps[:index], *own))])
                needs = total([residence.plans[sleep.room_for]])
                pools = list(zip(total([plan]), wants, needs, free, gone, strict=True))
                assert any(part and want > there + others for part, want, _, there, others in pools)  # not for nothing
                assert all(need <= there + others + part for part, _, need, there, others in pools)  # nor in vain
            else:
                assert plan.sleep_after_s is not None
                assert self.now_s - use.last_s >= plan.sleep_after_s
            self.models[sleep.model].ready = self.models[sleep.model].failing = False
        assert min(self.free()) >= 0

    def move(self, what: str, name: str) -> None:
        """Something that happens outside, where it can."""
        match what:
            case "ask":
                self.ask(name)
            case "serve":
                self.load_ends(name, fails=False)
                self.grant(name)
                self.finish(name)
            case "begin":
                self.load_ends(name, fails=False)
                self.grant(name)
            case "finish":
                self.finish(name)
            case "fail":
                self.load_ends(name, fails=True)
            case "left":
                self.left(name)
            case _:
                self.now_s += 2.5

    def ask(self, name: str) -> None:
        one = self.models[name]
        if not one.failing and not self.residence.misfit(name):
            one.waiting += 1
            one.last_s = self.now_s

    def load_ends(self, name: str, *, fails: bool) -> None:
        one = self.models[name]
        if self.residence.state(name) == "up" and not one.ready:
            one.ready, one.failing = not fails, fails
            if fails:
                one.waiting = 0  # they are told why

    def grant(self, name: str) -> None:
        """All that wait are let in."""
        one = self.models[name]
        if one.ready:
            one.waiting, one.in_flight = 0, one.in_flight + one.waiting

    def finish(self, name: str) -> None:
        one = self.models[name]
        if one.in_flight:
            one.in_flight = 0
            one.last_s = self.now_s

    def left(self, name: str) -> None:
        if self.residence.state(name) == "leaving":
            self.residence.left(name)


NAMES = ("a", "b", "c", "d", "e")
one_pool = st.tuples(st.integers(1, 6), st.just(0))
two_pools = st.tuples(st.integers(0, 6), st.integers(0, 6))
MOVES = ("ask", "ask", "ask", "serve", "serve", "begin", "finish", "fail", "left", "left", "time")


def plans(bytes_of: st.SearchStrategy[tuple[int, int]]) -> st.SearchStrategy[list[Plan]]:
    """Models with the first of the names; one in six is pinned."""
    idles = st.sampled_from((None, None, 2.0, 10.0))
    said = st.tuples(bytes_of, st.sampled_from((False,) * 5 + (True,)), st.sampled_from((True, True, False)), idles)
    return st.lists(said, min_size=2, max_size=len(NAMES)).map(
        lambda models: [
            Plan(name, memory, pinned, at_start, None if pinned else idle, gpu_bytes=gpus)
            for name, ((memory, gpus), pinned, at_start, idle) in zip(NAMES, models, strict=False)
        ]
    )


moves = st.lists(st.tuples(st.sampled_from(MOVES), st.sampled_from(NAMES)), min_size=20, max_size=60)
budgets = st.integers(1, 16)


@given(budgets, plans(one_pool), moves)
def test_any_traffic(budget: int, models: list[Plan], moves: list[tuple[str, str]]) -> None:
    """Never more than the budget; no pinned or busy model is evicted, nobody for nothing or in vain; once no more
    requests come, each that waits is served, unless its model can never fit."""
    run(World(Residence(budget)), models, moves)


@given(st.none() | budgets, st.none() | budgets, plans(two_pools), moves)
def test_any_traffic_on_two_pools(
    budget: int | None, gpu_budget: int | None, models: list[Plan], moves: list[tuple[str, str]]
) -> None:
    """The same of the machine's memory and of the GPUs': never more than either budget, and nobody is evicted for what
    lacks in a pool in which it holds nothing."""
    run(World(Residence(budget, gpu_budget)), models, moves)


@given(st.none() | budgets, st.none() | budgets, plans(two_pools), moves)
def test_the_pools_are_alike(
    budget: int | None, gpu_budget: int | None, models: list[Plan], moves: list[tuple[str, str]]
) -> None:
    """With what is of one pool in the other one, and the other way round, the same is done at each step."""
    worlds = World(Residence(budget, gpu_budget)), World(Residence(gpu_budget, budget))
    turned = [replace(plan, planned_bytes=plan.gpu_bytes, gpu_bytes=plan.planned_bytes) for plan in models]
    assert run(worlds[0], models, moves) == run(worlds[1], turned, moves)


def run(world: World, models: list[Plan], moves: list[tuple[str, str]]) -> list[Decision]:
    """All that was decided, until everybody has been served."""
    for plan in models:
        world.residence.add(plan)
        world.models[plan.model] = Traffic()
    world.decide()
    for what, name in moves:
        if name in world.models:
            world.move(what, name)
            world.decide()
    for _ in range(8 * len(models)):
        for name in world.models:
            world.move("serve", name)
            world.move("left", name)
        world.move("time", "")
        world.decide()
    left_over = {name: one.waiting for name, one in world.models.items() if one.waiting}
    assert not left_over, (left_over, world.residence.planned)
    return world.decisions


def up(residence: Residence) -> list[str]:
    return [name for name in residence.plans if residence.state(name) == "up"]


def test_a_start_with_more_models_than_fit() -> None:
    """Those that are loaded at the start come in their order, as many as fit; nobody is put to sleep for the rest."""
    residence = Residence(4 * GIB)
    for name, size in (("a", 3), ("b", 2), ("c", 1)):
        residence.add(Plan(name, size * GIB))
    assert residence.decide(0.0, {}) == [Load("a"), Load("c")]
    assert residence.decide(1.0, {}) == []


def test_a_model_that_is_used_later_goes_first() -> None:
    """The one that was used longest ago makes room, and no more than is needed go."""
    residence = Residence(4 * GIB)
    for name, size in (("a", 1), ("b", 1), ("c", 2), ("d", 1)):
        residence.add(Plan(name, size * GIB, at_start=name != "d"))
    residence.decide(0.0, {})
    uses = {"a": Use(last_s=5.0), "b": Use(last_s=2.0), "c": Use(last_s=9.0), "d": Use(waiting=1)}
    assert residence.decide(10.0, uses) == [Sleep("b", "d")]
    assert residence.decide(10.1, uses) == []
    residence.left("b")
    assert residence.decide(10.2, uses) == [Load("d")]


def test_small_ones_that_would_not_have_been_needed() -> None:
    """Where a large model has to go anyway, the small ones before it stay."""
    residence = Residence(4 * GIB)
    for name, size in (("a", 1), ("b", 3), ("c", 3)):
        residence.add(Plan(name, size * GIB, at_start=name != "c"))
    residence.decide(0.0, {})
    uses = {"a": Use(last_s=1.0), "b": Use(last_s=2.0), "c": Use(waiting=1)}
    assert residence.decide(3.0, uses) == [Sleep("b", "c")]


def test_one_that_fails_goes_before_one_that_serves() -> None:
    residence = Residence(2 * GIB)
    for name in ("a", "b", "c"):
        residence.add(Plan(name, GIB, at_start=name != "c"))
    residence.decide(0.0, {})
    uses = {"a": Use(last_s=1.0), "b": Use(last_s=9.0, failing=True), "c": Use(waiting=1)}
    assert residence.decide(10.0, uses) == [Sleep("b", "c")]


def test_a_small_model_does_not_keep_a_large_one_out() -> None:
    """While the first that is wanted waits for room, what is free is kept for it."""
    residence = Residence(4 * GIB)
    for name, size in (("a", 3), ("large", 4), ("small", 1)):
        residence.add(Plan(name, size * GIB, at_start=name == "a"))
    residence.decide(0.0, {})
    uses = {"a": Use(in_flight=1), "large": Use(waiting=1), "small": Use()}
    assert residence.decide(1.0, uses) == []
    uses["small"] = Use(waiting=5)
    assert residence.decide(2.0, uses) == []
    assert "'a' (3.0 GiB) is in use" in residence.obstacle("large", uses)
    uses["a"] = Use(last_s=3.0)
    assert residence.decide(3.0, uses) == [Sleep("a", "large")]
    residence.left("a")
    assert residence.decide(4.0, uses) == [Load("large")]


def test_idling() -> None:
    """A model sleeps once it has idled for so long, not before, and not while a request is there."""
    residence = Residence(None)
    residence.add(Plan("a", GIB, sleep_after_s=10.0))
    assert residence.decide(0.0, {}) == [Load("a")]
    assert residence.decide(9.9, {"a": Use(last_s=0.0)}) == []
    assert residence.decide(30.0, {"a": Use(in_flight=1)}) == []
    assert residence.decide(39.0, {"a": Use(last_s=30.0)}) == []
    assert residence.decide(40.0, {"a": Use(last_s=30.0)}) == [Sleep("a")]
    residence.left("a")
    assert residence.decide(41.0, {"a": Use(last_s=30.0)}) == []
    assert residence.decide(42.0, {"a": Use(waiting=1, last_s=42.0)}) == [Load("a")]


def test_models_that_can_never_fit() -> None:
    """They are told at once, with the numbers; pinned models take their room for good, the earlier of them first."""
    residence = Residence(4 * GIB)
    residence.add(Plan("p", 3 * GIB, pinned=True))
    residence.add(Plan("q", 2 * GIB, pinned=True))
    residence.add(Plan("a", 2 * GIB))
    residence.add(Plan("b", 5 * GIB))
    assert residence.decide(0.0, {"a": Use(waiting=1), "b": Use(waiting=1)}) == [Load("p")]
    assert residence.misfit("p") == ""
    assert "it needs 2.0 GiB" in residence.misfit("q")
    assert "the budget is 4.0 GiB, of which pinned models hold 3.0 GiB" in residence.misfit("a")
    assert "it needs 5.0 GiB" in residence.misfit("b")
    assert up(residence) == ["p"]


def test_a_model_that_waits_for_the_gpus() -> None:
    """It leaves the rest of the memory to others, and has nobody put to sleep who holds nothing of the GPUs' memory,
    though that one was used longest ago."""
    residence = Residence(10 * GIB, 8 * GIB)
    residence.add(Plan("cpu", 4 * GIB))
    residence.add(Plan("one", GIB, gpu_bytes=5 * GIB))
    residence.add(Plan("two", GIB, gpu_bytes=6 * GIB, at_start=False))
    residence.add(Plan("small", 3 * GIB, at_start=False))
    residence.add(Plan("other", 2 * GIB, at_start=False))
    assert residence.decide(0.0, {}) == [Load("cpu"), Load("one")]
    uses = {"cpu": Use(last_s=1.0), "one": Use(in_flight=1), "two": Use(waiting=1)}
    assert residence.decide(2.0, uses) == []
    assert residence.obstacle("two", uses) == (
        "it needs 6.0 GiB of the 8.0 GiB of the GPUs' memory, and 'one' (5.0 GiB) is in use"
    )
    uses |= {"small": Use(waiting=1)}
    assert residence.decide(3.0, uses) == [Load("small")]
    uses |= {"small": Use(in_flight=1), "other": Use(waiting=1)}
    assert residence.decide(4.0, uses) == [Sleep("cpu", "other")]  # 1 of the 2 GiB that are free is claimed
    uses |= {"one": Use(last_s=4.5)}
    assert residence.decide(5.0, uses) == [Sleep("one", "two")]
    assert residence.held("one").gpu_bytes == 5 * GIB
    residence.left("one")
    assert residence.held("one").gpu_bytes == 0
    assert residence.decide(6.0, uses) == [Load("two"), Load("other")]


@pytest.mark.parametrize("on_gpus", [False, True])
def test_room_that_is_coming(on_gpus: bool) -> None:
    """It counts, and once: it spares those who would have had to go for the first that wants in, not for the next."""

    def start() -> Residence:
        residence = Residence(None, 6 * GIB) if on_gpus else Residence(6 * GIB)
        for name, size in (("a", 2), ("b", 2), ("c", 2), ("large", 4), ("one", 2), ("two", 2)):
            memory, gpus = (0, size) if on_gpus else (size, 0)
            idle = 4.0 if name == "a" else None
            residence.add(Plan(name, memory * GIB, sleep_after_s=idle, at_start=size < 4, gpu_bytes=gpus * GIB))
        assert residence.decide(0.0, {}) == [Load("a"), Load("b"), Load("c")]
        return residence

    assert start().decide(5.0, {"large": Use(waiting=1)}) == [Sleep("a"), Sleep("b", "large")]
    wanted = {"one": Use(waiting=1), "two": Use(waiting=1)}
    assert start().decide(5.0, wanted) == [Sleep("a"), Sleep("b", "two")]


def test_one_goes_for_each_pool() -> None:
    """Where both pools lack, those go that make room in one of them; one that makes room in both spares them. Who
    makes room where none lacks any more stays, and so does everybody where all together would not do."""
    residence = Residence(6 * GIB, 4 * GIB)
    for name, memory, gpus in (("cpu", 2, 0), ("later", 2, 0), ("gpu", 0, 2), ("both", 2, 2)):
        residence.add(Plan(name, memory * GIB, gpu_bytes=gpus * GIB))
    residence.add(Plan("large", 2 * GIB, at_start=False, gpu_bytes=3 * GIB))
    residence.add(Plan("new", 2 * GIB, at_start=False, gpu_bytes=2 * GIB))
    residence.decide(0.0, {})
    uses = {name: Use(last_s=at_s) for at_s, name in enumerate(("cpu", "later", "gpu"))}
    uses["both"] = Use(in_flight=1)
    assert residence.decide(3.0, uses | {"large": Use(waiting=1)}) == []
    assert residence.decide(4.0, uses | {"new": Use(waiting=1)}) == [Sleep("cpu", "new"), Sleep("gpu", "new")]
    residence = Residence(4 * GIB, 4 * GIB)
    for name, memory, gpus in (("cpu", 1, 0), ("both", 3, 3), ("new", 2, 2)):
        residence.add(Plan(name, memory * GIB, at_start=name != "new", gpu_bytes=gpus * GIB))
    residence.decide(0.0, {})
    uses = {"cpu": Use(last_s=1.0), "both": Use(last_s=2.0), "new": Use(waiting=1)}
    assert residence.decide(3.0, uses) == [Sleep("both", "new")]


def test_models_that_can_never_fit_on_the_gpus() -> None:
    """The pool that is short is named, with its numbers and the way out; both where both are."""
    residence = Residence(4 * GIB)
    assert residence.decide(0.0, {}) == []
    residence.gpu_budget_bytes = 20 * GIB  # known with the first model that uses GPUs
    residence.add(Plan("p", GIB, pinned=True, gpu_bytes=12 * GIB))
    residence.add(Plan("gpu", GIB, gpu_bytes=9 * GIB))
    residence.add(Plan("memory", 5 * GIB, gpu_bytes=8 * GIB))
    residence.add(Plan("both", 4 * GIB, gpu_bytes=24 * GIB))
    residence.add(Plan("fits", 3 * GIB, gpu_bytes=8 * GIB))
    wanted = {name: Use(waiting=1) for name in residence.plans}
    assert residence.decide(1.0, wanted) == [Load("p"), Load("fits")]
    assert residence.misfit("fits") == ""
    of_gpus = (
        "it needs 9.0 GiB of the GPUs' memory, the budget is 20.0 GiB, of which pinned models hold 12.0 GiB; raise "
        "`memory.gpu_budget`, take weights that are quantised, keep it off them by `engine_args: [--device, none]`, "
        "or lower the model's `context` or `slots`"
    )
    of_memory = (
        "it needs 5.0 GiB of memory, the budget is 4.0 GiB, of which pinned models hold 1.0 GiB; raise "
        "`memory.budget`, or lower the model's `context` or `slots`"
    )
    assert residence.misfit("gpu") == residence.obstacle("gpu", wanted) == of_gpus
    assert residence.misfit("memory") == of_memory
    first, _, second = residence.misfit("both").partition("`slots`; ")
    assert first.startswith("it needs 4.0 GiB of memory")
    assert second.startswith("it needs 24.0 GiB of the GPUs' memory")


def test_who_stands_in_the_way_in_both_pools() -> None:
    """Each pool that lacks is told of with those that hold some of it."""
    residence = Residence(4 * GIB, 8 * GIB)
    residence.add(Plan("p", GIB, pinned=True, gpu_bytes=2 * GIB))
    residence.add(Plan("cpu", 2 * GIB))
    residence.add(Plan("gpu", 0, gpu_bytes=5 * GIB))
    residence.add(Plan("new", 3 * GIB, at_start=False, gpu_bytes=6 * GIB))
    residence.decide(0.0, {})
    uses = {"cpu": Use(in_flight=1), "gpu": Use(in_flight=1), "new": Use(waiting=1)}
    assert residence.obstacle("new", uses) == (
        "it needs 3.0 GiB of the 4.0 GiB of memory, and 'p' (1.0 GiB) is pinned, 'cpu' (2.0 GiB) is in use; "
        "it needs 6.0 GiB of the 8.0 GiB of the GPUs' memory, and 'p' (2.0 GiB) is pinned, 'gpu' (5.0 GiB) is in use"
    )
    uses["cpu"] = Use()
    assert residence.obstacle("new", uses).startswith("it needs 6.0 GiB of the 8.0 GiB of the GPUs' memory")
