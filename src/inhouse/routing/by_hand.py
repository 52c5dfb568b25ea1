"""What may be done to a route while it serves, as data: facts in, the route's next state out. Pure.

    switch     all requests of the route go to one model, whatever the file says; `back` undoes it, and is undone by
               itself: before and after are kept
    weight     another share for one of the route's models, or for its canary
    canary     start (over), pause, resume, rollback, promote

The file is the start: a route that nobody has touched has an empty state. While a route is switched its canary rests
where it is. Not here: who may do that, where the state is kept (`store/routes`), and who obeys it (`routing/routes`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import msgspec

from inhouse.errors import BadRequest, Conflict
from inhouse.routing.canary import State

CanaryAct = Literal["start", "pause", "resume", "rollback", "promote"]
Change = Literal[
    "switch", "back", "weight", "start", "pause", "resume", "rollback", "promote",
    "trying", "settled", "paused", "done", "rolled back", "by hand",
]  # fmt: skip
"""What was done by hand, and after it what a canary did by itself."""
EVENTS_MAX = 20


class Event(msgspec.Struct, frozen=True):
    """Something that changed a route. `time` is in seconds since 1970; a weight in percent."""

    time: float
    change: Change
    by: str
    """The id of a key; `inhouse` where a canary decided by itself."""
    model: str = ""
    weight: float | None = None
    reason: str = ""


class Hand(msgspec.Struct, frozen=True):
    """What was set by hand. Empty: all is as the file says."""

    switched: str = ""
    """The model that has everything."""
    weights: dict[str, float] = {}
    """In percent, for every model of the route; empty: those of the file."""


class CanaryStage(msgspec.Struct, frozen=True):
    """How far a canary is; the weight in percent."""

    state: State
    weight: float
    reason: str


class RouteState(msgspec.Struct, frozen=True):
    """All that is kept of a route."""

    hand: Hand = Hand()
    before: Hand | None = None
    """What `back` leads to."""
    canary: CanaryStage | None = None
    """None: as the file has it start, or none."""
    events: tuple[Event, ...] = ()
    """The newest last."""


class Known(msgspec.Struct, frozen=True):
    """A route as the file has it: `models` with their weights, and the canary's model and first weight."""

    name: str
    models: Mapping[str, int]
    canary: str | None = None
    canary_weight: float = 0.0


class By(msgspec.Struct, frozen=True):
    """Who does something, and when."""

    who: str
    time: float


def switch(known: Known, state: RouteState, model: str, models: tuple[str, ...], by: By) -> RouteState:
    """All to `model`, one of `models`. Raises BadRequest, Conflict."""
    if model not in models:
        raise BadRequest(f"there is no model '{model[:64]}'; there are: {', '.join(models)}", param="model")
    if state.hand.switched == model:
        raise Conflict(
            f"the route '{known.name}' is switched to '{model}' already; `inhouse route back {known.name}` undoes that"
        )
    return _set(state, Hand(switched=model), state.hand, Event(by.time, "switch", by.who, model, 100.0))


def back(known: Known, state: RouteState, by: By) -> RouteState:
    """To what was before the last switch. Raises Conflict."""
    if state.before is None:
        raise Conflict(
            f"there is nothing to go back to: the route '{known.name}' was not switched; "
            f"`inhouse route switch {known.name} MODEL` does that"
        )
    return _set(state, state.before, state.hand, Event(by.time, "back", by.who, state.before.switched))


def weigh(known: Known, state: RouteState, model: str, weight: float, by: By) -> RouteState:
    """`weight` percent for a model of the route; the others share the rest as they did. Raises BadRequest, Conflict."""
    if not 0.0 <= weight <= 100.0:
        raise BadRequest(f"a weight is 0% to 100%, not {weight:g}%", param="weight")
    if state.hand.switched:
        raise Conflict(
            f"the route '{known.name}' is switched to '{state.hand.switched}', so weights decide nothing; "
            f"`inhouse route back {known.name}` undoes that"
        )
    event = Event(by.time, "weight", by.who, model, weight)
    if model == known.canary:
        return _staged(state, CanaryStage("by hand", weight, "set by hand"), event)
    if model not in known.models:
        raise BadRequest(
            f"'{model[:64]}' is no target of the route '{known.name}', whose targets are {_listed(known)}; add it to "
            f"`routes.{known.name}.models` in inhouse.yaml (with `=0`, nothing goes there yet), or switch to it",
            param="model",
        )
    if len(known.models) == 1:
        raise Conflict(
            f"'{model}' is the only model of the route '{known.name}', so nothing could have the rest; add another one "
            f"to `routes.{known.name}.models` in inhouse.yaml, or switch to one"
        )
    weights = shares(known, state.hand)
    rest = sum(share for other, share in weights.items() if other != model)
    others = len(weights) - 1
    for other, share in weights.items():
        part = share / rest if rest else 1 / others
        weights[other] = weight if other == model else (100.0 - weight) * part
    return _set(state, Hand(weights=weights), state.before, event)


def shares(known: Known, hand: Hand) -> dict[str, float]:
    """The present shares of the route's models in percent, as far as the canary leaves them anything."""
    if hand.weights:
        return dict(hand.weights)
    total = sum(known.models.values())
    return {model: 100.0 * weight / total for model, weight in known.models.items()}


def act_on_canary(known: Known, state: RouteState, now: CanaryStage | None, act: str, by: By) -> RouteState:
    """`now` is the stage that the canary is at. Raises BadRequest, Conflict."""
    if act not in get_args(CanaryAct):
        raise BadRequest(
            f"'{act[:64]}' cannot be done to a canary; what can: {', '.join(get_args(CanaryAct))}", param="act"
        )
    if known.canary is None or now is None:
        raise Conflict(
            f"the route '{known.name}' has no canary; name one in `routes.{known.name}.canary.model` in inhouse.yaml"
        )
    weight, name = now.weight, known.name
    if act == "start":
        stage = CanaryStage("trying", known.canary_weight, "the trial begins again")
    elif act == "rollback":
        stage = CanaryStage("rolled back", 0.0, "by hand")
    elif act == "promote":
        stage = CanaryStage("done", 100.0, "by hand")
    elif act == "pause":
        if now.state not in ("trying", "settled"):
            raise Conflict(f"the canary of '{name}' is not on trial: it is {now.state}; `inhouse route canary {name} "
                           "start` begins a trial")  # fmt: skip
        stage = CanaryStage("paused", weight, "its weight stays; the guard holds on")
    else:
        if now.state not in ("paused", "by hand"):
            raise Conflict(f"the canary of '{name}' is not paused: it is {now.state}; `inhouse route canary {name} "
                           "start` begins a trial")  # fmt: skip
        stage = CanaryStage("trying", weight, "the trial goes on")
    change: Change = act  # type: ignore[assignment] # one of CanaryAct, which was looked at
    return _staged(state, stage, Event(by.time, change, by.who, known.canary, stage.weight, stage.reason))


def decided(state: RouteState, model: str, stage: CanaryStage, time: float) -> RouteState:
    """What the canary decided by itself."""
    change: Change = stage.state
    return _staged(state, stage, Event(time, change, "inhouse", model, stage.weight, stage.reason))


def _staged(state: RouteState, stage: CanaryStage, event: Event) -> RouteState:
    return msgspec.structs.replace(state, canary=stage, events=_kept(state, event))


def _set(state: RouteState, hand: Hand, before: Hand | None, event: Event) -> RouteState:
    return msgspec.structs.replace(state, hand=hand, before=before, events=_kept(state, event))


def _kept(state: RouteState, event: Event) -> tuple[Event, ...]:
    return (*state.events, event)[-EVENTS_MAX:]


def _listed(known: Known) -> str:
    return ", ".join([*known.models, *([f"{known.canary} (its canary)"] if known.canary else [])])
