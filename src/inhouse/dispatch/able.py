"""Refuses at the door what the engines of a model cannot do, before it takes a slot, a quota or the engine's time."""

from __future__ import annotations

from inhouse.dispatch.lane import Lane
from inhouse.engines.engine import Ability
from inhouse.errors import Unable
from inhouse.wire.call import Call
from inhouse.wire.embeddings import PATH as EMBEDDINGS
from inhouse.wire.openai_chat import PATH as CHAT
from inhouse.wire.rerank import PATH as RERANK

_DOES: dict[Ability, str] = {
    "chat": "generate texts",
    "tools": "call tools",
    "json_schema": "keep to a JSON schema",
    "logprobs": "tell log probabilities",
    "embeddings": "make embeddings",
    "rerank": "rank documents",
    "lora": "load adapters",
}
_PARAMS: dict[Ability, str] = {"tools": "tools", "json_schema": "response_format", "logprobs": "logprobs"}


def check(lane: Lane, call: Call) -> None:
    """Raises Unable. To be called where `lane.lacks` has anything."""
    lacks, job = lane.lacks, call.jobs[0]
    if job.path == EMBEDDINGS:
        if "embeddings" in lacks:
            raise _unable(lane, "embeddings")
        return
    if job.path == RERANK:
        if "rerank" in lacks:
            raise _unable(lane, "rerank")
        return
    if "chat" in lacks:
        raise _unable(lane, "chat")
    source = job.source
    if "logprobs" in lacks and source.logprobs not in (None, False):
        raise _unable(lane, "logprobs")
    if job.path == CHAT:
        if "tools" in lacks and source.tools:
            raise _unable(lane, "tools")
        if "json_schema" in lacks and source.response_format is not None and source.response_format.type != "text":
            raise _unable(lane, "json_schema")


def _unable(lane: Lane, ability: Ability) -> Unable:
    return Unable(
        f"the model '{lane.model}' cannot {_DOES[ability]}: {lane.lacks[ability]}; "
        "`GET /v1/models` tells what each model can do",
        param=_PARAMS.get(ability, "model"),
    )
