"""From the name that a client sends to the models that may answer, the chosen one first. Pure: facts in, a plan out.

    override     a caller who may name the model past the route
      switch       somebody switched the route to one model (`by_hand`)
      tenant       the route has a target for this tenant
        size         the first target whose prompt tokens are enough
          weights      a draw among the route's targets; a part of what they would get goes to the canary
    fallback     the route's chain behind it, in its order

A target that is a route is followed, with its own rules; its fallbacks come before those of the route that led there.
From each chain what this tenant may not use falls out: models that its key does not name, and external models unless
its data may leave. What falls out is kept with the reason: nothing is sent past a closed door, not even an override.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from inhouse.config.routes import split_pair

if TYPE_CHECKING:
    from inhouse.config.routes import RouteSpec
    from inhouse.config.stack import Stack

Version = Literal["stable", "canary"]

_DRAWS = 1 << 32


@dataclass(frozen=True, slots=True)
class ModelAsk:
    """One request, as far as the choice of a model cares.

    `override` is the model that the caller demands, who has been checked to have the right to. `models` are those that
    the caller may use, None for all. `session` keeps the requests of a conversation on one side of every draw.
    """

    name: str
    tenant: str = "default"
    prompt_tokens: int = 0
    session: str = ""
    override: str = ""
    models: frozenset[str] | None = None
    data_may_leave: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """A model that may answer, and how the route came to it."""

    model: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The models to try, in this order. `closed` are those that fell out, with the reason.

    `trial` is the route whose canary, or stable version, the first choice is, where one was drawn.
    """

    route: str
    choices: tuple[Choice, ...]
    closed: tuple[Choice, ...] = ()
    trial: str | None = None
    version: Version | None = None
    """Which of the two it is: what the end of the request counts for, if the first choice gets it."""


@dataclass(frozen=True, slots=True)
class _Route:
    models: tuple[tuple[str, float], ...]
    sizes: tuple[tuple[int, str], ...]
    tenants: Mapping[str, str]
    fallback: tuple[str, ...]
    canary: str | None
    switched: str = ""
    """The model that has everything, by hand."""


@dataclass(slots=True)
class _Walk:
    """One way through the routes: what it has found so far."""

    ask: ModelAsk
    draws: Iterator[float]
    chain: dict[str, str] = field(default_factory=dict)
    trial: str | None = None
    version: Version | None = None


class Routes:
    """The routes of a stack. `weights` is the present part of each route's canary in percent; its decider sets it."""

    def __init__(self, stack: Stack, seed: int = 0) -> None:
        self._models = tuple(stack.models)
        self._first = next(iter(stack.models))
        self._external = frozenset(name for name, spec in stack.models.items() if spec.external)
        self._given = {name: _route(name, spec) for name, spec in stack.routes.items()}
        self._routes = dict(self._given)
        self._aliases = {alias: name for name, spec in stack.routes.items() for alias in spec.aliases}
        self._random = random.Random(seed)  # noqa: S311 - spreads load, guards nothing
        self.weights: dict[str, float] = {
            name: spec.canary.weight for name, spec in stack.routes.items() if spec.canary.model is not None
        }

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that leads somewhere: models, routes, aliases."""
        return tuple(dict.fromkeys([*self._models, *self._routes, *self._aliases]))

    def set_by_hand(self, name: str, switched: str, models: Mapping[str, float]) -> None:
        """From now on it leads to the model `switched`, or has these weights; without either, it is as in the file."""
        given = self._given[name]
        weights = tuple(models.items()) or given.models
        self._routes[name] = replace(given, models=weights, switched=switched)

    @property
    def trivial(self) -> bool:
        """Whether every name is a model that any tenant may be sent to: then there is nothing to resolve."""
        return not self._routes and not self._external

    def resolve(self, ask: ModelAsk) -> Plan | None:
        """Who may answer; None where the name, or the override, leads nowhere. No choices: all doors are closed."""
        name = self._aliases.get(ask.name, ask.name) or self._first
        if ask.override:
            name = self._aliases.get(ask.override, ask.override)
        if name not in self._routes and name not in self._models:
            return None
        walk = _Walk(ask, self._draws(ask))
        if ask.override and name in self._models:
            walk.chain[name] = "demanded by the caller"
        else:
            self._follow(name, "", walk)
        choices: list[Choice] = []
        closed: list[Choice] = []
        for model, reason in walk.chain.items():
            shut = self._shut(model, ask)
            (closed if shut else choices).append(Choice(model, shut or reason))
        if walk.trial is None or not choices or choices[0].model != next(iter(walk.chain)):
            return Plan(name, tuple(choices), tuple(closed))
        return Plan(name, tuple(choices), tuple(closed), walk.trial, walk.version)

    def _follow(self, name: str, why: str, walk: _Walk) -> None:
        """Adds the chain of `name`; what is in the chain already keeps its place."""
        route = self._routes.get(name)
        if route is None:
            walk.chain.setdefault(name, why or "named by the client")
            return
        if route.switched:  # to a model, be there a route of that name or not
            target, reason = route.switched, "switched by hand"
            walk.chain.setdefault(target, f"{name}: {reason}")
        else:
            target, reason = self._choose(name, route, walk)
            self._to(target, name, f"{name}: {reason}", walk)
        if target == route.canary and not route.switched:  # where it cannot be had, the stable version is next
            self._to(self._drawn(name, route, walk), name, f"{name}: in place of its canary", walk)
        for number, fallback in enumerate(route.fallback, start=1):
            self._to(fallback, name, f"{name}: fallback {number}", walk)

    def _to(self, target: str, name: str, why: str, walk: _Walk) -> None:
        """On from `name`, whose own name within it is the model."""
        if target == name:
            walk.chain.setdefault(target, why)
        else:
            self._follow(target, why, walk)

    def _choose(self, name: str, route: _Route, walk: _Walk) -> tuple[str, str]:
        ask = walk.ask
        target = route.tenants.get(ask.tenant)
        if target is not None:
            return target, f"tenant {ask.tenant}"
        for tokens_max, target in route.sizes:
            if ask.prompt_tokens <= tokens_max:
                return target, f"a prompt of at most {tokens_max} tokens"
        if route.canary is not None:
            weight = self.weights.get(name, 0.0)
            drawn = 100.0 * next(walk.draws) < weight
            if walk.trial is None and not walk.chain:
                walk.trial, walk.version = name, "canary" if drawn else "stable"
            if drawn:
                return route.canary, f"canary, {weight:g}%"
        return self._drawn(name, route, walk), "its model" if len(route.models) == 1 else "drawn by weight"

    def _drawn(self, name: str, route: _Route, walk: _Walk) -> str:
        """One of the targets by weight. Models that are closed to this caller have no part in it, unless all are."""
        draw = next(walk.draws)
        models = route.models
        if len(models) > 1:
            models = tuple(pair for pair in models if self._open(pair[0], name, walk.ask)) or models
        if len(models) == 1:
            return models[0][0]
        at = draw * sum(weight for _, weight in models)
        for target, weight in models:
            at -= weight
            if at < 0:
                return target
        return next(target for target, weight in reversed(models) if weight)

    def _draws(self, ask: ModelAsk) -> Iterator[float]:
        """Numbers in [0, 1): by chance, or always the same ones for a session."""
        number = zlib.crc32(ask.session.encode()) if ask.session else 0
        while True:
            if ask.session:
                number = zlib.crc32(number.to_bytes(4, "big"), number ^ 0x5BD1E995)
                yield number / _DRAWS
            else:
                yield self._random.random()

    def _open(self, target: str, name: str, ask: ModelAsk) -> bool:
        """Whether a target of the route `name` is another route, which has doors of its own, or an open model."""
        return (target in self._routes and target != name) or not self._shut(target, ask)

    def _shut(self, model: str, ask: ModelAsk) -> str:
        """Why this caller may not be sent there; "" where it may."""
        if ask.models is not None and model not in ask.models:
            return "not among the caller's models"
        if model in self._external and not ask.data_may_leave:
            return f"external, and the data of tenant {ask.tenant} may not leave"
        return ""


def given_weights(name: str, spec: RouteSpec) -> dict[str, int]:
    """The targets of a route with their weights, as the file has them."""
    return {target: int(weight) for target, weight in map(split_pair, spec.models)} or {name: 1}


def _route(name: str, spec: RouteSpec) -> _Route:
    sizes = [split_pair(pair) for pair in spec.prompt_tokens]
    return _Route(
        models=tuple(given_weights(name, spec).items()),
        sizes=tuple((int(tokens), target) for tokens, target in sizes),
        tenants=dict(split_pair(pair) for pair in spec.tenants),
        fallback=tuple(spec.fallback),
        canary=spec.canary.model,
    )
