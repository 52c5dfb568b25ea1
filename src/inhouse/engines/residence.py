"""Which models are in memory: loaded when asked for, put to sleep when idle or when another needs the room. Pure.

Theory of operation. Each model is planned with so many bytes of two pools, the machine's memory and the GPUs' (`Room`),
and is *asleep* (it holds none), *up* (loading, ready, or trying again after a failure) or *leaving* (told to end; it
holds its bytes until it has ended). It fits where both of its parts do. `decide` is called when something has changed
and a few times a second, with what requests do at that moment; it returns what is to be done, and takes it for done: a
model told to load is up, one told to sleep is leaving until `left` says that it has gone.

Who wants in, in this order: pinned models, always; models that requests wait for, the first that was wanted first;
models to be loaded at the start, once, and only into free room. Whoever is first has a claim on the room: what is free
now, what those that leave will give back, and what can be had by putting others to sleep, the one used longest ago
first. None behind it takes of its claim, so that a small model cannot keep a large one out by coming again and again.
A claim is of each pool as much as the model needs: one that waits for GPUs leaves the rest of the memory to others.

Invariants, held by the property tests:
- what is up or leaving is never planned with more than the budget of either pool;
- a pinned model is never put to sleep, and one that requests wait for or run on neither;
- nobody is put to sleep unless it has idled as long as it may, or holds some of what lacks for the one that is to
  come, in the pool where it lacks;
- a model that requests wait for is loaded once those before it have what they want and enough others are idle; one
  that can never fit is named by `misfit`, at once.

Not here: how much a model needs (`llamacpp_memory`), and processes (`replica`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from inhouse.engines.room import POOLS, UNLIMITED_BYTES, Pool, Room, together

State = Literal["asleep", "up", "leaving"]


@dataclass(frozen=True, slots=True)
class Plan:
    """One model. Bytes are those of all its replicas together: of the machine's memory, and of the GPUs'."""

    model: str
    planned_bytes: int
    pinned: bool = False
    at_start: bool = True
    sleep_after_s: float | None = None
    """How long it may idle; None is for ever."""
    gpu_bytes: int = 0

    @property
    def needs(self) -> Room:
        return Room(self.planned_bytes, self.gpu_bytes)


@dataclass(frozen=True, slots=True)
class Use:
    """What requests do with a model at one moment."""

    in_flight: int = 0
    waiting: int = 0
    last_s: float = 0.0
    """When one was last there."""
    failing: bool = False
    """None of its engines starts or stays: it is up, but of no use to anybody."""

    @property
    def busy(self) -> bool:
        return self.in_flight > 0 or self.waiting > 0


@dataclass(frozen=True, slots=True)
class Load:
    model: str


@dataclass(frozen=True, slots=True)
class Sleep:
    model: str
    room_for: str = ""
    """The model that needs the room; "" where it has idled for long enough."""


Decision = Load | Sleep
_UNUSED = Use()


class Residence:
    """See the module. A budget of None is no limit.

    That of the GPUs may become known later than the other, but before a model that takes of it is added.
    """

    def __init__(self, budget_bytes: int | None, gpu_budget_bytes: int | None = None) -> None:
        self.budget_bytes = budget_bytes
        self.gpu_budget_bytes = gpu_budget_bytes
        self.plans: dict[str, Plan] = {}
        self._states: dict[str, State] = {}
        self._up_s: dict[str, float] = {}
        self._wanted_s: dict[str, float] = {}
        self._at_start: dict[str, None] = {}

    def add(self, plan: Plan) -> None:
        """A model whose size is known from now on; it is asleep."""
        self.plans[plan.model] = plan
        self._states[plan.model] = "asleep"
        if plan.at_start and not plan.pinned:
            self._at_start[plan.model] = None

    def state(self, model: str) -> State:
        return self._states[model]

    def left(self, model: str) -> None:
        """It has ended and holds nothing any more."""
        self._states[model] = "asleep"

    @property
    def planned(self) -> Room:
        """Of all that are up or leaving."""
        return together(self.held(model) for model in self.plans)

    def held(self, model: str) -> Room:
        """What it holds of the budgets now."""
        return Room() if self._states[model] == "asleep" else self.plans[model].needs

    def misfit(self, model: str) -> str:
        """Why it can never be loaded, in words; "" where it can."""
        plan = self.plans[model]
        pinned = together(other.needs for other in self._pinned_before(plan))
        lacks = plan.needs - (self.budget - pinned)
        return "; ".join(self._misfit(pool, plan.needs, pinned) for pool in POOLS if pool.of(lacks))

    def obstacle(self, model: str, uses: Mapping[str, Use]) -> str:
        """Why a model that is wanted is still asleep, in words; "" where it is not or will be loaded at once."""
        misfit = self.misfit(model)
        if misfit or self._states[model] != "asleep":
            return misfit
        holders = []
        for other, state in self._states.items():
            if state != "asleep":
                use = uses.get(other, _UNUSED)
                does = "is ending" if state == "leaving" else "is pinned" if self.plans[other].pinned else "is in use"
                if state == "leaving" or self.plans[other].pinned or use.busy:
                    holders.append((self.plans[other], does))
        needs = self.plans[model].needs
        lacks = needs - (self.budget - together(plan.needs for plan, _ in holders))
        told = (self._obstacle(pool, needs, holders) for pool in POOLS if pool.of(lacks or needs))
        return "; ".join(filter(None, told))

    def decide(self, now_s: float, uses: Mapping[str, Use]) -> list[Decision]:
        """What is to be done now. `uses` has each model that any request has ever wanted."""
        decisions: list[Decision] = []
        for model, plan in self.plans.items():
            if self._idles(plan, uses.get(model, _UNUSED), now_s):
                decisions.append(self._sleep(model, ""))
        free = self.budget - self.planned
        coming = together(self.plans[model].needs for model, state in self._states.items() if state == "leaving")
        for plan in self._line(now_s, uses):
            if self.misfit(plan.model):
                continue
            if free.covers(plan.needs):
                decisions.append(self._load(plan.model, now_s))
                free -= plan.needs
            elif plan.model not in self._at_start or uses.get(plan.model, _UNUSED).waiting:
                short = plan.needs - free
                free -= plan.needs
                if not coming.covers(short):
                    victims = self._victims(short - coming, uses)
                    coming += together(victim.needs for victim in victims)
                    decisions += [self._sleep(victim.model, plan.model) for victim in victims]
                coming -= short
        self._at_start.clear()
        return decisions

    @property
    def budget(self) -> Room:
        budgets = (self.budget_bytes, self.gpu_budget_bytes)
        return Room(*(UNLIMITED_BYTES if budget is None else budget for budget in budgets))

    def _idles(self, plan: Plan, use: Use, now_s: float) -> bool:
        if plan.sleep_after_s is None or plan.pinned or self._states[plan.model] != "up" or use.busy:
            return False
        return now_s - max(use.last_s, self._up_s[plan.model]) >= plan.sleep_after_s

    def _line(self, now_s: float, uses: Mapping[str, Use]) -> Iterable[Plan]:
        """Those that are asleep and wanted, in the order of their claims."""
        for model in self.plans:
            if self._states[model] == "up" or not uses.get(model, _UNUSED).waiting:
                self._wanted_s.pop(model, None)
            else:
                self._wanted_s.setdefault(model, now_s)
        asleep = [plan for plan in self.plans.values() if self._states[plan.model] == "asleep"]
        pinned = [plan for plan in asleep if plan.pinned]
        wanted = [plan for plan in asleep if not plan.pinned and plan.model in self._wanted_s]
        wanted.sort(key=lambda plan: self._wanted_s[plan.model])
        at_start = [plan for plan in asleep if plan.model in self._at_start and plan.model not in self._wanted_s]
        return pinned + wanted + at_start

    def _victims(self, lacks: Room, uses: Mapping[str, Use]) -> list[Plan]:
        """Those to be put to sleep for so much room; none where even all together would not do."""
        idle = [
            plan
            for plan in self.plans.values()
            if self._states[plan.model] == "up" and not plan.pinned and not uses.get(plan.model, _UNUSED).busy
        ]
        idle.sort(key=lambda plan: self._worth(plan, uses))
        victims: list[Plan] = []
        rest = lacks
        for plan in idle:
            if rest - plan.needs != rest:  # it holds some of what still lacks
                victims.append(plan)
                rest -= plan.needs
        if rest:
            return []
        gained = together(plan.needs for plan in victims)
        for plan in tuple(victims):  # a large one may have made small ones before it needless
            if (gained - plan.needs).covers(lacks):
                victims.remove(plan)
                gained -= plan.needs
        return victims

    def _worth(self, plan: Plan, uses: Mapping[str, Use]) -> tuple[bool, float]:
        use = uses.get(plan.model, _UNUSED)
        return not use.failing, max(use.last_s, self._up_s[plan.model])

    def _pinned_before(self, plan: Plan) -> list[Plan]:
        """The pinned models whose room `plan` can never have: of pinned ones, the earlier of those that fit."""
        found: list[Plan] = []
        for other in self.plans.values():
            if other.model == plan.model:
                if plan.pinned:
                    break
            elif other.pinned and self.budget.covers(together(one.needs for one in (*found, other))):
                found.append(other)
        return found

    def _misfit(self, pool: Pool, needs: Room, pinned: Room) -> str:
        held = f", of which pinned models hold {size(pool.of(pinned))}" if pool.of(pinned) else ""
        return (
            f"it needs {size(pool.of(needs))} of {pool.name}, the budget is {size(pool.of(self.budget))}{held}; "
            f"{pool.way_out}, or lower the model's `context` or `slots`"
        )

    def _obstacle(self, pool: Pool, needs: Room, holders: Iterable[tuple[Plan, str]]) -> str:
        """Who stands in the way in one pool, in words; "" where nobody does."""
        budget = pool.of(self.budget)
        hold = [f"'{plan.model}' ({size(pool.of(plan.needs))}) {does}" for plan, does in holders if pool.of(plan.needs)]
        if not hold or budget == UNLIMITED_BYTES:
            return ""
        return f"it needs {size(pool.of(needs))} of the {size(budget)} of {pool.name}, and {', '.join(hold)}"

    def _load(self, model: str, now_s: float) -> Load:
        self._states[model] = "up"
        self._up_s[model] = now_s
        self._wanted_s.pop(model, None)
        return Load(model)

    def _sleep(self, model: str, room_for: str) -> Sleep:
        self._states[model] = "leaving"
        return Sleep(model, room_for)


def size(number: int) -> str:
    """`3.4 GiB`, `612 MiB`: for people."""
    if number >= 1 << 30:
        return f"{number / (1 << 30):.1f} GiB"
    return f"{max(1, round(number / (1 << 20)))} MiB"
