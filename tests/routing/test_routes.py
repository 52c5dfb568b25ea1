"""From a name to the models that may answer, and what a stack may not say about routes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from inhouse.config import load
from inhouse.config.stack import Stack
from inhouse.errors import StackError
from inhouse.routing.routes import ModelAsk, Plan, Routes

MODELS = {name: {"source": "demo"} for name in ("chat", "chat-v2", "small", "large")} | {
    "cloud": {"source": "demo", "external": True}
}


def stack(routes: dict[str, object], models: dict[str, object] | None = None) -> Stack:
    return Stack.model_validate({"models": models or MODELS, "routes": routes})


def resolve(routes: dict[str, object], ask: ModelAsk) -> Plan:
    plan = Routes(stack(routes)).resolve(ask)
    assert plan is not None
    return plan


def names(plan: Plan) -> list[str]:
    return [choice.model for choice in plan.choices]


def test_a_model_without_a_route() -> None:
    """It answers itself; a name that nobody has leads nowhere; no name means the first model."""
    routes = Routes(stack({}))
    assert not routes.trivial, "one model is external"
    assert names(resolve({}, ModelAsk("small"))) == ["small"]
    assert routes.resolve(ModelAsk("gone")) is None
    assert names(resolve({}, ModelAsk(""))) == ["chat"]
    assert Routes(Stack()).trivial


def test_an_alias() -> None:
    """It is another name for the route, and is told among the names."""
    routes = Routes(stack({"chat": {"aliases": ["gpt-4o"]}}))
    plan = routes.resolve(ModelAsk("gpt-4o"))
    assert plan is not None
    assert (plan.route, names(plan)) == ("chat", ["chat"])
    assert set(routes.names) == {*MODELS, "gpt-4o"}


def test_weights() -> None:
    """Each target gets its part, one with weight 0 nothing."""
    routes = Routes(stack({"chat": {"models": ["chat=3", "large=1", "small=0"]}}), seed=1)
    drawn = Counter(names(plan)[0] for _ in range(4000) if (plan := routes.resolve(ModelAsk("chat"))))
    assert set(drawn) == {"chat", "large"}
    assert 0.72 < drawn["chat"] / 4000 < 0.78


def test_a_session_stays_with_its_model() -> None:
    """The draw of a session is always the same, and sessions spread by the weights."""
    routes = Routes(stack({"chat": {"models": ["chat=1", "large=1"]}}))
    drawn = Counter()
    for number in range(1000):
        plans = [routes.resolve(ModelAsk("chat", session=f"user {number}")) for _ in range(3)]
        assert plans[0] == plans[1] == plans[2]
        assert plans[0] is not None
        drawn[names(plans[0])[0]] += 1
    assert 430 < drawn["chat"] < 570


@pytest.mark.parametrize(("tokens", "model"), [(1, "small"), (1000, "small"), (1001, "chat"), (8001, "large")])
def test_by_the_size_of_the_prompt(tokens: int, model: str) -> None:
    """The first target whose tokens are enough; beyond the last one the route's own models."""
    route = {"models": ["large=1"], "prompt_tokens": ["1000=small", "8000=chat"]}
    assert names(resolve({"any": route}, ModelAsk("any", prompt_tokens=tokens))) == [model]


def test_a_tenant_with_a_target_of_its_own() -> None:
    """It comes before size and weights, for that tenant alone."""
    route = {"tenants": ["acme=large"], "prompt_tokens": ["1000=small"]}
    assert names(resolve({"chat": route}, ModelAsk("chat", tenant="acme"))) == ["large"]
    assert names(resolve({"chat": route}, ModelAsk("chat", tenant="other"))) == ["small"]


def test_a_chain_of_fallbacks() -> None:
    """Behind the chosen one come the fallbacks in order, each once, those of a route within before the outer ones."""
    routes: dict[str, object] = {
        "any": {"models": ["chat=1"], "fallback": ["chat", "large"]},
        "chat": {"fallback": ["small", "chat-v2"]},
    }
    assert names(resolve(routes, ModelAsk("any"))) == ["chat", "small", "chat-v2", "large"]


def test_an_external_model() -> None:
    """It is closed unless the tenant's data may leave: as a fallback, by name, by alias and by override."""
    routes: dict[str, object] = {"chat": {"fallback": ["cloud"]}, "cloud": {"aliases": ["burst"]}}
    for ask in (ModelAsk("cloud"), ModelAsk("burst"), ModelAsk("chat", override="cloud")):
        plan = resolve(routes, ask)
        assert names(plan) == []
        assert [choice.model for choice in plan.closed] == ["cloud"]
        assert "may not leave" in plan.closed[0].reason
    assert names(resolve(routes, ModelAsk("chat"))) == ["chat"]
    assert names(resolve(routes, ModelAsk("chat", data_may_leave=True))) == ["chat", "cloud"]


def test_models_that_a_key_may_not_use() -> None:
    """They fall out of the chain, which goes on with the others."""
    routes: dict[str, object] = {"chat": {"models": ["large=1"], "fallback": ["small", "chat"]}}
    plan = resolve(routes, ModelAsk("chat", models=frozenset({"chat"})))
    assert names(plan) == ["chat"]
    assert [choice.model for choice in plan.closed] == ["large", "small"]


def test_a_draw_for_a_key_that_may_use_some_of_the_models() -> None:
    """It is among those alone: nobody is refused by chance. Where all are closed, it is told so."""
    table: dict[str, object] = {"any": {"models": ["large=1", "chat=1", "more=1"]}, "more": {"models": ["small=1"]}}
    routes = Routes(stack(table), seed=1)
    for allowed, drawn in (({"chat"}, {"chat"}), ({"chat", "small"}, {"chat", "small"}), (set(), set())):
        plans = [routes.resolve(ModelAsk("any", models=frozenset(allowed))) for _ in range(200)]
        first = {names(plan)[0] for plan in plans if plan is not None and plan.choices}
        assert first == drawn, allowed


def test_an_override() -> None:
    """The model that the caller demands, alone: no fallback stands in for it."""
    routes: dict[str, object] = {"chat": {"models": ["large=1"], "fallback": ["small"]}}
    assert names(resolve(routes, ModelAsk("chat", override="chat-v2"))) == ["chat-v2"]


def test_a_canary() -> None:
    """It gets its part; the stable version stands behind it; both sides are told; a weight of 0 or 100 is exact."""
    routes = Routes(stack({"chat": {"canary": {"model": "chat-v2", "weight": "20%"}}}), seed=3)
    plans = [plan for _ in range(2000) if (plan := routes.resolve(ModelAsk("chat")))]
    drawn = Counter(plan.version for plan in plans)
    assert 0.17 < drawn["canary"] / 2000 < 0.23
    assert {(*names(plan), plan.version) for plan in plans} == {("chat-v2", "chat", "canary"), ("chat", "stable")}
    for weight, version in [(0.0, "stable"), (100.0, "canary")]:
        routes.weights["chat"] = weight
        versions = {plan.version for _ in range(500) if (plan := routes.resolve(ModelAsk("chat")))}
        assert versions == {version}


def test_a_growing_canary_keeps_its_sessions() -> None:
    """Who has seen the new version does not go back while its weight grows."""
    routes = Routes(stack({"chat": {"canary": {"model": "chat-v2"}}}))
    before: set[int] = set()
    for weight in (5.0, 20.0, 60.0, 100.0):
        routes.weights["chat"] = weight
        asks = {number: routes.resolve(ModelAsk("chat", session=f"s{number}")) for number in range(300)}
        now = {number for number, plan in asks.items() if plan is not None and plan.version == "canary"}
        assert before <= now
        before = now


def test_a_canary_that_is_closed_to_a_tenant() -> None:
    """Its requests go to the stable version and count for neither side."""
    routes = Routes(stack({"chat": {"canary": {"model": "chat-v2", "weight": "100%"}}}))
    plan = routes.resolve(ModelAsk("chat", models=frozenset({"chat"})))
    assert plan is not None
    assert (names(plan), plan.version) == (["chat"], None)


@pytest.mark.parametrize(
    ("routes", "message", "line"),
    [
        ("chat: {fallback: [smal]}", "names 'smal', which is no model or route", "did you mean `small`?"),
        ("a: {models: [b=1]}\n  b: {models: [a=1]}", "routes lead in a circle: a → b → a", "name a model"),
        ("a: {models: [chat=1], fallback: [a]}", "names 'a', which is no model", "there are"),
        ("a: {fallback: [chat]}", "`routes.a` leads nowhere", "add `models: [chat=1]`"),
        ("chat: {aliases: [small]}", "has the alias 'small', but a model is called 'small'", "another alias"),
        ("chat: {aliases: [x]}\n  small: {aliases: [x]}", "has the alias 'x' already", ""),
        ("chat: {canary: {model: chat}}", "tries 'chat' against itself", ""),
        ("chat: {canary: {model: gone}}", "names 'gone'", ""),
        ("chat: {canary: {model: small, weight: 0.1}}", "not a percentage", "a part such as 10%"),
        ("chat: {canary: {model: small, weight: 120%}}", "too large", "to 100%"),
        ("chat: {canary: {model: small, weight: 50%, weight_max: 20%}}", "begins at 50% and ends at 20%", ""),
        ("chat: {models: [chat=0]}", "all weights are 0", ""),
        ("chat: {models: [chat]}", "not a pair such as chat=90", ""),
        ("chat: {prompt_tokens: [9=small, 3=chat]}", "the sizes do not rise", ""),
    ],
)
def test_what_a_stack_may_not_say(routes: str, message: str, line: str, tmp_path: Path) -> None:
    """The start is refused with the place, what is wrong, and the way out."""
    models = yaml.safe_dump({"models": {"chat": {"source": "demo"}, "small": {"source": "demo"}}})
    (tmp_path / "inhouse.yaml").write_text(f"{models}routes:\n  {routes}\n")
    with pytest.raises(StackError) as told:
        load(tmp_path / "inhouse.yaml", environ={}, flags={})
    text = f"{told.value.where} {told.value.message} {told.value.hint}"
    assert message in text
    assert line in text
    assert "inhouse.yaml:" in text


TARGETS = st.sampled_from(["chat", "small", "large", "cloud", "r0", "r1", "r2", "r3"])


@st.composite
def route_tables(draw: st.DrawFn) -> dict[str, object]:
    """Routes that lead only to models and later routes: any such table is sound."""
    table: dict[str, object] = {}
    for number in range(4):
        later = [f"r{other}" for other in range(number + 1, 4)]
        target = st.sampled_from(["chat", "small", "large", "cloud", *later])
        canary = draw(st.none() | st.just("chat-v2"))
        table[f"r{number}"] = {
            "models": [f"{draw(target)}={draw(st.integers(1, 9))}" for _ in range(draw(st.integers(1, 3)))],
            "prompt_tokens": [f"{tokens}={draw(target)}" for tokens in sorted(draw(st.sets(st.integers(1, 99))))],
            "tenants": [f"acme={draw(target)}"] if draw(st.booleans()) else [],
            "fallback": draw(st.lists(target, max_size=3)),
            "canary": {"model": canary},
        }
    return table


@given(
    table=route_tables(),
    name=st.sampled_from(["chat", "cloud", "r0", "r1", "r2", "r3"]),
    tenant=st.sampled_from(["acme", "other"]),
    tokens=st.integers(0, 120),
    session=st.sampled_from(["", "s"]),
    allowed=st.none() | st.frozensets(st.sampled_from(sorted(MODELS)), min_size=1),
    leave=st.booleans(),
    seed=st.integers(0, 3),
)
def test_any_routes(
    table: dict[str, object],
    name: str,
    tenant: str,
    tokens: int,
    session: str,
    allowed: frozenset[str] | None,
    leave: bool,
    seed: int,
) -> None:
    """A plan names each model once, only models that exist and that the caller may use, and tells what it closed."""
    routes = Routes(stack(table), seed)
    plan = routes.resolve(ModelAsk(name, tenant, tokens, session, models=allowed, data_may_leave=leave))
    assert plan is not None
    found = names(plan)
    assert len(found) == len(set(found))
    assert set(found) <= set(MODELS)
    assert allowed is None or set(found) <= allowed
    assert leave or "cloud" not in found
    assert found or plan.closed
    assert (plan.trial is None) == (plan.version is None)
    if plan.version == "canary":
        assert found[0] == "chat-v2"


@given(table=route_tables(), loop=st.integers(0, 3), into=st.integers(0, 3))
def test_any_loop(table: dict[str, object], loop: int, into: int) -> None:
    """A route that leads back to one that leads to it is refused, however long the way round."""
    if into > loop:
        into, loop = loop, into
    for number in range(into, loop):
        table[f"r{number}"]["fallback"] = [f"r{number + 1}"]  # type: ignore[index]
    table[f"r{loop}"]["fallback"] = [f"r{into}"]  # type: ignore[index]
    with pytest.raises(ValueError, match=r"circle|no model or route"):
        stack(table)
