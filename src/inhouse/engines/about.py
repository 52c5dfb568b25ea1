"""What a running engine says of itself once it is ready: how many requests at once, how long a context. Pure.

Each engine tells it in another place and shape (`Engine.reads`). None is "it does not say".
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from inhouse.engines.engine import Engine, Reading

BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class About:
    slots: int | None = None
    context_tokens: int | None = None


NOTHING = About()
PATHS: dict[Reading, bytes] = {"props": b"/props", "models": b"/v1/models", "info": b"/info", "ps": b"/api/ps"}


class _Settings(msgspec.Struct):
    n_ctx: int = 0


class _Props(msgspec.Struct):
    total_slots: int = 0
    default_generation_settings: _Settings = msgspec.field(default_factory=_Settings)


class _Served(msgspec.Struct):
    id: str = ""
    max_model_len: int | None = None


class _ServedList(msgspec.Struct):
    data: list[_Served] = []


class _Info(msgspec.Struct):
    max_concurrent_requests: int = 0
    max_total_tokens: int = 0


class _Loaded(msgspec.Struct):
    name: str = ""
    context_length: int = 0


class _LoadedList(msgspec.Struct):
    models: list[_Loaded] = []


def about(engine: Engine, body: bytes, model: str) -> About:
    """Read from the body of `PATHS[engine.reads]`; `model` is what the engine calls the model in question."""
    try:
        match engine.reads:
            case "props":
                props = msgspec.json.decode(body, type=_Props)
                return About(props.total_slots or None, props.default_generation_settings.n_ctx or None)
            case "models":
                served = msgspec.json.decode(body, type=_ServedList).data
                own = [one for one in served if one.id == model]
                return About(None, own[0].max_model_len if own else None)
            case "info":
                info = msgspec.json.decode(body, type=_Info)
                return About(info.max_concurrent_requests or None, info.max_total_tokens or None)
            case "ps":
                loaded = msgspec.json.decode(body, type=_LoadedList).models
                found = [one for one in loaded if one.name.removesuffix(":latest") == model]
                return About(None, (found[0].context_length or None) if found else None)
            case _:
                return NOTHING
    except msgspec.DecodeError:
        return NOTHING
