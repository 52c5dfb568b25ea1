"""What a client has been shown of one job's answer, kept so that another engine can go on from there. Pure.

Kept are references to the engine's own events, which costs a stream next to nothing; they are read when there is
a lot of them, or when somebody has to know. What is remembered of those that were read is their text.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from inhouse.wire import sse

_UNREAD_BYTES_MAX = 8 * 1024


class _Delta(Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None  # vLLM's newer name for it
    tool_calls: list[Raw] | None = None


class _Choice(Struct):
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Event(Struct):
    choices: list[_Choice] = []
    id: str = ""
    created: int = 0
    model: str = ""
    usage: Raw | UnsetType = UNSET


_event = msgspec.json.Decoder(_Event)
_events = msgspec.json.Decoder(list[_Event])


def _events_in(shown: bytes) -> list[_Event] | None:
    """Events of one line each, which is what engines send, read in one go; None where there is anything else."""
    if not (shown.startswith(b"data: {") and shown.endswith(b"}\n\n")):
        return None
    lines = shown[6:-2].replace(b"}\n\ndata: {", b"},{")
    if b"\n" in lines:  # there is none within JSON that is written on one line
        return None
    try:
        return _events.decode(b"[%b]" % lines)
    except msgspec.DecodeError:
        return None


class Sent:
    """See the module. `keep` whole events, then `read` before anything else is asked.

    `pieces` are the texts of the events that had one; each is about one token. `overflowed`: there was more than
    `bytes_max` of it, and it was let go of.
    """

    __slots__ = (
        "_bytes",
        "_bytes_max",
        "_text_bytes",
        "_unread",
        "began",
        "called",
        "counted",
        "created",
        "done",
        "finish_reason",
        "id",
        "model",
        "overflowed",
        "pieces",
        "reasoned",
    )

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._text_bytes = 0
        self._unread: list[bytes] = []
        self.began = False
        """Something was shown."""
        self.pieces: list[str] = []
        self.overflowed = False
        self.reasoned = False
        """It has shown what the model thinks, apart from its answer."""
        self.called = False
        """It has begun to call a tool."""
        self.finish_reason: str | None = None
        self.counted = False
        """Its usage was told."""
        self.done = False
        """The stream has come to its end."""
        self.id = ""
        self.created = 0
        self.model = ""

    def keep(self, events: bytes) -> None:
        self.began = True
        self._unread.append(events)
        self._bytes += len(events)
        if self._bytes > _UNREAD_BYTES_MAX:
            self.read()

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def read(self) -> None:
        """Takes in what was kept since."""
        unread, self._unread, self._bytes = self._unread, [], 0
        if self.overflowed:
            return
        shown = b"".join(unread)
        events = _events_in(shown)
        if events is None:
            for payload in sse.payloads(shown):
                self._read(payload)
        else:
            for event in events:
                self._take_in(event)
        if self._text_bytes > self._bytes_max:
            self.overflowed = True
            self.pieces = []

    def _read(self, payload: bytes) -> None:
        if payload == b"[DONE]":
            self.done = True
            return
        try:
            event = _event.decode(payload)
        except msgspec.DecodeError:
            return  # no chunk: the view has passed over it as well
        self._take_in(event)

    def _take_in(self, event: _Event) -> None:
        if not self.id:
            self.id, self.created, self.model = event.id, event.created, event.model
        if event.usage is not UNSET and event.usage != b"null":
            self.counted = True
        for choice in event.choices:
            self._take(choice)

    def _take(self, choice: _Choice) -> None:
        delta = choice.delta
        text = choice.text if delta is None else delta.content
        if text:
            self.pieces.append(text)
            self._text_bytes += len(text)
        if delta is not None:
            self.reasoned = self.reasoned or bool(delta.reasoning_content or delta.reasoning)
            self.called = self.called or bool(delta.tool_calls)
        self.finish_reason = choice.finish_reason or self.finish_reason
