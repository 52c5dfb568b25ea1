"""What a model on an engine can do, and why it cannot do the rest. Pure.

An engine may be able to do what a model was not made for, and may need a flag for what it could do: three reasons.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import get_args

from inhouse.engines.engine import Ability, Engine, Task

ALL: tuple[Ability, ...] = get_args(Ability)
_MADE_FOR: dict[Task, str] = {"generate": "to generate texts", "embed": "for embeddings", "rerank": "to rank documents"}
_OF: dict[Ability, Task] = {
    "chat": "generate",
    "tools": "generate",
    "json_schema": "generate",
    "logprobs": "generate",
    "embeddings": "embed",
    "rerank": "rerank",
}


def lacking(engine: Engine, task: Task | None = None, flags: tuple[str, ...] | None = None) -> Mapping[Ability, str]:
    """What is not to be had, each with a reason in words. `task` is what the model was made for, where that is known;
    `flags` are those that it is started with, where it is started here."""
    found: dict[Ability, str] = {}
    needs = dict(engine.needs)
    for ability in ALL:
        if ability != "chat" and ability not in engine.abilities:
            found[ability] = f"its engine, {engine.title}, does not do that"
        elif task is not None and not _made_for(ability, task, engine):
            found[ability] = f"it was made {_MADE_FOR[task]}"
        elif flags is not None and ability in needs and needs[ability] not in flags:
            found[ability] = f"its engine, {engine.title}, was started without `{needs[ability]}` (`engine_args`)"
    return MappingProxyType(found)


def _made_for(ability: Ability, task: Task, engine: Engine) -> bool:
    wanted = _OF.get(ability)
    return wanted is None or wanted == task or (ability == "embeddings" and task == "generate" and engine.embeds_all)


def able(lacks: Mapping[Ability, str]) -> list[Ability]:
    """What is left."""
    return [ability for ability in ALL if ability not in lacks]
