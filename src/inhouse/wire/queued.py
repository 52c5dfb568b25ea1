"""What goes through a queue in Redis: a job on its way to a worker, an error on its way back. Codecs without I/O."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from inhouse.errors import ApiError, EngineError
from inhouse.wire.call import Job
from inhouse.wire.chat import EngineChat
from inhouse.wire.completions import PATH as COMPLETIONS
from inhouse.wire.completions_shapes import EngineCompletion
from inhouse.wire.openai_chat import PATH as CHAT


class Order(msgspec.Struct, array_like=True):
    """A job, without the struct that its body was written from: a worker makes that anew where it has to."""

    path: bytes
    body: bytes
    streams: bool
    prompt_param: str
    answer_tokens_max: int | None
    deterministic: bool


class _Told(msgspec.Struct, omit_defaults=True):
    code: str
    message: str
    param: str | None = None
    retry_after_s: float | None = None
    more: dict[str, int] = {}
    """Whole numbers that the class keeps beside its message."""


_order = msgspec.msgpack.Decoder(Order)
_told = msgspec.json.Decoder(_Told)
_SOURCES: dict[bytes, msgspec.json.Decoder[Any]] = {
    CHAT: msgspec.json.Decoder(EngineChat),
    COMPLETIONS: msgspec.json.Decoder(EngineCompletion),
}
_MORE = ("prompt_tokens", "context_tokens")


def render_order(job: Job) -> bytes:
    return msgspec.msgpack.encode(
        Order(job.path, job.body, job.streams, job.prompt_param, job.answer_tokens_max, job.deterministic)
    )


def parse_order(data: bytes, *, whole: bool = False) -> Job:
    """The job; `whole`: with the struct that its body was written from. Raises EngineError for what is none."""
    try:
        order = _order.decode(data)
        decoder = _SOURCES.get(order.path) if whole else None
        source = None if decoder is None else decoder.decode(order.body)
    except msgspec.DecodeError:
        raise EngineError(
            "what came through the queue cannot be read; are gateway and worker of one version?"
        ) from None
    return Job(
        order.path,
        order.body,
        order.streams,
        order.prompt_param,
        order.answer_tokens_max,
        source,
        order.deterministic,
    )


def render_error(error: ApiError) -> bytes:
    more = {name: value for name in _MORE if isinstance(value := getattr(error, name, None), int)}
    return msgspec.json.encode(_Told(error.code, error.message, error.param, error.retry_after_s, more))


def parse_error(data: bytes) -> ApiError:
    """The error that a worker met, of its own class."""
    try:
        told = _told.decode(data)
    except msgspec.DecodeError:
        return EngineError("the worker failed, and what it said cannot be read")
    kind = _CLASSES.get(told.code, EngineError)
    error = kind.__new__(kind)
    ApiError.__init__(error, told.message, param=told.param, retry_after_s=told.retry_after_s)
    for name, value in told.more.items():
        setattr(error, name, value)
    return error


def _descendants(kind: type[ApiError]) -> Iterator[type[ApiError]]:
    yield kind
    for one in kind.__subclasses__():
        yield from _descendants(one)


_CLASSES = {kind.code: kind for kind in reversed(list(_descendants(ApiError)))}
"""By code; where several share one, the most general."""
