"""An engine's answer that is shown more than once: watched while it is made, marked and renamed for those who reuse it.

What is kept of an answer are the engine's own bytes, so that it can be shown through any view. Whoever reuses it gets
an id and a time of its own, and a usage that says where the prompt came from: all of its tokens as cached.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from inhouse.core import Usage
from inhouse.errors import ApiError, EngineError
from inhouse.wire import sse
from inhouse.wire.chat import EngineUsage
from inhouse.wire.views import raise_failure

_USAGE = b'"usage":'


class _Last(Struct):
    usage: EngineUsage | None = None
    error: Raw | UnsetType = UNSET


class _First(Struct):
    id: str = ""
    created: int = 0


_last = msgspec.json.Decoder(_Last)
_first = msgspec.json.Decoder(_First)
_usage = msgspec.json.Decoder(EngineUsage | None)
_fields = msgspec.json.Decoder(dict[str, Raw])
_encode = msgspec.json.Encoder().encode


class Recorder:
    """A view that shows nothing itself: it hands the events of one job on and notes usage, faults and the end.

    Like `RelayView` it parses only events that can be the last ones of a stream.
    """

    __slots__ = ("_ended", "_keep", "_whole", "events_seen", "usage")
    streams = True

    def __init__(self, keep: Callable[[bytes], None], *, whole: bool = False) -> None:
        """`whole`: the answer is one JSON document."""
        self._keep = keep
        self._whole = whole
        self._ended = False
        self.usage = Usage()
        self.events_seen = 0

    def tokens_of(self, job: int) -> int:
        return self.usage.total_tokens or self.events_seen

    def events(self, job: int, data: bytes) -> bytes:
        if self._whole:
            self._look(data)
            self._ended = True
        else:
            self.events_seen += data.count(b"\n\n")
            if _USAGE in data or b'"error":' in data or b"[DONE]" in data:
                for payload in sse.payloads(data):
                    self._look(payload)
        self._keep(data)
        return b""

    def _look(self, payload: bytes) -> None:
        if payload == b"[DONE]":
            self._ended = True
            return
        try:
            last = _last.decode(payload)
        except sse.UNREADABLE:
            raise_failure(payload)
            return
        if last.error is not UNSET and last.error != b"null":
            raise_failure(payload)
        if last.usage is not None:
            self.usage = last.usage.noun()

    def finished(self, job: int) -> None:
        if not self._ended:
            raise EngineError("the engine broke off in the middle of its answer; the request can be sent again")

    def end(self) -> bytes:
        return b""

    def fail(self, error: ApiError) -> bytes:
        return b""


def marked(data: bytes, *, whole: bool = False) -> bytes:
    """Events (or one document) whose usage, if it is in them, says that the whole prompt came from a cache."""
    if _USAGE not in data:
        return data
    if whole:
        return _marked_object(data)
    payloads = [_marked_object(payload) if _USAGE in payload else payload for payload in sse.payloads(data)]
    return b"".join([b"data: " + payload + b"\n\n" for payload in payloads])


def _marked_object(payload: bytes) -> bytes:
    try:
        fields = _fields.decode(payload)
        usage = _usage.decode(fields["usage"])
        if usage is None:
            return payload
        told = _fields.decode(fields["usage"])
    except (*sse.UNREADABLE, KeyError):
        return payload
    told["prompt_tokens_details"] = Raw(b'{"cached_tokens":%d}' % usage.prompt_tokens)
    fields["usage"] = Raw(_encode(told))
    return _encode(fields)


class Renaming:
    """Puts an id and a time of creation of its own into the events of a kept answer.

    The fields are found as bytes: inside of a JSON text their quotes would be escaped, so no content is touched.
    """

    __slots__ = ("_created", "_id", "_pairs")

    def __init__(self, id: str, created: int) -> None:
        self._id = id
        self._created = created
        self._pairs: list[tuple[bytes, bytes]] | None = None

    def events(self, data: bytes) -> bytes:
        if self._pairs is None:
            self._pairs = self._find(data)
        for old, new in self._pairs:
            data = data.replace(old, new)
        return data

    def _find(self, data: bytes) -> list[tuple[bytes, bytes]]:
        payload = next(sse.payloads(data), b"")
        try:
            first = _first.decode(payload)
        except sse.UNREADABLE:
            return []
        pairs = []
        for space in (b"", b" "):
            old = b'"id":%b"%b"' % (space, first.id.encode())
            if first.id and old in payload:
                pairs.append((old, b'"id":%b"%b"' % (space, self._id.encode())))
            old = b'"created":%b%d' % (space, first.created)
            if first.created and old in payload:
                pairs.append((old, b'"created":%b%d' % (space, self._created)))
        return pairs
