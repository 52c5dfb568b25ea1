"""An engine's refusal as an error of ours: the client's fault where the engine says so.

Engines write their errors in three shapes: OpenAI's `{"error": {"message": …}}` (llama.cpp, vLLM, Ollama), the same
without the object around it (SGLang, TensorRT-LLM), and `{"error": "…"}` (TGI). That a prompt is too long each says in
words of its own.
"""

from __future__ import annotations

import re

import msgspec

from inhouse.dispatch.lane import Lane
from inhouse.errors import ApiError, BadRequest, ContextTooLong, EngineError, ModelLoading, Unavailable
from inhouse.wire import sse
from inhouse.wire.call import Job

_MISCONFIGURED = (401, 403, 404, 405, 407, 408)
"""What an engine says to a gateway that asks in the wrong place or with the wrong key: no client can mend that."""
# llama.cpp: "input (612 tokens) is too large to process. increase the physical batch size (current batch size: 512)"
_ONE_PASS = re.compile(r"\((\d+) tokens\) is too large to process\D*(\d+)")
_TOO_LONG = tuple(
    re.compile(form)
    for form in (
        # vLLM, in this and in former versions
        r"maximum context length is (?P<context>\d+) tokens.*\((?P<prompt>\d+) in the (?:messages|prompt)",
        r"maximum context length is (?P<context>\d+) tokens\D+(?P<prompt>\d+) (?:input )?tokens",
        r"passed (?P<prompt>\d+) input tokens.*context length is only (?P<context>\d+)",
        # SGLang
        r"input \((?P<prompt>\d+) tokens\) is longer than the model's context length \((?P<context>\d+)",
        # TGI
        r"must be <= (?P<context>\d+)\. Given: (?P<prompt>\d+) `inputs` tokens",
        # TensorRT-LLM
        r"prompt length \((?P<prompt>\d+)\).*should not exceed \w+ \((?P<context>\d+)\)",
    )
)


class _Told(msgspec.Struct):
    message: str = ""
    n_prompt_tokens: int | None = None
    n_ctx: int | None = None


class _Body(msgspec.Struct):
    error: _Told | str | None = None
    message: str | None = None


def refusal(status: int, body: bytes, job: Job, lane: Lane) -> ApiError:
    """What to tell the client of an answer other than 200."""
    told = _read(body)
    if status in (429, 503):
        if status == 503 and lane.engine.llama and told is not None:
            return ModelLoading(f"the model '{lane.model}' is still loading; retry in 2 s", retry_after_s=2.0)
        full = Unavailable(f"the engines of '{lane.model}' have no room now; retry in 2 s", retry_after_s=2.0)
        full.from_engine = True
        return full
    if told is None:
        return EngineError(f"the engine of '{lane.model}' answered with status {status}")
    if too_long := _too_long(told, job):
        return too_long
    if status in _MISCONFIGURED and lane.body_start is not None:
        return EngineError(
            f"an engine of '{lane.model}' refused the gateway itself with status {status}: its `endpoints`, `api_key` "
            "or `upstream_model` in inhouse.yaml may be wrong"
        )
    if one_pass := _ONE_PASS.search(told.message):
        return BadRequest(
            f"the input has {one_pass[1]} tokens, one embedding takes {one_pass[2]}; shorten it, or give the model "
            f"`engine_args: [--ubatch-size, '{one_pass[1]}']` in inhouse.yaml",
            param=job.prompt_param,
        )
    if 400 <= status < 500 or status == 501:
        return BadRequest(told.message or f"the engine refused the request with status {status}")
    return EngineError(f"the engine of '{lane.model}' failed: {told.message or f'status {status}'}")


def _read(body: bytes) -> _Told | None:
    try:
        found = msgspec.json.decode(body, type=_Body)
    except sse.UNREADABLE:
        return None
    if isinstance(found.error, _Told):
        return found.error
    text = found.error if found.error is not None else found.message
    return None if text is None else _Told(text)


def _too_long(told: _Told, job: Job) -> ContextTooLong | None:
    if told.n_prompt_tokens is not None and told.n_ctx is not None:
        return ContextTooLong(told.n_prompt_tokens, told.n_ctx, param=job.prompt_param)
    for form in _TOO_LONG:
        if found := form.search(told.message):
            return ContextTooLong(int(found["prompt"]), int(found["context"]), param=job.prompt_param)
    return None
