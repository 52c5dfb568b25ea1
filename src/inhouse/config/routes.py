"""The section of the stack about routes: from the name that a client sends to the models that may answer.

What the settings do: `routing/routes.py` and `routing/canary.py`. Not here: which replica (`config/routing.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from inhouse.config.fields import Count, Duration, MaybeModelName, ModelName, Percent, Section, contradiction, setting

if TYPE_CHECKING:
    from inhouse.config.model import ModelSpec

Place = tuple[str | int, ...]


def split_pair(pair: str) -> tuple[str, str]:
    """`chat=90` as its two halves."""
    left, _, right = pair.partition("=")
    return left, right


def _weights(pairs: list[str]) -> list[str]:
    for pair in pairs:
        if not re.fullmatch(r"[^=]+=\d{1,6}", pair):
            raise ValueError("not a pair such as chat=90")
    if pairs and not any(int(split_pair(pair)[1]) for pair in pairs):
        raise ValueError("all weights are 0")
    return pairs


def _sizes(pairs: list[str]) -> list[str]:
    sizes = []
    for pair in pairs:
        if not re.fullmatch(r"\d{1,9}=[^=]+", pair):
            raise ValueError("not a pair such as 1000=small")
        sizes.append(int(split_pair(pair)[0]))
    if sizes != sorted(set(sizes)):
        raise ValueError("the sizes do not rise")
    return pairs


def _tenants(pairs: list[str]) -> list[str]:
    for pair in pairs:
        if not re.fullmatch(r"[^=]+=[^=]+", pair):
            raise ValueError("not a pair such as acme=large")
    return pairs


class GuardSpec(Section):
    """What a canary may be worse than the stable version, both measured over the same window."""

    error_rate: Percent = setting(
        1.0, "Its share of failed requests may be above the stable version's by this.", unit="percent", ge=0, le=100
    )
    ttft_p95: Percent = setting(
        120.0, "Its TTFT p95 may be this much of the stable version's.", unit="percent", ge=100, le=10_000
    )
    tpot_p95: Percent = setting(
        120.0, "Its TPOT p95 may be this much of the stable version's.", unit="percent", ge=100, le=10_000
    )
    min_requests: Count = setting(
        50, "Requests that each version needs in a window before they are compared.", unit="requests", ge=1, le=10**6
    )


class CanarySpec(Section):
    """A new version that gets a part of the traffic, more with each step while the guard holds; else none."""

    model: MaybeModelName = setting(None, "The model that is tried; without it there is no canary.", example="chat-v2")
    weight: Percent = setting(10.0, "Its part of the requests at first.", unit="percent", ge=0, le=100)
    step: Percent = setting(10.0, "What is added with each step; 0% keeps it as it is.", unit="percent", ge=0, le=100)
    weight_max: Percent = setting(100.0, "Where its weight ends.", unit="percent", ge=0, le=100)
    every: Duration = setting(
        300.0, "The window of a step; it goes on until there are enough requests.", unit="seconds", gt=0
    )
    guard: GuardSpec = Field(default_factory=GuardSpec, description="What it may be worse.")


class RouteSpec(Section):
    """One name that clients send, and who answers. A target is a model, or another route."""

    aliases: list[ModelName] = setting([], "Other names for it.", example=["gpt-4o"])
    models: Annotated[list[str], AfterValidator(_weights)] = setting(
        [],
        "Targets with their weights, as `target=weight`; without any, the model of the route's own name.",
        example=["chat=90", "large=10"],
    )
    prompt_tokens: Annotated[list[str], AfterValidator(_sizes)] = setting(
        [],
        "Targets by the prompt's size, as `tokens=target`: the first one whose tokens are enough has it.",
        example=["1000=small"],
    )
    tenants: Annotated[list[str], AfterValidator(_tenants)] = setting(
        [], "Targets of single tenants, as `tenant=target`; before sizes and weights.", example=["acme=large"]
    )
    fallback: list[ModelName] = setting(
        [], "Targets, in this order, where the chosen one is not available or full.", example=["small"]
    )
    canary: CanarySpec = Field(default_factory=CanarySpec, description="A new version on trial.")


def check_routes(routes: Mapping[str, RouteSpec], models: Mapping[str, ModelSpec]) -> None:
    """Raises for names that clash, targets that do not exist, and routes that lead back to themselves."""
    _check_names(routes, models)
    for name, route in routes.items():
        if not route.models and name not in models:
            raise contradiction(
                ("routes", name),
                f"`routes.{name}` leads nowhere: it has no `models`, and no model has its name",
                f"add `models: [{next(iter(models))}=1]`",
            )
        for place, target in targets(name, route):
            if target not in models and (target not in routes or target == name):
                raise _unknown(place, target, [known for known in [*models, *routes] if known != target])
        _check_canary(name, route, models)
    _check_loops(routes, models)


def targets(name: str, route: RouteSpec) -> Iterator[tuple[Place, str]]:
    """Everywhere a route may lead, and where that is written."""
    for index, pair in enumerate(route.models):
        yield ("routes", name, "models", index), split_pair(pair)[0]
    for index, pair in enumerate(route.prompt_tokens):
        yield ("routes", name, "prompt_tokens", index), split_pair(pair)[1]
    for index, pair in enumerate(route.tenants):
        yield ("routes", name, "tenants", index), split_pair(pair)[1]
    for index, target in enumerate(route.fallback):
        yield ("routes", name, "fallback", index), target
    if route.canary.model is not None:
        yield ("routes", name, "canary", "model"), route.canary.model


def _check_names(routes: Mapping[str, RouteSpec], models: Mapping[str, ModelSpec]) -> None:
    seen: dict[str, str] = {name: f"a model is called {name!r}" for name in models}
    seen |= {name: f"a route is called {name!r}" for name in routes}
    for name, route in routes.items():
        for index, alias in enumerate(route.aliases):
            if alias in seen:
                raise contradiction(
                    ("routes", name, "aliases", index),
                    f"`routes.{name}` has the alias {alias!r}, but {seen[alias]}",
                    "a name leads to one place: choose another alias",
                )
            seen[alias] = f"`routes.{name}` has the alias {alias!r} already"


def _check_canary(name: str, route: RouteSpec, models: Mapping[str, ModelSpec]) -> None:
    canary = route.canary
    if canary.model is None:
        return
    place: Place = ("routes", name, "canary")
    if canary.model not in models:
        raise _unknown((*place, "model"), canary.model, list(models))
    if canary.model in ([split_pair(pair)[0] for pair in route.models] or [name]):
        raise contradiction(
            (*place, "model"),
            f"`routes.{name}` tries {canary.model!r} against itself: it is one of the route's models",
            "name the new version in `canary.model` only",
        )
    if canary.weight > canary.weight_max:
        raise contradiction(
            (*place, "weight"),
            f"`routes.{name}.canary` begins at {canary.weight:g}% and ends at {canary.weight_max:g}%",
            "`weight` is at most `weight_max`",
        )


def _check_loops(routes: Mapping[str, RouteSpec], models: Mapping[str, ModelSpec]) -> None:
    """A route's own name within it is the model of that name; every other route's name is that route."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> None:
        if name in path:
            raise contradiction(
                ("routes", path[-1]),
                f"routes lead in a circle: {' → '.join([*path[path.index(name) :], name])}",
                "let one of them name a model",
            )
        if name in done:
            return
        for _, target in targets(name, routes[name]):
            if target in routes and target != name:
                walk(target, [*path, name])
        done.add(name)

    for name in routes:
        walk(name, [])


def _unknown(place: Place, target: str, known: list[str]) -> Exception:
    near = get_close_matches(target, known, n=1)
    return contradiction(
        place,
        f"`{'.'.join(str(part) for part in place[:3])}` names {target!r}, which is no model or route of this stack",
        f"did you mean `{near[0]}`?" if near else f"there are: {', '.join(dict.fromkeys(known))}",
    )
