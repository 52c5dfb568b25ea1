"""Frames of the WebSockets: OpenAI's Responses frames, and the same manner for chat completions. Pure.

A client sends `response.create` with the fields of a request beside its type, and hears the events of its answer, each
as one frame. `stream_id` tells several at once apart: what a client gives comes back in every event. Source: the frames
of OpenAI's own client, `ResponsesClientEvent` and `ResponsesServerEvent` (3.52). Of our own are `response.cancel`, and
for chat `chat.create`, `chat.cancel` and `done`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec
from msgspec import Raw, Struct

from inhouse.errors import ApiError, BadRequest

STREAM_ID_MAX = 128
_Kind = Literal["create", "cancel"]


@dataclass(frozen=True, slots=True)
class Frame:
    """What a client wants. `body` is that of a request over HTTP."""

    kind: _Kind
    stream_id: str | None
    body: bytes = b""


class _Told(Struct, omit_defaults=True):
    type: str
    status: int
    error: dict[str, str | None]
    stream_id: str | None = None


_KINDS: dict[str, _Kind] = {
    "response.create": "create",
    "response.cancel": "cancel",
    "chat.create": "create",
    "chat.cancel": "cancel",
}
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.encode


def parse(text: str | bytes, first: str) -> Frame:
    """`first` is the API's word, `response` or `chat`. Raises BadRequest."""
    try:
        fields = _fields(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadRequest("a frame is a JSON object") from None
    try:
        word = _text(fields.pop("type", Raw(b'""')))
        stream_id = None if "stream_id" not in fields else _text(fields.pop("stream_id"))
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadRequest("`type` and `stream_id` of a frame are texts") from None
    kind = _KINDS.get(word) if word.startswith(f"{first}.") else None
    if kind is None:
        raise BadRequest(f"the `type` of a frame is {first}.create or {first}.cancel", param="type")
    if stream_id is not None and not 0 < len(stream_id) <= STREAM_ID_MAX:
        raise BadRequest(f"`stream_id` has 1 to {STREAM_ID_MAX} characters", param="stream_id")
    if kind == "cancel":
        return Frame(kind, stream_id)
    fields["stream"] = Raw(b"true")
    return Frame(kind, stream_id, _encode(fields))


def event(payload: bytes, stream_id: str | None) -> str:
    """An event of the answer as a frame."""
    if payload == b"[DONE]":
        payload = b'{"type":"done"}'
    elif payload.startswith(b'{"error":'):  # how a chat stream ends that broke off
        payload = b'{"type":"error",' + payload[1:]
    if stream_id is not None and payload.endswith(b"}"):
        payload = payload[:-1] + b',"stream_id":' + _encode(stream_id) + b"}"
    return payload.decode("utf-8", "replace")


def error(found: ApiError, stream_id: str | None) -> str:
    """A refusal as a frame."""
    told = {"code": found.code, "message": found.message, "param": getattr(found, "param", None)}
    return _encode(_Told("error", found.status, told, stream_id)).decode()


def waiting(position: int | None, wait_s: float | None, stream_id: str | None) -> str:
    """Where a request stands in the queue, told now and then."""
    told = {"type": "queued", "position": position, "wait_s": None if wait_s is None else round(wait_s, 1)}
    return _encode(told | ({} if stream_id is None else {"stream_id": stream_id})).decode()
