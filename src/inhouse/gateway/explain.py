"""From an entry to the story that `GET /admin/requests/{id}` tells. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from inhouse.config.money import render_money
from inhouse.telemetry.entry import HUNG_UP, Entry
from inhouse.telemetry.story import Asked, Candidate, Picked, Step
from inhouse.wire.records import RequestStory, StorySeconds, StoryTokens


def story(entry: Entry, *, epoch_s: float, priced: bool) -> RequestStory:
    """`epoch_s` is what the event loop's clock showed, in seconds since 1970, at its zero."""
    usage = entry.usage
    return RequestStory(
        id=entry.request_id,
        time=round(epoch_s + entry.arrived_s, 3),
        api=entry.api,
        model=entry.model,
        tenant=entry.tenant,
        key=entry.key_id,
        status=entry.status,
        code=entry.code,
        ending=ending(entry),
        queue_place=entry.place,
        seconds=_seconds(entry),
        tokens=StoryTokens(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens),
        money=float(render_money(entry.money)) if priced else None,
        facts={str(name): value for name, value in (entry.facts or {}).items()},
        steps=[_shown(step, entry.arrived_s) for step in entry.steps],
    )


def ending(entry: Entry) -> str:
    if entry.status == HUNG_UP:
        return "hung up"
    if entry.failed:
        return "broke off"
    return "answered" if entry.status == 200 else "refused"


def _seconds(entry: Entry) -> StorySeconds:
    first_s = entry.first_token_s
    asked_s = [step.at_s for step in entry.steps if isinstance(step, Asked) and step.at_s <= (first_s or 0.0)]
    return StorySeconds(
        queue=round(entry.waited_s, 6),
        prefill=None if first_s is None or not asked_s else round(first_s - asked_s[-1], 6),
        first_token=None if first_s is None else round(first_s - entry.arrived_s, 6),
        decode=None if first_s is None else round(entry.ended_s - first_s, 6),
        total=round(entry.ended_s - entry.arrived_s, 6),
    )


def _shown(step: Step, arrived_s: float) -> dict[str, Any]:
    at_s = round(step.at_s - arrived_s, 6)
    if isinstance(step, Picked):
        candidates = [_candidate(one) for one in step.candidates]
        told = {"endpoint": step.endpoint, "policy": step.policy, "why": step.why, "candidates": candidates}
        return {"what": "picked", "at_s": at_s, **told}
    return {"what": step.__struct_config__.tag, **msgspec.structs.asdict(step), "at_s": at_s}


def _candidate(one: Candidate) -> dict[str, Any]:
    scores = {"load": one.load, "prefix": one.prefix}
    return {
        "endpoint": one.endpoint,
        "score": None if one.score is None else round(one.score, 4),
        "scores": {name: round(value, 3) for name, value in scores.items() if value is not None},
        "out": one.out,
    }
