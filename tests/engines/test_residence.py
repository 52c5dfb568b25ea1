"""Which models are in memory: random traffic against the decider, and the orders that matter by example."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from inhouse.engines.residence import Load, Plan, Residence, Sleep, Use

GIB = 1 << 30


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
    served: int = 0

    def uses(self) -> dict[str, Use]:
        return {name: Use(one.in_flight, one.waiting, one.last_s, one.failing) for name, one in self.models.items()}

    def decide(self) -> None:
        residence, uses = self.residence, self.uses()
        before = {name: residence.state(name) for name in residence.plans}
        free = residence.budget_bytes - residence.planned_bytes
        freed = sum(plan.planned_bytes for name, plan in residence.plans.items() if before[name] == "leaving")
        for decision in residence.decide(self.now_s, uses):
            plan, use = residence.plans[decision.model], uses[decision.model]
            if isinstance(decision, Load):
                assert before[decision.model] == "asleep"
                assert not residence.misfit(decision.model)
                free -= plan.planned_bytes
            else:
                assert before[decision.model] == "up"
                assert not plan.pinned
                assert not use.busy
                if decision.room_for:
                    needs = residence.plans[decision.room_for]
                    assert needs.pinned or uses[decision.room_for].waiting
                    assert freed < needs.planned_bytes  # there was not room enough without it
                    freed += plan.planned_bytes
                else:
                    assert plan.sleep_after_s is not None
                    assert self.now_s - use.last_s >= plan.sleep_after_s
                self.models[decision.model].ready = self.models[decision.model].failing = False
            assert free >= 0
        assert residence.planned_bytes <= residence.budget_bytes

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
        one = self.models[name]
        if one.ready and one.waiting:
            one.waiting -= 1
            one.in_flight += 1

    def finish(self, name: str) -> None:
        one = self.models[name]
        if one.in_flight:
            one.in_flight -= 1
            one.last_s = self.now_s
            self.served += 1

    def left(self, name: str) -> None:
        if self.residence.state(name) == "leaving":
            self.residence.left(name)


Size = tuple[int, bool, bool, float | None]
NAMES = ("a", "b", "c", "d", "e")
plans = st.lists(
    st.builds(
        lambda size, pinned, at_start, idle: (size, pinned, at_start, None if pinned else idle),
        st.integers(1, 8),
        st.booleans(),
        st.booleans(),
        st.none() | st.floats(1.0, 20.0),
    ),
    min_size=1,
    max_size=len(NAMES),
)
steps = st.lists(
    st.tuples(
        st.sampled_from(("ask", "ask", "ready", "fails", "grant", "finish", "left", "time")),
        st.integers(0, len(NAMES) - 1),
    ),
    max_size=60,
)


@given(st.integers(1, 16), plans, steps)
def test_any_traffic(
    budget: int, sizes: list[tuple[int, bool, bool, float | None]], moves: list[tuple[str, int]]
) -> None:
    """Never more than the budget; no pinned or busy model is evicted, nobody for nothing; once no more requests come,
    each that waits is served, unless its model can never fit."""
    world = World(Residence(budget))
    for name, (size, pinned, at_start, idle) in zip(NAMES, sizes, strict=False):
        world.residence.add(Plan(name, size, pinned=pinned, at_start=at_start, sleep_after_s=idle))
        world.models[name] = Traffic()
    names = list(world.models)
    for what, number in moves:
        name = names[number % len(names)]
        match what:
            case "ask":
                world.ask(name)
            case "ready":
                world.load_ends(name, fails=False)
            case "fails":
                world.load_ends(name, fails=True)
            case "grant":
                world.grant(name)
            case "finish":
                world.finish(name)
            case "left":
                world.left(name)
            case _:
                world.now_s += 2.5
        world.decide()
    for _ in range(8 * len(names)):
        for name in names:
            world.load_ends(name, fails=False)
            world.grant(name)
            world.finish(name)
            world.left(name)
        world.now_s += 1.0
        world.decide()
        for name, one in world.models.items():
            while one.ready and one.waiting:
                world.grant(name)
                world.finish(name)
    left_over = {name: one.waiting for name, one in world.models.items() if one.waiting}
    assert not left_over, (left_over, world.residence.planned_bytes)


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
