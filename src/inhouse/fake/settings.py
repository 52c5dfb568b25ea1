"""What a fake engine can be told, at its start by flags and at run time by `POST /fake/settings`.

One table: each field has a unit, a default and a sentence; the command line, the checks and the reference page follow.
Nothing here imports what is slow to import: the command line reads this table for its help.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields, replace
from typing import Any, Literal

Value = float | int | bool | str
FLAVOURS = ("llamacpp", "vllm", "vllm-old", "sglang", "tgi", "trtllm", "none")
Flavour = Literal["llamacpp", "vllm", "vllm-old", "sglang", "tgi", "trtllm", "none"]
SPOKEN = ("llamacpp", "vllm", "sglang", "tgi", "tensorrt-llm", "ollama")
"""The names of `dialects.DIALECTS`."""
_PART = 1.0
_ENDLESS = 1e12


def _of(default: Value, about: str, *, least: float = 0, most: float = _ENDLESS, among: tuple[str, ...] = ()) -> Any:
    return field(default=default, metadata={"about": about, "least": least, "most": most, "among": among})


class WrongSetting(ValueError):
    """A name that does not exist, or a value out of range; the text is for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the fake engine behaves. Rates are parts of all requests, 0 to 1."""

    # what it is
    slots: int = _of(4, "Requests that run at once (llama-server's --parallel).", least=1, most=65536)
    context_tokens: int = _of(4096, "Tokens of one request, prompt and answer together.", least=16)
    queue_max: int = _of(100_000, "Requests that wait inside the engine; one more is refused.")
    full_status: int = _of(503, "Status of a request that finds that queue full.", least=400, most=599)
    speaks: str = _of("llamacpp", "Whose paths, errors and streams it has.", among=SPOKEN)
    metrics_as: str = _of("same", "Whose names /metrics uses; `same` as `speaks`.", among=(*FLAVOURS, "same"))
    embedding_dim: int = _of(64, "Numbers in one embedding.", least=1, most=8192)
    # how long it takes
    load_s: float = _of(0.0, "Seconds after its start during which /health says 503.")
    ttft_s: float = _of(0.0, "Seconds before the prefill of each request: the part that no prompt makes longer.")
    prefill_tokens_per_s: float = _of(0.0, "Prompt tokens per second, shared by all prefills; 0: no time at all.")
    prefill_share: float = _of(
        0.0, "Part of its time that prefill takes away from decode while there is any.", most=_PART
    )
    tokens_per_s: float = _of(0.0, "Tokens per second of a stream that is alone; 0: no time at all.")
    tokens_per_s_total: float = _of(0.0, "What all streams together come to at most, in a large batch; 0: no bound.")
    tick_s: float = _of(0.005, "Tokens that fall due within so many seconds are sent together.", least=0.0005, most=1)
    # what it says
    answer_tokens: int = _of(32, "Tokens after which an answer ends by itself.", least=1)
    answer_spread: float = _of(0.0, "Part by which answers are longer or shorter, by their prompt.", most=_PART)
    seed: int = _of(0, "Another seed, other texts; a request's own seed adds to it.")
    # its prefix cache
    cache: str = _of("slot", "Where a prefix is found: in slots, among all, nowhere.", among=("slot", "shared", "none"))
    cache_tokens: int = _of(1_000_000, "Tokens that a shared cache keeps; the oldest go first.")
    cache_block: int = _of(16, "Tokens of a block; only whole blocks are found again.", least=1, most=4096)
    # how it fails
    fault_seed: int = _of(0, "Seed of the draws below: the same seed, the same failures in the same order.")
    error_rate: float = _of(0.0, "Requests that are answered with an error.", most=_PART)
    error_status: int = _of(500, "Status of that error.", least=400, most=599)
    refuse_rate: float = _of(0.0, "Connections that are reset at once; at 1 nothing listens at all.", most=_PART)
    half_open_rate: float = _of(0.0, "Requests that are taken and never answered.", most=_PART)
    garbage_rate: float = _of(0.0, "Requests that are answered with what is not HTTP.", most=_PART)
    truncate_rate: float = _of(0.0, "Answers whose connection ends in the middle.", most=_PART)
    drip_rate: float = _of(0.0, "Answers that come slowly, a token each `drip_s`.", most=_PART)
    drip_s: float = _of(1.0, "Seconds between the tokens of a slow answer.", least=0.001)
    stall_rate: float = _of(0.0, "Answers that stop after `stall_after_tokens`, without an end.", most=_PART)
    stall_after_tokens: int = _of(8, "Tokens before an answer stalls.")
    deaf: bool = _of(False, "A hang-up is not noticed: the answer is made to its end, and holds its slot.")
    unhealthy: bool = _of(False, "/health says 500, while all else works.")
    health_hangs: bool = _of(False, "/health does not answer.")
    crash_after_tokens: int = _of(0, "The process ends once it has made so many tokens in all; 0: never.")
    crash_after_s: float = _of(0.0, "The process ends after so many seconds; 0: never.")
    crash_status: int = _of(1, "Exit status of that end; 137 is a kill for memory, by signal 9.", most=255)

    def __post_init__(self) -> None:
        for one in fields(self):
            object.__setattr__(self, one.name, _checked(one, getattr(self, one.name)))


def changed(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """`settings` with some of them different. Raises WrongSetting."""
    known = [one.name for one in fields(Settings)]
    for name in changes:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise WrongSetting(f"there is no setting {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    return replace(settings, **changes)


def shown(settings: Settings) -> dict[str, Value]:
    """All of them by name."""
    return asdict(settings)


def _checked(one: Field[Any], value: Any) -> Any:
    kind: type = type(one.default)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise WrongSetting(f"{one.name} must be {_WORDS[kind]}, not {value!r}")
    among = one.metadata["among"]
    if among and value not in among:
        raise WrongSetting(f"{one.name} must be one of {', '.join(among)}, not {value!r}")
    least, most = one.metadata["least"], one.metadata["most"]
    if kind in (int, float) and not least <= value <= most:
        raise WrongSetting(f"{one.name} must be from {least:g} to {most:g}, not {value!r}")
    return value


_WORDS: dict[type, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
